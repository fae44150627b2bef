using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>What a merge has to respect.</summary>
internal sealed record MergeTask
{
    /// <summary>Sequence numbers that readers hold, ascending.</summary>
    public required ulong[] Snapshots { get; init; }

    /// <summary>Places that are older than the output, each of disjoint tables in key order: for finding out whether a delete still hides something.</summary>
    public TableFile[][] Deeper { get; init; } = [];

    /// <summary>False for flushes: everything else lies deeper.</summary>
    public bool DropsDeletes { get; init; }

    /// <summary>Whether what nothing lies under gets sequence 0. Not in level 0, whose tables are ordered by their sequence numbers.</summary>
    public bool ZeroesSequences { get; init; }

    /// <summary>Where tables are cut.</summary>
    public required long TableBytes { get; init; }

    /// <summary>See <see cref="KeyGroup"/>.</summary>
    public required int VersionSuffixBytes { get; init; }

    /// <summary>The owner's; null: none.</summary>
    public ICompactionFilter? Filter { get; init; }

    /// <summary>Called now and then, on the merge's thread: lets what is more urgent run.</summary>
    public Action? Yield { get; init; }

    /// <summary>First key of this part of a merge, between two key groups; null: from the beginning.</summary>
    public byte[]? Start { get; init; }

    /// <summary>First key behind this part, between two key groups; null: to the end.</summary>
    public byte[]? End { get; init; }
}
