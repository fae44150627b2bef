using System.Net;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using ShardForge.Common;

namespace ShardForge.Metadata;

/// <summary>What a <see cref="MetadataService"/> is started with.</summary>
internal sealed record MetadataOptions
{
    public required string NodeId { get; init; }

    public required string ClusterName { get; init; }

    /// <summary>Random id of the data directory (R38), durable before the service is started.</summary>
    public required Guid InstanceId { get; init; }

    /// <summary>How often the directory was opened, this run included (R38).</summary>
    public required ulong OpenCounter { get; init; }

    /// <summary>The cluster that the node's identity names; empty: none yet.</summary>
    public Guid KnownClusterId { get; init; }

    /// <summary>Initial members with their addresses, this node included; empty: the node is alone, or joins.</summary>
    public IReadOnlyDictionary<string, EndPoint> Members { get; init; } = new Dictionary<string, EndPoint>(StringComparer.Ordinal);

    /// <summary>Addresses of running members: an empty node joins their cluster; then <see cref="Members"/> is empty.</summary>
    public IReadOnlyList<EndPoint> Join { get; init; } = [];

    /// <summary>Where others dial this node, the port resolved; null: without a listener. For an initial member <see cref="Members"/> counts.</summary>
    public EndPoint? AdvertisedEndPoint { get; init; }

    /// <summary>Initial.</summary>
    public int ShardCount { get; init; } = 8;

    /// <summary>Initial; null: the smaller of 3 and the number of members.</summary>
    public int? ReplicationFactor { get; init; }

    /// <summary>Initial.</summary>
    public PartitionRule PartitionRule { get; init; } = PartitionRule.WholeKey;

    /// <summary>Random: the id of the cluster, should this node form it.</summary>
    public required Guid NewClusterId { get; init; }

    /// <summary>The node's data directory on <see cref="FileSystem"/>.</summary>
    public required string Directory { get; init; }

    public required IFileSystem FileSystem { get; init; }

    /// <summary>To the other nodes; null: there are none.</summary>
    public IMetadataLink? Link { get; init; }

    /// <summary>The oldest snapshot that is open on this node, null: none is (R28). Whoever opens one registers it here first, with the last known timestamp, and only then asks the oracle for its own.</summary>
    public Func<Timestamp?> OldestOpenSnapshot { get; init; } = static () => null;

    /// <summary>The oracle's clock. Pauses between attempts are in real time, so that a frozen test clock stops nothing.</summary>
    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;

    public ILogger Logger { get; init; } = NullLogger.Instance;

    /// <summary>Feature level that this build knows; lower in tests of upgrades only.</summary>
    public int SupportedFeatureLevel { get; init; } = FeatureLevels.Supported;
}
