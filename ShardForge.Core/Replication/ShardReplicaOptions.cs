using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Replication;

/// <summary>What a node gives to a replica that it opens.</summary>
internal sealed record ShardReplicaOptions
{
    public required ShardId Shard { get; init; }

    public required ReplicaId Replica { get; init; }

    /// <summary>For threads, log lines and messages.</summary>
    public string NodeId { get; init; } = "node";

    /// <summary>The replica's own directory (<c>shards/&lt;replica&gt;</c>), in which each generation has one; null: the engine lives in memory, and snapshots are not to be had.</summary>
    public string? Directory { get; init; }

    /// <summary>The generation that counts, from the node log (R33). The others are removed.</summary>
    public long Generation { get; init; } = 1;

    public required IStorageEngineFactory StorageEngine { get; init; }

    /// <summary>The node's budgets; null: the engine makes its own.</summary>
    public StorageResources? Resources { get; init; }

    public IFileSystem FileSystem { get; init; } = PhysicalFileSystem.Instance;

    public PartitionRule PartitionRule { get; init; } = PartitionRule.WholeKey;

    public SlotRange Slots { get; init; } = SlotRange.All;

    public Epoch Epoch { get; init; }

    public required ITimestampSource Timestamps { get; init; }

    public Limits Limits { get; init; } = Limits.Default;

    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;

    public ILoggerFactory LoggerFactory { get; init; } = NullLoggerFactory.Instance;

    /// <summary>For how long a request's traces are kept, so that its retry finds them (R18).</summary>
    public TimeSpan Horizon { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>R19: an undecided transaction whose owner was not heard of for so long is resolved by whoever meets it.</summary>
    public TimeSpan LockLife { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>How long a request that meets a lock waits here for it to go, before its sender is told to ask the lock's primary.</summary>
    public TimeSpan LockWait { get; init; } = TimeSpan.FromMilliseconds(20);

    /// <summary>How far behind the oracle the leader closes timestamps (R13): short enough for stale reads to be useful, long enough that writes are rarely pushed up by it.</summary>
    public TimeSpan ClosedLag { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>Entries that are proposed and not applied; more commands wait and share the next one. Few keep entries large under load, more than one keeps the disk busy.</summary>
    public int EntriesInFlightMax { get; init; } = 4;

    /// <summary>Where coalescing of commands into one entry ends; a single command may be larger.</summary>
    public int EntryBytesTarget { get; init; } = 1024 * 1024;

    /// <summary>Told each time that apply met a full disk.</summary>
    public Action? DiskIsFull { get; init; }

    public ReplicationRules Rules { get; init; } = ReplicationRules.All;

    /// <summary>For deterministic tests: whoever completes a wait runs what follows it.</summary>
    public bool RunContinuationsInline { get; init; }
}
