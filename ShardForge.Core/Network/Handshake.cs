using System.Buffers;
using System.IO.Pipelines;

namespace ShardForge.Network;

/// <summary>Runs the exchange of <see cref="HandshakeFormat"/> on a fresh connection.</summary>
/// <remarks>The caller sets the time limit by its token, and ends the connection after an error. Bytes behind the handshake stay in the input.</remarks>
internal static class Handshake
{
    /// <summary>How long the refusing side waits for the other to read and close. In real time.</summary>
    private static readonly TimeSpan s_refusalTimeout = TimeSpan.FromMilliseconds(250);

    private const int DrainBytesMax = 64 * 1024;

    /// <summary>The dialling side.</summary>
    /// <exception cref="PeerRefusedException">One side does not want the other; the other side has been told.</exception>
    /// <exception cref="IOException">The connection broke.</exception>
    public static async ValueTask<HandshakeOutcome> DialAsync(
        ITransportConnection connection, HandshakeSide local, string expectedNodeId, CancellationToken cancellationToken)
    {
        HelloParameters parameters = new(local.Nonce, local.FrameBytesMax, expectedNodeId);
        HandshakeFormat.WriteHello(connection.Output, local.Protocol, parameters, local.Hello);
        await FlushAsync(connection, cancellationToken).ConfigureAwait(false);
        HandshakeMessage answer = await ReadAsync(connection, local, HandshakeKind.Hello, cancellationToken).ConfigureAwait(false);
        HandshakeHello remote = answer.Hello! with { Purpose = local.Hello.Purpose };
        if (expectedNodeId.Length > 0 && !string.Equals(remote.NodeId, expectedNodeId, StringComparison.Ordinal))
        {
            string text = $"{remote.NodeId} answers where {expectedNodeId} was expected.";
            throw await RefuseAsync(connection, local, remote.NodeId, RefusalCode.WrongNode, text, cancellationToken).ConfigureAwait(false);
        }

        await CheckAsync(connection, local, remote, LinkDirection.Outgoing, cancellationToken).ConfigureAwait(false);

        HandshakeFormat.WriteAccepted(connection.Output, local.Protocol);
        await FlushAsync(connection, cancellationToken).ConfigureAwait(false);
        return Agree(local, remote, answer, local.Nonce, answer.Parameters.Nonce, LinkDirection.Outgoing);
    }

    /// <summary>The side that was dialled. Errors as of <see cref="DialAsync"/>.</summary>
    public static async ValueTask<HandshakeOutcome> AcceptAsync(ITransportConnection connection, HandshakeSide local, CancellationToken cancellationToken)
    {
        HandshakeMessage hello = await ReadAsync(connection, local, HandshakeKind.Hello, cancellationToken).ConfigureAwait(false);
        HandshakeHello remote = hello.Hello!;
        if (remote.Purpose is < HandshakePurpose.Link or > HandshakePurpose.Probe)
        {
            string text = $"Purpose {(byte)remote.Purpose} is not known here.";
            throw await RefuseAsync(connection, local, remote.NodeId, RefusalCode.NotAllowed, text, cancellationToken).ConfigureAwait(false);
        }

        string expected = hello.Parameters.ExpectedNodeId;
        if (expected.Length > 0 && !string.Equals(expected, local.Hello.NodeId, StringComparison.Ordinal))
        {
            string text = $"This is {local.Hello.NodeId}, not {expected}.";
            throw await RefuseAsync(connection, local, remote.NodeId, RefusalCode.WrongNode, text, cancellationToken).ConfigureAwait(false);
        }

        await CheckAsync(connection, local, remote, LinkDirection.Incoming, cancellationToken).ConfigureAwait(false);

        HelloParameters parameters = new(local.Nonce, local.FrameBytesMax, remote.NodeId);
        HandshakeFormat.WriteHello(connection.Output, local.Protocol, parameters, local.Hello with { Purpose = remote.Purpose });
        await FlushAsync(connection, cancellationToken).ConfigureAwait(false);
        await ReadAsync(connection, local, HandshakeKind.Accepted, cancellationToken).ConfigureAwait(false);
        return Agree(local, remote, hello, hello.Parameters.Nonce, local.Nonce, LinkDirection.Incoming);
    }

    private static HandshakeOutcome Agree(
        HandshakeSide local, HandshakeHello remote, in HandshakeMessage hello, ulong dialledNonce, ulong acceptedNonce, LinkDirection direction)
    {
        bool agreed = local.Protocol.TryAgree(hello.Protocol, out ushort version);
        Invariant.Require(agreed && version <= byte.MaxValue);
        LinkDirection other = direction == LinkDirection.Outgoing ? LinkDirection.Incoming : LinkDirection.Outgoing;
        return new HandshakeOutcome(
            remote,
            (byte)version,
            FrameFormat.Seed(dialledNonce, acceptedNonce, direction),
            FrameFormat.Seed(dialledNonce, acceptedNonce, other),
            hello.Parameters.FrameBytesMax);
    }

