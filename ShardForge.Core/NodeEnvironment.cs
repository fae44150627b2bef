using ShardForge.Common;
using ShardForge.Network;

namespace ShardForge;

/// <summary>The seams of a node that a user does not set: files, links, randomness. A test puts its own in.</summary>
internal sealed record NodeEnvironment
{
    public static NodeEnvironment Default { get; } = new();

    /// <summary>Null: the real files where there is a data directory, else files in memory.</summary>
    public IFileSystem? FileSystem { get; init; }

    /// <summary>Null: TCP.</summary>
    public ITransport? Transport { get; init; }

    /// <summary>For all randomness of the node; null: drawn anew at each open.</summary>
    public int? Seed { get; init; }

    /// <summary>
    /// Shortest time without a leader after which a replica stands for election; the longest is twice that. Leases are judged by it (R04), so it must be the
    /// same on all nodes of a cluster: that is why it is no setting. The default replaces a leader well within a second.
    /// </summary>
    public TimeSpan ElectionTimeout { get; init; } = TimeSpan.FromMilliseconds(300);

    /// <summary>Added to what replicas wait for their leader or an answer, because the links are known to be slow; see <see cref="NodeRuntime.TakeElectionSlack"/>.</summary>
    public Func<TimeSpan>? ElectionSlack { get; init; }

    /// <summary>Size of a log segment, in bytes; null: the default.</summary>
    public int? LogSegmentBytes { get; init; }

    /// <summary>Room that the data directory keeps for a full disk, in bytes; 0: none.</summary>
    public long DiskReserveBytes { get; init; } = 32 * 1024 * 1024;

    /// <summary>A link on which nothing came for so long is torn down; null: the default.</summary>
    public TimeSpan? SilenceAlarm { get; init; }
}
