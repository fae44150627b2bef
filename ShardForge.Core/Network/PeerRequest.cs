namespace ShardForge.Network;

/// <summary>A request from a peer, as its handler sees it.</summary>
/// <param name="From">Node id of the sender, as its accepted handshake said.</param>
/// <param name="Service">The service it is for.</param>
/// <param name="Payload">Valid until the handler's task ends.</param>
/// <param name="Priority">As the sender gave it; the reply goes back with the same.</param>
/// <param name="Kind">Whether the sender waits for an answer.</param>
/// <param name="Peer">The handshake of the sender; <see cref="HandshakeHello.Purpose"/> tells members from strangers that ask to join.</param>
internal readonly record struct PeerRequest(
    string From, PeerService Service, ReadOnlyMemory<byte> Payload, PeerPriority Priority, PeerRequestKind Kind, HandshakeHello Peer);

internal enum PeerRequestKind
{
    /// <summary>The sender waits for the reply.</summary>
    Request,

    /// <summary>The sender does not wait; the reply is dropped.</summary>
    OneWay,
}

/// <summary>What a handler answers. Its buffer is taken over by the network.</summary>
internal readonly struct PeerReply(PeerBuffer? payload)
{
    public static PeerReply Empty => default;

    public PeerBuffer? Payload { get; } = payload;

    /// <summary>A reply of a copy of the bytes.</summary>
    public static PeerReply Copy(ReadOnlySpan<byte> bytes) => new(PeerBuffer.Copy(bytes));
}

/// <summary>Answers the requests for one service.</summary>
internal interface IPeerRequestHandler
{
    /// <summary>Called on the link's reading thread: what blocks or takes long before its first await holds up that link.
    /// A handler that completes at once is answered without another hop.</summary>
    /// <param name="request">Its payload is valid until the returned task ends.</param>
    /// <param name="cancellationToken">Ends with the connection or the network.</param>
    /// <remarks>An exception becomes <see cref="PeerFailure.HandlerFailed"/> at the sender, which must take the outcome as unknown: expected
    /// errors belong into the reply.</remarks>
    ValueTask<PeerReply> HandleAsync(PeerRequest request, CancellationToken cancellationToken);
}
