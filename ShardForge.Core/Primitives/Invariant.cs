using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace ShardForge;

/// <summary>What must hold, whatever comes from outside. A broken one is a bug of ours, never bad input.</summary>
/// <remarks><see cref="Check"/> is compiled away unless the build has SHARDFORGE_INVARIANTS (Debug, tests, CI).</remarks>
internal static class Invariant
{
    /// <summary>Whether this build checks; for checks that walk a whole structure.</summary>
#if SHARDFORGE_INVARIANTS
    public const bool Enabled = true;
#else
    public const bool Enabled = false;
#endif

    [Conditional("SHARDFORGE_INVARIANTS")]
    public static void Check([DoesNotReturnIf(false)] bool holds, [CallerArgumentExpression(nameof(holds))] string condition = "",
        [CallerFilePath] string file = "", [CallerLineNumber] int line = 0)
    {
        if (!holds)
            Fail(condition, file, line);
    }

    /// <summary>Always on: cheap to see and fatal to miss. Whoever catches it poisons the replica, never the process.</summary>
    public static void Require([DoesNotReturnIf(false)] bool holds, [CallerArgumentExpression(nameof(holds))] string condition = "",
        [CallerFilePath] string file = "", [CallerLineNumber] int line = 0)
    {
        if (!holds)
            Fail(condition, file, line);
    }

    /// <summary>Overwrites memory that must not be read any more.</summary>
    [Conditional("SHARDFORGE_INVARIANTS")]
    public static void Poison(Span<byte> bytes) => bytes.Fill(0xDB);

    [DoesNotReturn]
    private static void Fail(string condition, string file, int line) =>
        throw new InvariantViolatedException($"Invariant does not hold: {condition} ({Path.GetFileName(file)}:{line}).");
}

/// <summary>A bug of ours was noticed. Poisons its owner; never ends the process.</summary>
internal sealed class InvariantViolatedException(string message) : Exception(message);
