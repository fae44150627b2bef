namespace ShardForge.Metadata.Formation;

/// <summary>Where a node stands. On the wire: never give a number a second meaning.</summary>
internal enum FormationStanding : byte
{
    None = 0,

    /// <summary>It has no data and belongs to no cluster.</summary>
    Empty = 1,

    /// <summary>It is a member: its formation record is on its disk.</summary>
    Formed = 2,

    /// <summary>It was a member, but its record is gone. It must not be taken for empty.</summary>
    RecordLost = 3,

    /// <summary>A record is on its way to its disk: neither empty nor a member yet.</summary>
    Recording = 4,

    /// <summary>It was refused and does not take part, as long as it runs.</summary>
    Refused = 5,
}

/// <summary>Why a node cannot be a member. On the wire: never give a number a second meaning.</summary>
internal enum FormationRefusal : byte
{
    None = 0,

    /// <summary>Another cluster's name.</summary>
    OtherCluster = 1,

    /// <summary>Two unformed nodes list different initial members.</summary>
    OtherMembers = 2,

    /// <summary>The cluster is formed, and the node is none of its.</summary>
    UnknownNode = 3,

    /// <summary>The node id is known with another data directory: the node was wiped, or two nodes have one id (R38).</summary>
    OtherInstance = 4,

    /// <summary>The node was taken out of the cluster.</summary>
    NodeRemoved = 5,

    /// <summary>Another node than the expected one answers at its address.</summary>
    WrongNode = 6,

    /// <summary>A restored copy of the node's directory (R38).</summary>
    RestoredCopy = 7,

    /// <summary>The cluster's feature level is one that the node does not know (R42).</summary>
    FeatureLevel = 8,
}

/// <summary>What a node says of itself while clusters are formed, as a question and as an answer. Only an answer carries the record.</summary>
internal sealed record FormationView : FormationMessage
{
    public required string ClusterName { get; init; }

    public required string NodeId { get; init; }

    public required Guid InstanceId { get; init; }

    public required ulong OpenCounter { get; init; }

    public required int SupportedFeatureLevel { get; init; }

    /// <summary>Ids of the initial members that it was configured with, ordered.</summary>
    public required IReadOnlyList<string> Members { get; init; }

    public required FormationStanding Standing { get; init; }

    /// <summary>Of a member that has it, to one that it lists: the formation record.</summary>
    public ClusterState? Record { get; init; }

    /// <summary>In an answer: why the asking node cannot be a member.</summary>
    public FormationRefusal Refusal { get; init; }
}

/// <summary>A node that wants into a formed cluster, as a node without replicas.</summary>
internal sealed record JoinRequest : FormationMessage
{
    public required string ClusterName { get; init; }

    public required RegisterNodeCommand Node { get; init; }
}

/// <summary>The answer: the state with the node in it; or a refusal; or neither: ask again.</summary>
internal sealed record JoinAnswer(ClusterState? State, FormationRefusal Refusal, string ClusterName) : FormationMessage;
