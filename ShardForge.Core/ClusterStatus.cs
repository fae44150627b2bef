using System.Net;

namespace ShardForge;

/// <summary>Nodes, shards, replicas, leaders and health, as one node knows them at one moment. Immutable.</summary>
public sealed record ClusterStatus
{
    /// <summary>The node that says so.</summary>
    public required string NodeId { get; init; }

    /// <summary>Name of the cluster.</summary>
    public required string ClusterName { get; init; }

    /// <summary>Id of the cluster; null before it is formed.</summary>
    public Guid? ClusterId { get; init; }

    /// <summary>Whether every shard has a leader that this node knows of.</summary>
    public bool IsReady { get; init; }

    /// <summary>Health of the node, from best to worst.</summary>
    public ClusterHealth Health { get; init; }

    /// <summary>What is wrong, a line each; empty while <see cref="Health"/> is <see cref="ClusterHealth.Healthy"/>.</summary>
    public IReadOnlyList<string> Problems { get; init; } = [];

    /// <summary>Version of the metadata this is from.</summary>
    public long Version { get; init; }

    /// <summary>Feature level that all nodes agreed on.</summary>
    public int FeatureLevel { get; init; }

    /// <summary>Members, this one included as long as it is one; those that were removed are not among them.</summary>
    public IReadOnlyList<NodeStatus> Nodes { get; init; } = [];

    /// <summary>Shards in order of their slots, the metadata group not among them.</summary>
    public IReadOnlyList<ShardGroupStatus> Shards { get; init; } = [];

    /// <summary>The metadata group.</summary>
    public ShardGroupStatus? Metadata { get; init; }
}

/// <summary>Health of a node.</summary>
public enum ClusterHealth
{
    /// <summary>Every shard has a leader, all members are connected.</summary>
    Healthy,

    /// <summary>Works, with members missing.</summary>
    Degraded,

    /// <summary>Some shard has no leader that this node knows of, or a replica here has stopped.</summary>
    Unhealthy,
}

/// <summary>A member of the cluster.</summary>
/// <param name="NodeId">Its id.</param>
/// <param name="EndPoint">What others dial; null for a single node without a listener.</param>
/// <param name="IsLocal">Whether it is the node that says so.</param>
/// <param name="IsConnected">Whether a link to it is open (to itself: always).</param>
public sealed record NodeStatus(string NodeId, EndPoint? EndPoint, bool IsLocal, bool IsConnected);

/// <summary>A shard: a Raft group that holds a range of hash slots.</summary>
/// <param name="ShardId">Its number; 0 is the metadata group.</param>
/// <param name="FirstSlot">First slot, inclusive.</param>
/// <param name="LastSlot">Last slot, inclusive.</param>
/// <param name="Epoch">Rises with each change of slots or replicas.</param>
/// <param name="LeaderNodeId">Node that leads it; null: not known.</param>
/// <param name="Term">Term of its Raft group, where this node has a replica; else 0.</param>
/// <param name="Replicas">Its replicas.</param>
public sealed record ShardGroupStatus(
    int ShardId, int FirstSlot, int LastSlot, long Epoch, string? LeaderNodeId, long Term, IReadOnlyList<ReplicaStatus> Replicas);

/// <summary>A replica of a shard.</summary>
/// <param name="ReplicaId">Its id, never used again.</param>
/// <param name="NodeId">Node that hosts it.</param>
/// <param name="IsLeader">Whether it leads, as far as is known.</param>
/// <param name="Fault">Why it has stopped, where that is known here; null while it is well.</param>
public sealed record ReplicaStatus(long ReplicaId, string NodeId, bool IsLeader, string? Fault);
