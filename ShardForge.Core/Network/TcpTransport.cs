using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;

namespace ShardForge.Network;

/// <summary>Peer links over TCP.</summary>
/// <remarks>Pipes directly on the socket, without copying loops between: a read or a write runs on the thread that asks for it, or continues where the socket
/// completes it.</remarks>
internal sealed class TcpTransport : ITransport
{
    private const int Backlog = 512;

    public ITransportListener Listen(EndPoint endPoint)
    {
        if (endPoint is not IPEndPoint address)
        {
            throw new ConfigurationException(
                "ListenEndPoint", $"ListenEndPoint {endPoint} is not an IP address and port of this machine; names cannot be bound.");
        }

        Socket socket = new(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            socket.Bind(address);
            socket.Listen(Backlog);
            return new TcpListener(socket);
        }
        catch (SocketException error)
        {
            socket.Dispose();
            string reason = error.SocketErrorCode == SocketError.AddressAlreadyInUse ? "is in use" : "cannot be bound";
            throw new ConfigurationException(
                "ListenEndPoint", $"ListenEndPoint {address} {reason} ({error.SocketErrorCode}: {error.Message}). Nothing was started.", error);
        }
    }

    public async ValueTask<ITransportConnection> ConnectAsync(EndPoint endPoint, CancellationToken cancellationToken)
    {
        Socket socket = endPoint is IPEndPoint address
            ? new(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp)
            : new(SocketType.Stream, ProtocolType.Tcp);
        try
        {
            await socket.ConnectAsync(endPoint, cancellationToken).ConfigureAwait(false);

            // A dial to a free local port can meet itself if the system picks that very port for this side; kept, it would hold the peer's port.
            if (Equals(socket.LocalEndPoint, socket.RemoteEndPoint))
                throw new IOException($"Nobody listens on {endPoint}: the connection met itself.");
            return new TcpConnection(socket);
        }
        catch (SocketException error)
        {
            socket.Dispose();
            throw new IOException($"Connecting to {endPoint} failed ({error.SocketErrorCode}: {error.Message}).", error);
        }
        catch (Exception)
        {
            socket.Close(0);
            throw;
        }
    }

    private sealed class TcpListener(Socket socket) : ITransportListener
    {
        public EndPoint EndPoint { get; } = socket.LocalEndPoint!;

        public async ValueTask<ITransportConnection?> AcceptAsync(CancellationToken cancellationToken)
        {
            while (true)
            {
                Socket accepted;
                try
                {
                    accepted = await socket.AcceptAsync(cancellationToken).ConfigureAwait(false);
                }
                catch (Exception error) when (error is ObjectDisposedException or SocketException { SocketErrorCode: SocketError.OperationAborted })
                {
                    return null;
                }
                catch (SocketException error) when (error.SocketErrorCode is SocketError.ConnectionReset or SocketError.ConnectionAborted)
                {
                    continue;
                }
                catch (SocketException error)
                {
                    throw new IOException($"Accepting on {EndPoint} failed ({error.SocketErrorCode}: {error.Message}).", error);
                }

                try
                {
                    return new TcpConnection(accepted);
                }
                catch (SocketException)
                {
                    accepted.Dispose();                                          // gone before it was served
                }
            }
        }

        public void Dispose() => socket.Dispose();
    }

    private sealed class TcpConnection : ITransportConnection
    {
        // A read takes what the socket has up to this; a batch of frames usually fits one write.
        private const int BufferBytes = 64 * 1024;

        private readonly Socket _socket;
        private readonly NetworkStream _stream;
        private int _ended;

        public TcpConnection(Socket socket)
        {
            socket.NoDelay = true;
            _socket = socket;
            Local = socket.LocalEndPoint;
            Remote = socket.RemoteEndPoint;
            _stream = new NetworkStream(socket, ownsSocket: true);
            Input = PipeReader.Create(_stream, new StreamPipeReaderOptions(bufferSize: BufferBytes, minimumReadSize: 4096, leaveOpen: true));
            Output = PipeWriter.Create(_stream, new StreamPipeWriterOptions(minimumBufferSize: BufferBytes, leaveOpen: true));
        }

        public PipeReader Input { get; }

        public PipeWriter Output { get; }

        public EndPoint? Local { get; }

        public EndPoint? Remote { get; }

        public void Abort()
        {
            if (Interlocked.Exchange(ref _ended, 1) == 0)
                _socket.Close(0);                                                // resets: the other side is not left waiting
        }

        public async ValueTask DisposeAsync()
        {
            bool orderly = Interlocked.Exchange(ref _ended, 1) == 0;
            Exception? unsent = orderly ? null : new IOException("The connection was aborted.");
            await Input.CompleteAsync().ConfigureAwait(false);
            try
            {
                await Output.CompleteAsync(unsent).ConfigureAwait(false);
                if (orderly)
                    _socket.Shutdown(SocketShutdown.Both);
            }
            catch (Exception error) when (error is IOException or SocketException or ObjectDisposedException)
            {
                // Closed by the other side in the meantime: as it is meant to be.
            }

            await _stream.DisposeAsync().ConfigureAwait(false);
        }
    }
}
