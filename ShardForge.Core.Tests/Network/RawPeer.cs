using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using NUnit.Framework;
using ShardForge.Network;

namespace ShardForge.Tests.Network;

/// <summary>The other side of a node, played by hand: says and hears single frames, also wrong ones.</summary>
internal sealed class RawPeer : IAsyncDisposable
{
    private readonly ITransportConnection _connection;
    private readonly HandshakeOutcome? _outcome;

    private RawPeer(ITransportConnection connection, HandshakeOutcome? outcome)
    {
        _connection = connection;
        _outcome = outcome;
    }

    public ulong NextSequence { get; set; }

    /// <summary>Connected, and nothing said yet.</summary>
    public static async Task<RawPeer> ConnectAsync(ITransport transport, EndPoint endPoint) =>
        new(await transport.ConnectAsync(endPoint, CancellationToken.None), null);

    /// <summary>Dials a node, with its handshake done.</summary>
    public static async Task<RawPeer> DialAsync(ITransport transport, EndPoint endPoint, string nodeId = "raw", ulong nonce = 77)
    {
        ITransportConnection connection = await transport.ConnectAsync(endPoint, CancellationToken.None);
        HandshakeSide side = new(PeerWorld.Hello(nodeId), ProtocolRange.Supported, 64 * 1024, nonce, new SameClusterPolicy());
        return new RawPeer(connection, await Handshake.DialAsync(connection, side, "", CancellationToken.None));
    }

    /// <summary>Waits for a node to dial, with its handshake done.</summary>
    public static async Task<RawPeer> AcceptAsync(ITransportListener listener, string nodeId)
    {
        ITransportConnection connection = (await listener.AcceptAsync(CancellationToken.None))!;
        HandshakeSide side = new(PeerWorld.Hello(nodeId), ProtocolRange.Supported, 64 * 1024, 78, new SameClusterPolicy());
        return new RawPeer(connection, await Handshake.AcceptAsync(connection, side, CancellationToken.None));
    }

    public byte[] Frame(FrameKind kind, ReadOnlySpan<byte> payload, ulong correlation = 1, FrameFlags flags = FrameFlags.Whole, ushort code = (ushort)PeerService.Shard, int? total = null, byte version = 1) =>
        FrameFormatTests.Frame(new FrameHeader(version, kind, flags, PeerPriority.Request, code, NextSequence++, correlation), total, payload, _outcome!.SendSeed);

    public async Task WriteAsync(ReadOnlyMemory<byte> bytes)
    {
        try
        {
            await _connection.Output.WriteAsync(bytes);
        }
        catch (IOException)
        {
            // The node has closed already: what it said is still to be read, or not.
        }
    }

    /// <summary>The next frame other than a ping; null at the end of the connection.</summary>
    public async Task<(FrameHeader Header, byte[] Payload)?> ReadAsync()
    {
        using CancellationTokenSource limit = new(PeerWorld.Patience);
        while (true)
        {
            ReadResult result;
            try
            {
                result = await _connection.Input.ReadAsync(limit.Token);
            }
            catch (IOException)
            {
                return null;
            }

            ReadOnlySequence<byte> buffer = result.Buffer;
            bool read = FrameFormat.TryRead(ref buffer, _outcome!.ReceiveSeed, 1, 64 * 1024, out FrameHeader header, out ReadOnlySequence<byte> payload);
            byte[] bytes = payload.ToArray();
            _connection.Input.AdvanceTo(buffer.Start, read ? buffer.Start : buffer.End);
            if (read && header.Kind != FrameKind.Ping)
                return (header, bytes);
            if (!read && (result.IsCompleted || result.IsCanceled))
                return null;
        }
    }

    /// <summary>What is said until the node closes, as text; handshake messages and frames alike.</summary>
    public async Task<byte[]> ReadToEndAsync()
    {
        using CancellationTokenSource limit = new(PeerWorld.Patience);
        ArrayBufferWriter<byte> all = new();
        while (true)
        {
            try
            {
                ReadResult result = await _connection.Input.ReadAsync(limit.Token);
                foreach (ReadOnlyMemory<byte> piece in result.Buffer)
                    all.Write(piece.Span);
                _connection.Input.AdvanceTo(result.Buffer.End);
                if (result.IsCompleted || result.IsCanceled)
                    return all.WrittenSpan.ToArray();
            }
            catch (IOException)
            {
                return all.WrittenSpan.ToArray();
            }
        }
    }

    /// <summary>The node says goodbye with this reason, and closes.</summary>
    public async Task ExpectGoodbyeAsync(RefusalCode code, string text)
    {
        (FrameHeader header, byte[] payload) = (await ReadAsync())!.Value;
        Assert.That((header.Kind, (RefusalCode)header.Code), Is.EqualTo((FrameKind.Goodbye, code)));
        Assert.That(System.Text.Encoding.UTF8.GetString(payload), Does.Contain(text));
        await DisposeAsync();
    }

    public async ValueTask DisposeAsync()
    {
        _connection.Abort();
        await _connection.DisposeAsync();
    }
}
