using System.Net;

namespace ShardForge.Network;

/// <summary>The peer links of one node. <c>PeerNetwork</c> is the real one.</summary>
/// <remarks>Each node dials the peers that it wants to ask and gets the answers on the same connection, so two nodes that ask each other have two.
/// A request is delivered at most once (R22) and never sent again by the link. Safe for concurrent use.</remarks>
internal interface IPeerNetwork : IAsyncDisposable
{
    /// <summary>What is bound, port 0 resolved; null without a listener.</summary>
    EndPoint? ListenEndPoint { get; }

    /// <summary>A link of this node to a peer was opened (true) or lost (false). Called outside all locks; must not block.</summary>
    event Action<string, bool>? PeerStateChanged;

    /// <summary>A handshake was refused, by this node or by the other, or a link was closed for a broken protocol. Called outside all locks;
    /// must not block.</summary>
    event Action<PeerRefusal>? PeerRefused;

    /// <summary>Sets who answers a service; a later call replaces the handler.</summary>
    void Register(PeerService service, IPeerRequestHandler handler);

    /// <summary>Sets where a peer is, and starts to keep a link to it. Another address replaces the link.</summary>
    void SetAddress(string nodeId, EndPoint endPoint);

    /// <summary>Gives up the link to a peer and forgets its address; pending requests fail.</summary>
    void Remove(string nodeId);

    /// <summary>Sends a request and waits for its answer, which is the caller's to dispose.</summary>
    /// <param name="nodeId">A peer whose address was set.</param>
    /// <param name="service">Who is to answer there.</param>
    /// <param name="payload">Taken over, also when the call fails.</param>
    /// <param name="priority">What goes first on the link.</param>
    /// <param name="timeout">Bound of the whole call, waiting for the link included; above zero.</param>
    /// <param name="cancellationToken">Stops the wait, not the request.</param>
    /// <exception cref="PeerUnavailableException">No answer; says whether the request may have reached the handler.</exception>
    /// <exception cref="OverloadedException">The queue here, or the peer's, is full; the handler does not see the request.</exception>
    /// <exception cref="LimitExceededException">The payload is larger than a message may be; it was not sent.</exception>
    ValueTask<PeerBuffer> SendAsync(
        string nodeId, PeerService service, PeerBuffer payload, PeerPriority priority, TimeSpan timeout, CancellationToken cancellationToken = default);

    /// <summary>The same, of a copy of the bytes.</summary>
    ValueTask<PeerBuffer> SendAsync(
        string nodeId, PeerService service, ReadOnlyMemory<byte> payload, PeerPriority priority, TimeSpan timeout, CancellationToken cancellationToken = default) =>
        SendAsync(nodeId, service, PeerBuffer.Copy(payload.Span), priority, timeout, cancellationToken);

    /// <summary>Sends without an answer. False: it was dropped here (no link, queue full). True: it may arrive, at most once.</summary>
    /// <param name="nodeId">A peer whose address was set.</param>
    /// <param name="service">Who is to handle it there.</param>
    /// <param name="payload">Taken over, also when it is dropped.</param>
    /// <param name="priority">What goes first on the link.</param>
    bool TrySend(string nodeId, PeerService service, PeerBuffer payload, PeerPriority priority);

    /// <summary>Asks whoever listens at an address, over a connection of its own (formation, joining). Errors as of SendAsync;
    /// refused by either side: <see cref="PeerFailure.Refused"/> with the <see cref="PeerRefusedException"/> inside.</summary>
    ValueTask<PeerBuffer> SendToAddressAsync(
        EndPoint endPoint, PeerService service, PeerBuffer payload, TimeSpan timeout, CancellationToken cancellationToken = default);

    /// <summary>Connects, exchanges the hellos, closes.</summary>
    /// <exception cref="PeerUnavailableException">Nobody there, or refused by either side (with the <see cref="PeerRefusedException"/> inside).</exception>
    ValueTask<HandshakeHello> ProbeAsync(EndPoint endPoint, TimeSpan timeout, CancellationToken cancellationToken = default);

    /// <summary>Whether this node's own link to the peer is open.</summary>
    bool IsConnected(string nodeId);

    /// <summary>When a valid frame of the peer last came in, over any connection: a value of <see cref="System.Diagnostics.Stopwatch.GetTimestamp"/>.
    /// 0: never since its address was set, or its address is not known.</summary>
    long LastHeard(string nodeId);

    /// <summary>The hello of every open connection with the peer, of both directions.</summary>
    IReadOnlyList<HandshakeHello> ConnectedHellos(string nodeId);

    /// <summary>Counters of the link to a peer; null for one whose address is not set.</summary>
    PeerLinkStatistics? GetStatistics(string nodeId);

    /// <summary>As kill -9: no goodbye, everything pending fails, the address is free. Dispose still has to be called.</summary>
    void Kill();
}

/// <summary>A refusal, for whoever has to act on it.</summary>
/// <param name="NodeId">The other side's node id; null where it did not get as far as to say it.</param>
/// <param name="Remote">The other side's address, where the transport knows it.</param>
/// <param name="Error">Who refused, and why.</param>
internal readonly record struct PeerRefusal(string? NodeId, EndPoint? Remote, PeerRefusedException Error);

/// <summary>Counters of the link to one peer, over all its connections since the address was set.</summary>
internal readonly record struct PeerLinkStatistics
{
    /// <summary>Smoothed time of a ping to its pong; zero before the first.</summary>
    public TimeSpan RoundTrip { get; init; }

    public long BytesSent { get; init; }

    public long BytesReceived { get; init; }

    public long FramesSent { get; init; }

    public long FramesReceived { get; init; }

    /// <summary>Writes to the transport; each carries a batch of frames.</summary>
    public long Flushes { get; init; }

    public long DuplicatesDropped { get; init; }

    public long Connects { get; init; }

    public int RequestsPending { get; init; }

    public long QueuedBytes { get; init; }
}
