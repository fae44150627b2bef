using System.IO.Pipelines;
using System.Net;

namespace ShardForge.Network;

/// <summary>The seam under all peer links: how bytes get from one process to another. TCP, in memory, or either of them with faults.</summary>
internal interface ITransport
{
    /// <summary>Starts to accept. Port 0 takes a free one, named by <see cref="ITransportListener.EndPoint"/>.</summary>
    /// <exception cref="ConfigurationException">ListenEndPoint: the address is in use, or is none of this machine.</exception>
    ITransportListener Listen(EndPoint endPoint);

    /// <summary>Opens a connection. It fails with <see cref="IOException"/>, or with <see cref="OperationCanceledException"/> for the token.</summary>
    ValueTask<ITransportConnection> ConnectAsync(EndPoint endPoint, CancellationToken cancellationToken);
}

/// <summary>Accepts connections until it is disposed; disposing frees the address and ends a pending accept.</summary>
internal interface ITransportListener : IDisposable
{
    /// <summary>What is bound, with its real port.</summary>
    EndPoint EndPoint { get; }

    /// <summary>The next connection; null once the listener is disposed. A failure of one connection is not the listener's: it goes on.</summary>
    ValueTask<ITransportConnection?> AcceptAsync(CancellationToken cancellationToken);
}

/// <summary>Two byte streams, one each way.</summary>
/// <remarks>Threads: one reader of <see cref="Input"/>, one writer of <see cref="Output"/>, at the same time; <see cref="Abort"/> from any, at any time.
/// After an abort, a pending or later read or flush throws, or comes back cancelled or completed. Disposing is for the end, when neither side is in use.</remarks>
internal interface ITransportConnection : IAsyncDisposable
{
    PipeReader Input { get; }

    PipeWriter Output { get; }

    /// <summary>This end, where the transport knows it.</summary>
    EndPoint? Local { get; }

    /// <summary>The other end, where the transport knows it.</summary>
    EndPoint? Remote { get; }

    /// <summary>Ends both directions at once; what was not delivered is lost. May be called twice.</summary>
    void Abort();
}

/// <summary>Puts encryption around a connection: after it is open and before its first byte, inside the handshake's time limit.</summary>
internal interface IConnectionSecurity
{
    /// <summary>Wraps the connection, which is taken over.</summary>
    /// <param name="connection">As the transport opened it.</param>
    /// <param name="direction">Who dialled.</param>
    /// <param name="cancellationToken">Ends with the handshake's time limit.</param>
    ValueTask<ITransportConnection> SecureAsync(ITransportConnection connection, LinkDirection direction, CancellationToken cancellationToken);
}

/// <summary>Who opened a connection.</summary>
internal enum LinkDirection
{
    /// <summary>This node dialled: it sends requests here.</summary>
    Outgoing,

    /// <summary>The peer dialled: it sends requests here, this node answers.</summary>
    Incoming,
}
