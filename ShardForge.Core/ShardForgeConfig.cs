using System.Net;
using Microsoft.Extensions.Logging;
using ShardForge.Storage;

namespace ShardForge;

/// <summary>How a node is opened. Settings marked <i>initial</i> count when the cluster is formed for the first time; later the stored ones hold, and a difference is logged as a warning.</summary>
public sealed partial record ShardForgeConfig
{
    /// <summary>Initial. Name of the cluster, 1 to 128 bytes of UTF-8; guards against meeting another cluster. Default <c>shardforge</c>.</summary>
    public string ClusterName { get; init; } = "shardforge";

    /// <summary>Name of this node in the cluster, 1 to 128 bytes of UTF-8, the same at every open of a directory. Default <c>node-1</c>.</summary>
    public string NodeId { get; init; } = "node-1";

    /// <summary>Where the node keeps its data; created where it is missing. Null: in memory, lost at dispose.</summary>
    public string? DataDirectory { get; init; }

    /// <summary>What is bound for the peers. Null: a single node without a listener.</summary>
    public IPEndPoint? ListenEndPoint { get; init; }

    /// <summary>Initial. The members that form the cluster: node id to the address that the others dial, this node included. Empty: alone.</summary>
    public IReadOnlyDictionary<string, EndPoint> Members { get; init; } = new Dictionary<string, EndPoint>();

    /// <summary>Addresses of running members: an empty node joins their cluster; then <see cref="Members"/> stays empty.</summary>
    public IReadOnlyList<EndPoint> Join { get; init; } = [];

    /// <summary>What others dial, where it is not what is bound (for a joining node).</summary>
    public EndPoint? AdvertisedEndPoint { get; init; }

    /// <summary>Encryption and authentication of the links between nodes; null: neither. All nodes of a cluster have it, or none.</summary>
    public PeerTlsOptions? PeerTls { get; init; }

    /// <summary>Initial. Number of shards, 1 to 4,096. Default 8.</summary>
    public int ShardCount { get; init; } = 8;

    /// <summary>Initial. Replicas of each shard, at least 1 and at most the number of members; null: min(3, members).</summary>
    public int? ReplicationFactor { get; init; }

    /// <summary>Initial. Which part of a key decides where it lives. Default <see cref="PartitionRule.WholeKey"/>.</summary>
    public PartitionRule PartitionRule { get; init; } = PartitionRule.WholeKey;

    /// <summary>The bound of a call whose token does not end it earlier; of a scan: of each <c>MoveNextAsync</c>. Above zero, at most a day. Default 5 s.</summary>
    public TimeSpan OperationTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>What keeps the data of each shard replica. The same kind at every open of a directory. Default <see cref="StorageEngines.Lsm(LsmOptions)"/>.</summary>
    public IStorageEngineFactory StorageEngine { get; init; } = StorageEngines.Lsm();

    /// <summary>Where log lines go; null: nowhere.</summary>
    public ILoggerFactory? LoggerFactory { get; init; }

    /// <summary>Time, except leases, which count on the machine's own monotonic clock.</summary>
    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;

    /// <summary>Upper bounds of keys, values, transactions and queues.</summary>
    public Limits Limits { get; init; } = Limits.Default;

    /// <summary>Memory and workers that the storage engines of all shards on this node share.</summary>
    public StorageResourceOptions StorageResources { get; init; } = new();
}
