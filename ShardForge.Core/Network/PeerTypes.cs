namespace ShardForge.Network;

/// <summary>Whom a request is for. The numbers are on the wire: never give one a second meaning.</summary>
internal enum PeerService : ushort
{
    None = 0,

    /// <summary>Messages of Raft groups.</summary>
    Raft = 1,

    /// <summary>Snapshots of replicas.</summary>
    Snapshot = 2,

    /// <summary>Reads and writes of shards.</summary>
    Shard = 3,

    /// <summary>The metadata group: map, oracle, topology.</summary>
    Metadata = 4,

    /// <summary>Formation of a cluster and joining one; from nodes that may not be members yet.</summary>
    Formation = 5,

    /// <summary>Transactions over shards.</summary>
    Transaction = 6,
}

/// <summary>What goes first when several things wait for one link. A lower one still gets a turn now and then.</summary>
internal enum PeerPriority : byte
{
    Control = 0,
    Raft = 1,
    Request = 2,
    Bulk = 3,
}

/// <summary>Why a peer did not answer.</summary>
internal enum PeerFailure
{
    /// <summary>No address of that node is known.</summary>
    UnknownNode,

    /// <summary>There is no link at the moment.</summary>
    NotConnected,

    /// <summary>One of the two sides refused the other in the handshake; the inner error is a <see cref="PeerRefusedException"/>.</summary>
    Refused,

    /// <summary>The link broke.</summary>
    LinkLost,

    /// <summary>No answer within the time limit.</summary>
    TimedOut,

    /// <summary>The peer has no handler for the service.</summary>
    NoHandler,

    /// <summary>The peer's handler threw; the message has its text.</summary>
    HandlerFailed,

    /// <summary>This node's network was disposed or killed.</summary>
    Stopped,
}

/// <summary>A request that got no answer from its peer.</summary>
internal sealed class PeerUnavailableException(PeerFailure failure, bool mayHaveLeft, string message, Exception? innerException = null)
    : ShardForgeException(message, isTransient: !mayHaveLeft, innerException)
{
    public PeerFailure Failure { get; } = failure;

    /// <summary>False: the peer's handler did not and will not see the request. True: it may have, or may still.</summary>
    public bool MayHaveLeft { get; } = mayHaveLeft;
}

/// <summary>One side does not talk to the other; says which and why.</summary>
internal sealed class PeerRefusedException(RefusalCode code, RefusedBy refusedBy, string text, string message, string? nodeId = null)
    : ShardForgeException(message, isTransient: false)
{
    /// <summary>The other side's node id, if it got as far as to say it.</summary>
    public string? NodeId { get; } = nodeId;

    public RefusalCode Code { get; } = code;

    public RefusedBy RefusedBy { get; } = refusedBy;

    /// <summary>The words of the side that refused.</summary>
    public string Text { get; } = text;
}

internal enum RefusedBy
{
    ThisNode,
    Peer,
}

/// <summary>Why a connection was refused or closed. On the wire: never give a number a second meaning. A number that is not known here is kept
/// as it is.</summary>
internal enum RefusalCode : ushort
{
    None = 0,

    /// <summary>What came first is no handshake of a peer.</summary>
    NotAPeer = 1,

    /// <summary>No protocol version that both know.</summary>
    ProtocolVersion = 2,

    /// <summary>Another cluster id or name.</summary>
    WrongCluster = 3,

    /// <summary>Not a member.</summary>
    UnknownNode = 4,

    /// <summary>Another node answers at that address.</summary>
    WrongNode = 5,

    /// <summary>Two instances of one node (R38).</summary>
    InstanceConflict = 6,

    /// <summary>A restored copy of a node's directory (R38).</summary>
    StaleCopy = 7,

    /// <summary>A feature level that one of the two does not know (R42).</summary>
    FeatureLevel = 8,

    /// <summary>Too many connections.</summary>
    TooManyConnections = 9,

    /// <summary>Role or purpose is not known or not allowed here.</summary>
    NotAllowed = 10,

    /// <summary>The node was taken out of the cluster.</summary>
    NodeRemoved = 11,

    /// <summary>A frame's checksum or structure is wrong.</summary>
    Corruption = 32,

    /// <summary>A frame of a version or kind that is not known here (R42).</summary>
    UnknownFrame = 33,

    /// <summary>A frame is missing in the sequence (R22).</summary>
    SequenceGap = 34,

    /// <summary>The peer does not read what it is sent.</summary>
    NotReading = 35,

    /// <summary>The node closes; not an error.</summary>
    Closing = 36,

    /// <summary>Nothing was heard for a whole alarm.</summary>
    Silent = 37,
}
