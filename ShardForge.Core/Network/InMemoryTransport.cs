using System.Collections.Concurrent;
using System.IO.Pipelines;
using System.Net;
using System.Threading.Channels;

namespace ShardForge.Network;

/// <summary>The addresses of one in-memory world: nodes that share it reach each other.</summary>
internal sealed class InMemoryNetwork
{
    private const int FirstPort = 20_000;
    private readonly ConcurrentDictionary<EndPoint, InMemoryTransport.Listener> _listeners = new();
    private int _lastPort = FirstPort;

    /// <summary>A port that nobody else was given.</summary>
    public int NextPort() => Interlocked.Increment(ref _lastPort);

    public bool TryAdd(InMemoryTransport.Listener listener) => _listeners.TryAdd(listener.EndPoint, listener);

    public void Remove(InMemoryTransport.Listener listener) => _listeners.TryRemove(new(listener.EndPoint, listener));

    /// <summary>Who listens on that address, or on all addresses with that port.</summary>
    public InMemoryTransport.Listener? Find(EndPoint endPoint)
    {
        if (_listeners.TryGetValue(endPoint, out InMemoryTransport.Listener? listener))
            return listener;
        if (endPoint is not IPEndPoint { Port: int port })
            return null;
        return _listeners.TryGetValue(new IPEndPoint(IPAddress.Any, port), out listener)
            || _listeners.TryGetValue(new IPEndPoint(IPAddress.IPv6Any, port), out listener)
            ? listener
            : null;
    }
}

/// <summary>Peer links within one process: pipes with back-pressure, no sockets.</summary>
internal sealed class InMemoryTransport(InMemoryNetwork network) : ITransport
{
    private const int BufferedBytes = 256 * 1024;
    private const int Backlog = 512;

    public ITransportListener Listen(EndPoint endPoint)
    {
        EndPoint bound = endPoint is IPEndPoint { Port: 0 } address ? new IPEndPoint(address.Address, network.NextPort()) : endPoint;
        Listener listener = new(network, bound);
        if (!network.TryAdd(listener))
            throw new ConfigurationException("ListenEndPoint", $"ListenEndPoint {bound} is in use. Nothing was started.");
        return listener;
    }

    public ValueTask<ITransportConnection> ConnectAsync(EndPoint endPoint, CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled<ITransportConnection>(cancellationToken);

        IPEndPoint local = new(IPAddress.Loopback, network.NextPort());
        PipeOptions options = new(pauseWriterThreshold: BufferedBytes, resumeWriterThreshold: BufferedBytes / 2, useSynchronizationContext: false);
        Pipe there = new(options), back = new(options);
        Connection dialled = new(back, there, local, endPoint), accepted = new(there, back, endPoint, local);
        return network.Find(endPoint)?.TryOffer(accepted) == true
            ? ValueTask.FromResult<ITransportConnection>(dialled)
            : ValueTask.FromException<ITransportConnection>(new IOException($"Connecting to {endPoint} failed: nobody listens there."));
    }

    internal sealed class Listener(InMemoryNetwork network, EndPoint endPoint) : ITransportListener
    {
        private readonly Channel<Connection> _offered = Channel.CreateBounded<Connection>(Backlog);

        public EndPoint EndPoint { get; } = endPoint;

        public async ValueTask<ITransportConnection?> AcceptAsync(CancellationToken cancellationToken)
        {
            while (await _offered.Reader.WaitToReadAsync(cancellationToken).ConfigureAwait(false))
            {
                if (_offered.Reader.TryRead(out Connection? connection))
                    return connection;
            }

            return null;
        }

        public bool TryOffer(Connection connection) => _offered.Writer.TryWrite(connection);

        public void Dispose()
        {
            network.Remove(this);
            _offered.Writer.TryComplete();
            while (_offered.Reader.TryRead(out Connection? connection))
                connection.Abort();
        }
    }

    /// <summary>One end. An abort wakes all four sides by cancelling; each side then completes what is its own, as a pipe wants it.</summary>
    internal sealed class Connection(Pipe input, Pipe output, EndPoint local, EndPoint remote) : ITransportConnection
    {
        public PipeReader Input => input.Reader;

        public PipeWriter Output => output.Writer;

        public EndPoint? Local { get; } = local;

        public EndPoint? Remote { get; } = remote;

        public void Abort()
        {
            input.Reader.CancelPendingRead();
            input.Writer.CancelPendingFlush();
            output.Reader.CancelPendingRead();
            output.Writer.CancelPendingFlush();
        }

        public async ValueTask DisposeAsync()
        {
            await input.Reader.CompleteAsync().ConfigureAwait(false);
            await output.Writer.CompleteAsync().ConfigureAwait(false);
        }
    }
}
