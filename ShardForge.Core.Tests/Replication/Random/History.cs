using System.Globalization;

namespace ShardForge.Tests.Replication.Random;

/// <summary>A key of a shard.</summary>
internal readonly record struct ShardKey(int Shard, string Key)
{
    public override string ToString() => $"{Shard}/{Key}";
}

/// <summary>How an operation ended for its caller.</summary>
internal enum OperationOutcome
{
    Unknown,
    Done,
    NotDone,
}

/// <summary>What a client did and saw. Its number is the id that its versions carry.</summary>
internal sealed class Operation(int number, string what)
{
    public int Number { get; } = number;

    public string What { get; set; } = what;

    /// <summary>In a scenario: what it is called there, and all that is shown of it.</summary>
    public string? Name { get; init; }

    /// <summary>Moments on one clock over all clients: of the call, of the commit's call (of a snapshot transaction), of the answer.</summary>
    public long Begin { get; set; }

    public long CommitBegin { get; set; }

    public long End { get; set; }

    public OperationOutcome Outcome { get; set; }

    public List<ShardKey> Writes { get; } = [];

    /// <summary>Keys with the timestamp of the version that was seen; zero: none.</summary>
    public List<(ShardKey Key, ulong Version)> Reads { get; } = [];

    /// <summary>Its reads were as of this timestamp, so they must be what the final state has there.</summary>
    public ulong? ReadAt { get; set; }

    /// <summary>A compare-and-set that wrote: the version before its own must hold this (null: be absent).</summary>
    public (bool Has, string? Value) Expected { get; set; }

    /// <summary>A transaction under snapshot isolation that writes reads at one moment and writes at another.</summary>
    public bool HasTwoPoints { get; set; }

    public override string ToString() => Name ?? string.Create(CultureInfo.InvariantCulture, $"#{Number} {What} [{Begin}-{End}] {Outcome}");
}

/// <summary>A version in the final state of a shard.</summary>
internal readonly record struct FinalVersion(ulong Timestamp, int Operation, string? Value);
