namespace ShardForge.Hosting;

/// <summary>Names of the instruments that a hosted node records. All carry the tag <see cref="NodeTag"/>; none carries a key.</summary>
public static class ShardForgeDiagnostics
{
    /// <summary>The meter to listen to.</summary>
    public const string MeterName = "ShardForge";

    /// <summary>Tag: id of the node that records.</summary>
    public const string NodeTag = "shardforge.node";

    /// <summary>Gauge, <c>{shard}</c>: shards that this node leads.</summary>
    public const string ShardsLed = "shardforge.shards.led";

    /// <summary>Gauge, <c>{shard}</c>: shards without a leader that this node knows of. Above 0 for longer than an election: writes there fail.</summary>
    public const string ShardsLeaderless = "shardforge.shards.leaderless";

    /// <summary>Gauge, <c>{replica}</c>: replicas on any node that are known here to have stopped with a fault.</summary>
    public const string ReplicasFaulted = "shardforge.replicas.faulted";

    /// <summary>Gauge, <c>{node}</c>: members to which this node has no link.</summary>
    public const string NodesDisconnected = "shardforge.nodes.disconnected";
}
