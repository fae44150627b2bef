using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using ShardForge.Common;

namespace ShardForge.Consensus;

/// <summary>Settings of all groups of a node. The election timeouts must be the same on all nodes: leases are judged by them (R04).</summary>
internal sealed record RaftNodeOptions
{
    /// <summary>Shortest time without a leader after which a replica stands for election.</summary>
    public TimeSpan ElectionTimeoutLower { get; init; } = TimeSpan.FromMilliseconds(300);

    /// <summary>Longest; at least twice the lower one, or replicas meet in elections.</summary>
    public TimeSpan ElectionTimeoutUpper { get; init; } = TimeSpan.FromMilliseconds(600);

    /// <summary>Time between two heartbeats, as a part of <see cref="ElectionTimeoutLower"/>.</summary>
    public double HeartbeatFraction { get; init; } = 0.3;

    /// <summary>Payload of one append; an entry that is larger travels alone.</summary>
    public long AppendBytesMax { get; init; } = 1024 * 1024;

    /// <summary>Payload of the entries that one <see cref="IRaftStateMachine.ApplyAsync"/> gets; an entry that is larger comes alone.</summary>
    public long ApplyBytesMax { get; init; } = 4 * 1024 * 1024;

    /// <summary>How much log is kept for followers that are behind, beyond what the state machine has made durable.</summary>
    public long LogTailBytesMax { get; init; } = 16 * 1024 * 1024;

    /// <summary>Bytes of one snapshot chunk; each waits for its answer.</summary>
    public int SnapshotChunkBytes { get; init; } = 256 * 1024;

    /// <summary>Longest time for one chunk, or for flushing and installing a snapshot at the follower.</summary>
    public TimeSpan SnapshotProgressTimeout { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>How often the node looks for replicas that stopped without saying so.</summary>
    public TimeSpan HealthInterval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Seeds the election timeouts that are drawn here.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>Where snapshots for followers are written before they travel; emptied by whoever opens the node.</summary>
    public required string TemporaryDirectory { get; init; }

    public required IFileSystem FileSystem { get; init; }

    /// <summary>Whether this node's disk has room for what takes some (R34). Called often, from any thread.</summary>
    public Func<bool> HasRoom { get; init; } = static () => true;

    public ILogger Logger { get; init; } = NullLogger.Instance;

    /// <summary>How long a lease lasts from the moment the heartbeat left (R04).</summary>
    internal TimeSpan LeaseDuration => ElectionTimeoutLower / 1.25;

    internal void Validate()
    {
        if (ElectionTimeoutLower < TimeSpan.FromMilliseconds(10) || ElectionTimeoutUpper > TimeSpan.FromMinutes(10))
            throw new ConfigurationException("ElectionTimeout", $"Election timeouts of {ElectionTimeoutLower} to {ElectionTimeoutUpper}; allowed are 10 ms to 10 minutes.");
        if (ElectionTimeoutUpper < ElectionTimeoutLower * 1.5)
            throw new ConfigurationException("ElectionTimeout", $"Election timeouts of {ElectionTimeoutLower} to {ElectionTimeoutUpper}: the upper one must be at least 1.5 times the lower.");
        if (HeartbeatFraction is <= 0 or > 0.5)
            throw new ConfigurationException("HeartbeatFraction", $"A heartbeat fraction of {HeartbeatFraction}; allowed is above 0 up to 0.5.");
    }
}

/// <summary>Settings of one replica, given when it is opened.</summary>
internal sealed record RaftGroupOptions
{
    /// <summary>
    /// This replica never ran before (formation, split child): it need not keep still for a lease (R05). The first time a replica of the
    /// group is opened after it was created, and never again.
    /// </summary>
    public bool IsNew { get; init; }

    /// <summary>
    /// Together with <see cref="IsNew"/>: stand for election at once, so that leaders are spread over the nodes at formation. For one replica
    /// of the group: the others, where new, wait two upper election timeouts longer than usual for it.
    /// </summary>
    public bool IsPreferredFirstLeader { get; init; }
}
