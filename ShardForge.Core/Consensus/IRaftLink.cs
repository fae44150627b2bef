using ShardForge.Network;

namespace ShardForge.Consensus;

/// <summary>What the Raft groups of a node need of the links to the other nodes. <see cref="PeerRaftLink"/> is the real one; tests have one in the process.</summary>
/// <remarks>A request is delivered at most once and may be lost, late or out of order; consensus stands all of that. Safe for concurrent use.</remarks>
internal interface IRaftLink
{
    /// <summary>Sets who answers requests of peers. Once per link.</summary>
    void Register(IRaftLinkHandler handler);

    /// <summary>Sends a request and waits for its answer, which is the caller's to dispose.</summary>
    /// <param name="nodeId">Whom.</param>
    /// <param name="message">Taken over, also when the call fails.</param>
    /// <param name="bulk">A part of something large that gives way to everything else.</param>
    /// <param name="limit">Bound of the whole call.</param>
    /// <param name="cancellationToken">Stops the wait, not the request.</param>
    /// <exception cref="PeerUnavailableException">No answer.</exception>
    /// <exception cref="OverloadedException">A queue is full.</exception>
    ValueTask<PeerBuffer> RequestAsync(string nodeId, PeerBuffer message, bool bulk, TimeSpan limit, CancellationToken cancellationToken);
}

/// <summary>Answers what peers send: <see cref="RaftNode"/>.</summary>
internal interface IRaftLinkHandler
{
    /// <param name="from">Node id of the sender, as the link authenticated it.</param>
    /// <param name="message">Valid until the task ends.</param>
    /// <param name="cancellationToken">Ends with the link.</param>
    /// <returns>The answer; taken over by the link.</returns>
    ValueTask<PeerBuffer> HandleAsync(string from, ReadOnlyMemory<byte> message, CancellationToken cancellationToken);
}
