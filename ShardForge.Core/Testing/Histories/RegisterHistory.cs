using System.Collections.Concurrent;
using System.Globalization;
using System.Text;

namespace ShardForge.Testing;

/// <summary>What clients did to single keys and what they were told, to be checked for linearizability (Herlihy and Wing 1990).</summary>
/// <remarks>
/// Each key is checked on its own, since linearizability is a local property. The search is that of Wing and Gong (1993), with the visited
/// configurations remembered as by Lowe (2017): a configuration is the set of operations put in order so far and the value they left.
/// An operation of unknown outcome may take effect at any time after its start, or never.
/// </remarks>
public sealed class RegisterHistory
{
    private readonly ConcurrentQueue<Operation> _operations = new();
    private long _clock;

    private enum Kind
    {
        Get,
        Put,
        CompareAndSet,
    }

    /// <summary>Operations recorded so far.</summary>
    public int Count => _operations.Count;

    /// <summary>A moment on the history's clock: take it before an operation begins.</summary>
    public long Now() => Interlocked.Increment(ref _clock);

    /// <summary>A read that was answered.</summary>
    /// <param name="key">The key.</param>
    /// <param name="seen">What it held; null: it was absent.</param>
    /// <param name="start">From <see cref="Now"/>, before the call.</param>
    public void Get(string key, string? seen, long start) => Add(new(key, Kind.Get, null, seen, start, Now(), IsKnown: true, Succeeded: true));

    /// <summary>A write; a null value deletes.</summary>
    /// <param name="key">The key.</param>
    /// <param name="value">What was written.</param>
    /// <param name="start">From <see cref="Now"/>, before the call.</param>
    /// <param name="isKnown">False: its outcome is not known, so it may take effect at any time after its start, or never.</param>
    public void Put(string key, string? value, long start, bool isKnown) =>
        Add(new(key, Kind.Put, null, value, start, isKnown ? Now() : long.MaxValue, isKnown, Succeeded: true));

    /// <summary>A compare-and-set.</summary>
    /// <param name="key">The key.</param>
    /// <param name="expected">What it expected; null: absent.</param>
    /// <param name="value">What it was to write; null: a delete.</param>
    /// <param name="start">From <see cref="Now"/>, before the call.</param>
    /// <param name="succeeded">Whether it wrote; null: that is not known.</param>
    public void CompareAndSet(string key, string? expected, string? value, long start, bool? succeeded) =>
        Add(new(key, Kind.CompareAndSet, expected, value, start, succeeded is null ? long.MaxValue : Now(), succeeded is not null, succeeded ?? true));

    /// <summary>Null: every key's history is linearizable; else what is not.</summary>
    public string? FindViolation()
    {
        foreach (IGrouping<string, Operation> key in _operations.GroupBy(static operation => operation.Key, StringComparer.Ordinal))
        {
            Operation[] operations = [.. key.OrderBy(static operation => operation.Start)];
            if (!IsLinearizable(operations))
                return $"key {key.Key}:\n{string.Join('\n', operations.Select(static operation => operation.ToString()))}";
        }

        return null;
    }

    /// <summary>Throws where a key's history is not linearizable.</summary>
    /// <exception cref="HistoryException">It names the key and its operations.</exception>
    public void AssertLinearizable()
    {
        if (FindViolation() is { } violation)
            throw new HistoryException($"Not linearizable: {violation}");
    }

    private static bool IsLinearizable(Operation[] operations)
    {
        HashSet<string> visited = new(StringComparer.Ordinal);
        Stack<(bool[] Done, int Known, string? Value)> open = new();
        int known = operations.Count(static operation => operation.IsKnown);
        open.Push((new bool[operations.Length], 0, null));
        while (open.TryPop(out (bool[] Done, int Known, string? Value) state))
        {
            if (state.Known == known)
                return true;    // what is left has an unknown outcome, and may never have happened
            // Only an operation that started before the first end among those left can be next.
            long firstEnd = long.MaxValue;
            for (int i = 0; i < operations.Length; i++)
            {
                if (!state.Done[i])
                    firstEnd = Math.Min(firstEnd, operations[i].End);
            }

            for (int i = 0; i < operations.Length && operations[i].Start < firstEnd; i++)
            {
                if (state.Done[i] || !operations[i].TryApply(state.Value, out string? after))
                    continue;
                bool[] done = (bool[])state.Done.Clone();
                done[i] = true;
                if (visited.Add(NameOf(done, after)))
                    open.Push((done, state.Known + (operations[i].IsKnown ? 1 : 0), after));
            }
        }

        return false;
    }

    private static string NameOf(bool[] done, string? value)
    {
        // The done ones are a prefix and a few behind it.
        int prefix = Array.IndexOf(done, false);
        StringBuilder name = new();
        name.Append(CultureInfo.InvariantCulture, $"{prefix}:");
        for (int i = Math.Max(prefix, 0); i < done.Length; i++)
        {
            if (done[i])
                name.Append(CultureInfo.InvariantCulture, $"{i},");
        }

        return name.Append('=').Append(value ?? "(absent)").ToString();
    }

    private void Add(Operation operation) => _operations.Enqueue(operation);

    private sealed record Operation(string Key, Kind Kind, string? Expected, string? Value, long Start, long End, bool IsKnown, bool Succeeded)
    {
        public bool TryApply(string? present, out string? after)
        {
            after = present;
            switch (Kind)
            {
                case Kind.Get:
                    return string.Equals(present, Value, StringComparison.Ordinal);
                case Kind.Put:
                    after = Value;
                    return true;
                default:
                    bool matches = string.Equals(present, Expected, StringComparison.Ordinal);
                    // Of unknown outcome: it may have failed as well, and then changed nothing, which "never happened" covers.
                    if (matches != Succeeded)
                        return false;
                    if (matches)
                        after = Value;
                    return true;
            }
        }

        public override string ToString() => string.Create(CultureInfo.InvariantCulture,
            $"  [{Start},{(End == long.MaxValue ? "?" : End)}] {Kind} {(Kind == Kind.CompareAndSet ? $"{Expected ?? "(absent)"} -> " : "")}{Value ?? "(absent)"} {(IsKnown ? Succeeded ? "" : "no" : "unknown")}");
    }
}