    private static async ValueTask CheckAsync(
        ITransportConnection connection, HandshakeSide local, HandshakeHello remote, LinkDirection direction, CancellationToken cancellationToken)
    {
        HandshakeVerdict verdict = remote.Role == PeerRole.Peer
            ? local.Policy.Check(remote, direction)
            : HandshakeVerdict.Refuse(RefusalCode.NotAllowed, $"Role {(byte)remote.Role} is not known here.");
        if (!verdict.IsAccepted)
            throw await RefuseAsync(connection, local, remote.NodeId, verdict.Code, verdict.Text, cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask<HandshakeMessage> ReadAsync(
        ITransportConnection connection, HandshakeSide local, HandshakeKind expected, CancellationToken cancellationToken)
    {
        PipeReader input = connection.Input;
        while (true)
        {
            ReadResult result = await input.ReadAsync(cancellationToken).ConfigureAwait(false);
            if (result.IsCanceled)
                throw new IOException("The connection was ended during its handshake.");

            ReadOnlySequence<byte> buffer = result.Buffer;
            if (!TryRead(ref buffer, local, expected, out HandshakeMessage message, out PeerProtocolException? error))
            {
                input.AdvanceTo(buffer.Start, buffer.End);
                if (result.IsCompleted)
                    throw new IOException("The other side closed the connection during its handshake.");
                continue;
            }

            input.AdvanceTo(buffer.Start);
            if (error is not null)
                throw await RefuseAsync(connection, local, nodeId: null, error.Code, error.Message, cancellationToken).ConfigureAwait(false);
            if (message.Kind == HandshakeKind.Refused)
            {
                string who = connection.Remote?.ToString() ?? "The peer";
                throw new PeerRefusedException(
                    message.Code, RefusedBy.Peer, message.Text, $"{who} refused {local.Hello.NodeId} ({message.Code}): {message.Text}");
            }

            return message;
        }
    }

    private static bool TryRead(
        ref ReadOnlySequence<byte> buffer, HandshakeSide local, HandshakeKind expected, out HandshakeMessage message, out PeerProtocolException? error)
    {
        error = null;
        try
        {
            if (!HandshakeFormat.TryRead(ref buffer, local.Protocol, out message))
                return false;
            if (message.Kind != expected && message.Kind != HandshakeKind.Refused)
                error = new PeerProtocolException(RefusalCode.NotAPeer, $"{message.Kind} came where {expected} was due.");
        }
        catch (PeerProtocolException found)
        {
            message = default;
            error = found;
        }

        return true;
    }

    /// <summary>Tells the other side, and gives it a moment to read that. Returns what to throw.</summary>
    private static async ValueTask<PeerRefusedException> RefuseAsync(
        ITransportConnection connection, HandshakeSide local, string? nodeId, RefusalCode code, string text, CancellationToken cancellationToken)
    {
        string who = $"{nodeId ?? "a connection"} ({connection.Remote?.ToString() ?? "address unknown"}, {code})";
        PeerRefusedException refusal = new(code, RefusedBy.ThisNode, text, $"{local.Hello.NodeId} refused {who}: {text}", nodeId);
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(s_refusalTimeout);
        try
        {
            HandshakeFormat.WriteRefused(connection.Output, local.Protocol, code, text);
            await FlushAsync(connection, limit.Token).ConfigureAwait(false);

            // Closing with unread bytes would reset the connection, and the refusal could be lost.
            for (long drained = 0; drained < DrainBytesMax;)
            {
                ReadResult result = await connection.Input.ReadAsync(limit.Token).ConfigureAwait(false);
                drained += result.Buffer.Length;
                connection.Input.AdvanceTo(result.Buffer.End);
                if (result.IsCompleted || result.IsCanceled)
                    break;
            }
        }
        catch (Exception error) when (error is IOException or OperationCanceledException or ObjectDisposedException)
        {
            // The other side was told as well as it could be; the refusal is what counts.
        }

        return refusal;
    }

    private static async ValueTask FlushAsync(ITransportConnection connection, CancellationToken cancellationToken)
    {
        FlushResult result = await connection.Output.FlushAsync(cancellationToken).ConfigureAwait(false);
        if (result.IsCanceled || result.IsCompleted)
            throw new IOException("The other side closed the connection during its handshake.");
    }
}

/// <summary>What a node brings to one handshake.</summary>
internal sealed record HandshakeSide(HandshakeHello Hello, ProtocolRange Protocol, int FrameBytesMax, ulong Nonce, IHandshakePolicy Policy);

/// <summary>What both sides know after a handshake.</summary>
internal sealed record HandshakeOutcome(HandshakeHello Remote, byte Version, uint SendSeed, uint ReceiveSeed, int RemoteFrameBytesMax);
