using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace ShardForge.Network;

/// <summary>Mutual TLS around a connection: nothing of the peer protocol is read before both certificates are found good.</summary>
/// <remarks>
/// <code>
/// dialled, or accepted → TLS (the version that the system chooses; protocol name "shardforge") → hello → frames
/// </code>
/// What a stranger can cost: one of <see cref="PeerNetworkOptions.HandshakesMax"/> places for at most <see cref="PeerNetworkOptions.ConnectTimeout"/>, and the buffers of
/// one TLS connection. It learns this node's certificate and nothing else. In TLS 1.3 the dialling side hears of a refusal of its certificate with its first read, which is the
/// hello's.
/// <para>Threads: safe for concurrent use; the options' functions are called for each connection.</para></remarks>
internal sealed class TlsConnectionSecurity(PeerTlsOptions options, TimeProvider timeProvider) : IConnectionSecurity
{
    private const string TargetName = "shardforge-peer";
    private static readonly List<SslApplicationProtocol> s_protocols = [new("shardforge")];

    public async ValueTask<ITransportConnection> SecureAsync(ITransportConnection connection, LinkDirection direction, CancellationToken cancellationToken)
    {
        SslStream stream = new(new PipeStream(connection), leaveInnerStreamOpen: false);
        try
        {
            if (direction == LinkDirection.Outgoing)
                await stream.AuthenticateAsClientAsync(ClientOptions(), cancellationToken).ConfigureAwait(false);
            else
                await stream.AuthenticateAsServerAsync(ServerOptions(), cancellationToken).ConfigureAwait(false);
            return new TlsConnection(connection, stream);
        }
        catch (Exception error)
        {
            await stream.DisposeAsync().ConfigureAwait(false);
            throw error is AuthenticationException or CryptographicException or InvalidOperationException
                ? new IOException($"TLS with {connection.Remote} failed: {error.Message}", error)
                : error;
        }
    }

    private SslClientAuthenticationOptions ClientOptions()
    {
        X509Certificate2 own = options.Certificate();
        return new()
        {
            TargetHost = TargetName,
            ClientCertificates = [own],
            // Also one that the server's list of authorities does not name: whether it is trusted is the server's to say.
            LocalCertificateSelectionCallback = (_, _, _, _, _) => own,
            ApplicationProtocols = s_protocols,
            CertificateRevocationCheckMode = X509RevocationMode.NoCheck,        // the check is ours
            RemoteCertificateValidationCallback = (_, certificate, _, _) => IsTrusted(certificate),
        };
    }

    private SslServerAuthenticationOptions ServerOptions() => new()
    {
        ServerCertificate = options.Certificate(),
        ClientCertificateRequired = true,
        ApplicationProtocols = s_protocols,
        CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
        RemoteCertificateValidationCallback = (_, certificate, _, _) => IsTrusted(certificate),
    };

    private bool IsTrusted(X509Certificate? certificate)
    {
        if (certificate is null)
            return false;
        using X509Certificate2 remote = new(certificate);
        DateTime now = timeProvider.GetUtcNow().UtcDateTime;
        if (now < remote.NotBefore.ToUniversalTime() || now > remote.NotAfter.ToUniversalTime())
            return false;
        return IsPinned(remote) || ChainsToRoot(remote, now);
    }

    private bool IsPinned(X509Certificate2 remote)
    {
        if (options.PinnedThumbprints is null)
            return false;
        string thumbprint = remote.GetCertHashString(HashAlgorithmName.SHA256);
        foreach (string pinned in options.PinnedThumbprints())
        {
            if (string.Equals(pinned.Replace(":", "", StringComparison.Ordinal), thumbprint, StringComparison.OrdinalIgnoreCase))
                return true;
        }

        return false;
    }

    private bool ChainsToRoot(X509Certificate2 remote, DateTime now)
    {
        if (options.TrustedRoots is null)
            return false;
        using X509Chain chain = new();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.AddRange(options.TrustedRoots());
        chain.ChainPolicy.RevocationMode = options.Revocation;
        chain.ChainPolicy.DisableCertificateDownloads = true;
        chain.ChainPolicy.VerificationTime = now;
        bool isTrusted = chain.Build(remote);
        foreach (X509ChainElement element in chain.ChainElements)
            element.Certificate.Dispose();
        return isTrusted;
    }

    /// <summary>A connection whose bytes go through TLS.</summary>
    private sealed class TlsConnection : ITransportConnection
    {
        private const int BufferBytes = 64 * 1024;

        private readonly ITransportConnection _inner;
        private readonly SslStream _stream;
        private int _ended;

        public TlsConnection(ITransportConnection inner, SslStream stream)
        {
            _inner = inner;
            _stream = stream;
            Input = PipeReader.Create(stream, new StreamPipeReaderOptions(bufferSize: BufferBytes, minimumReadSize: 4096, leaveOpen: true));
            Output = PipeWriter.Create(stream, new StreamPipeWriterOptions(minimumBufferSize: BufferBytes, leaveOpen: true));
        }

        public PipeReader Input { get; }

        public PipeWriter Output { get; }

        public EndPoint? Local => _inner.Local;

        public EndPoint? Remote => _inner.Remote;

        public void Abort()
        {
            Interlocked.Exchange(ref _ended, 1);
            _inner.Abort();
        }

        public async ValueTask DisposeAsync()
        {
            Exception? unsent = Interlocked.Exchange(ref _ended, 1) == 0 ? null : new IOException("The connection was aborted.");
            await Input.CompleteAsync().ConfigureAwait(false);
            try
            {
                await Output.CompleteAsync(unsent).ConfigureAwait(false);
            }
            catch (Exception error) when (error is IOException or ObjectDisposedException or InvalidOperationException)
            {
                // Closed by the other side in the meantime.
            }

            await _stream.DisposeAsync().ConfigureAwait(false);         // and what is under it
        }
    }

    /// <summary>The bytes of a connection as the stream that TLS wants. Owns the connection.</summary>
    private sealed class PipeStream(ITransportConnection connection) : Stream
    {
        private int _disposed;

        public override bool CanRead => true;

        public override bool CanWrite => true;

        public override bool CanSeek => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            ReadResult result = await connection.Input.ReadAsync(cancellationToken).ConfigureAwait(false);
            if (result.IsCanceled)
                throw new IOException("The connection was ended.");
            int count = (int)Math.Min(buffer.Length, result.Buffer.Length);
            int copied = 0;
            foreach (ReadOnlyMemory<byte> segment in result.Buffer.Slice(0, count))
            {
                segment.CopyTo(buffer[copied..]);
                copied += segment.Length;
            }

            connection.Input.AdvanceTo(result.Buffer.GetPosition(count));
            return count;
        }

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            FlushResult result = await connection.Output.WriteAsync(buffer, cancellationToken).ConfigureAwait(false);
            if (result.IsCanceled || result.IsCompleted)
                throw new IOException("The other side closed the connection.");
        }

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;      // each write is one

        public override void Flush() { }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException("Peer links are asynchronous.");

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException("Peer links are asynchronous.");

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override async ValueTask DisposeAsync()
        {
            if (Interlocked.Exchange(ref _disposed, 1) == 0)
                await connection.DisposeAsync().ConfigureAwait(false);
            await base.DisposeAsync().ConfigureAwait(false);
        }
    }
}
