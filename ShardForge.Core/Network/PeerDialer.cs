using System.Buffers.Binary;
using System.Net;

namespace ShardForge.Network;

/// <summary>Turns an address, or an accepted connection, into one that has its handshake behind it: connect, secure, handshake, each bounded.</summary>
internal sealed class PeerDialer(PeerNetworkOptions options, CancellationToken stopping)
{
    private readonly Lock _gate = new();
    private readonly Random _random = new(options.Seed);

    /// <summary>Opens a connection. It is the caller's.</summary>
    /// <exception cref="PeerRefusedException">One side does not want the other.</exception>
    /// <exception cref="IOException">Nobody there, or not in time.</exception>
    /// <exception cref="OperationCanceledException">By the token, or the network is stopping.</exception>
    public async ValueTask<ShakenConnection> DialAsync(
        EndPoint endPoint, string expectedNodeId, HandshakePurpose purpose, CancellationToken cancellationToken)
    {
        using CancellationTokenSource time = new(options.ConnectTimeout, options.TimeProvider);
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(time.Token, stopping, cancellationToken);
        ITransportConnection? connection = null;
        try
        {
            connection = await options.Transport.ConnectAsync(endPoint, limit.Token).ConfigureAwait(false);
            time.CancelAfter(options.ConnectTimeout);
            connection = await SecureAsync(connection, LinkDirection.Outgoing, limit.Token).ConfigureAwait(false);
            HandshakeSide local = Side(options.LocalHello() with { Purpose = purpose });
            HandshakeOutcome outcome = await Handshake.DialAsync(connection, local, expectedNodeId, limit.Token).ConfigureAwait(false);
            return new ShakenConnection(connection, outcome);
        }
        catch (Exception error)
        {
            string step = connection is null ? "accept a connection" : "finish its handshake";
            await EndAsync(connection).ConfigureAwait(false);
            throw Translate(error, endPoint, step, cancellationToken) ?? error;
        }
    }

    /// <summary>The other side of <see cref="DialAsync"/>; errors as there. The connection is taken over: ended if this fails.</summary>
    public async ValueTask<ShakenConnection> AcceptAsync(ITransportConnection connection)
    {
        using CancellationTokenSource time = new(options.ConnectTimeout, options.TimeProvider);
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(time.Token, stopping);
        try
        {
            connection = await SecureAsync(connection, LinkDirection.Incoming, limit.Token).ConfigureAwait(false);
            HandshakeOutcome outcome = await Handshake.AcceptAsync(connection, Side(options.LocalHello()), limit.Token).ConfigureAwait(false);
            return new ShakenConnection(connection, outcome);
        }
        catch (Exception error)
        {
            await EndAsync(connection).ConfigureAwait(false);
            throw Translate(error, connection.Remote, "finish its handshake", CancellationToken.None) ?? error;
        }
    }

    /// <summary>Wait before the next attempt: doubled for each failure in a row, capped, between half and all of it by chance, so that many nodes do not
    /// try in step.</summary>
    public TimeSpan ReconnectDelay(int failures)
    {
        if (failures == 0)
            return TimeSpan.Zero;
        double doubled = options.ReconnectDelayMin.TotalMilliseconds * Math.Pow(2, Math.Min(failures - 1, 30));
        double most = Math.Min(doubled, options.ReconnectDelayMax.TotalMilliseconds);
        lock (_gate)
            return TimeSpan.FromMilliseconds(most * (0.5 + (_random.NextDouble() / 2)));
    }

    private static async ValueTask EndAsync(ITransportConnection? connection)
    {
        if (connection is null)
            return;
        connection.Abort();
        await connection.DisposeAsync().ConfigureAwait(false);
    }

    private ValueTask<ITransportConnection> SecureAsync(ITransportConnection connection, LinkDirection direction, CancellationToken cancellationToken) =>
        options.Security?.SecureAsync(connection, direction, cancellationToken) ?? ValueTask.FromResult(connection);

    private HandshakeSide Side(HandshakeHello hello) => new(hello, options.Protocol, options.FrameBytesMax, NextNonce(hello), options.Policy);

    private ulong NextNonce(HandshakeHello hello)
    {
        // The seeded source gives the same numbers after every start; instance and open counter make them this start's own.
        Span<byte> instance = stackalloc byte[16];
        hello.InstanceId.TryWriteBytes(instance, bigEndian: true, out _);
        ulong own = BinaryPrimitives.ReadUInt64LittleEndian(instance[8..]) ^ (hello.OpenCounter * 0x9E37_79B9_7F4A_7C15);
        lock (_gate)
            return own ^ (ulong)_random.NextInt64(long.MinValue, long.MaxValue);
    }

    /// <summary>Null: as it is. A cancellation of ours becomes what it means.</summary>
    private IOException? Translate(Exception error, EndPoint? endPoint, string step, CancellationToken callerToken) => error switch
    {
        OperationCanceledException when !callerToken.IsCancellationRequested && !stopping.IsCancellationRequested =>
            new IOException($"{endPoint} did not {step} within {options.ConnectTimeout.TotalMilliseconds:N0} ms.", error),
        ObjectDisposedException => new IOException($"The connection with {endPoint} broke.", error),
        _ => null,
    };
}

/// <summary>A connection and what its handshake agreed on.</summary>
internal readonly record struct ShakenConnection(ITransportConnection Transport, HandshakeOutcome Outcome);
