using System.Buffers;
using System.Net;
using System.Text;
using NUnit.Framework;
using ShardForge.Network;

namespace ShardForge.Tests.Network;

/// <summary>A node against peers and strangers that say what they should not.</summary>
[TestFixture(TransportKind.InMemory)]
[TestFixture(TransportKind.Tcp)]
[Parallelizable(ParallelScope.All)]
public sealed class HostileWireTests(TransportKind kind)
{
    [Test]
    public async Task Garbage_instead_of_a_handshake_is_refused_and_closed()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1");
        List<PeerRefusal> refused = Refusals(node);
        byte[][] garbages =
        [
            Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\nHost: node-1\r\n\r\n"),
            [0xFF, 0xFF, 0xFF, 0xFF],
            [.. BitConverter.GetBytes(2_041), .. new byte[10]],
            [.. BitConverter.GetBytes(0), .. new byte[10]],
            [.. BitConverter.GetBytes(100), .. new byte[104]],
        ];

        await Task.WhenAll(garbages.Select(async garbage =>
        {
            await using RawPeer stranger = await RawPeer.ConnectAsync(world.Transport(0), node.ListenEndPoint!);
            await stranger.WriteAsync(garbage);
            ReadOnlySequence<byte> answer = new(await stranger.ReadToEndAsync());
            Assert.That(HandshakeFormat.TryRead(ref answer, ProtocolRange.Supported, out HandshakeMessage message), Is.True);
            Assert.That((message.Kind, message.Code), Is.EqualTo((HandshakeKind.Refused, RefusalCode.NotAPeer)));
        }));

        await PeerWorld.UntilAsync(() => refused.Count == garbages.Length);
        Assert.That(refused[0].NodeId, Is.Null);
    }

    [Test]
    public async Task A_stranger_that_says_nothing_is_closed_when_its_time_is_up()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1", with: options => options with { ConnectTimeout = TimeSpan.FromMilliseconds(50) });

        await using RawPeer silent = await RawPeer.ConnectAsync(world.Transport(0), node.ListenEndPoint!);
        await using RawPeer slow = await RawPeer.ConnectAsync(world.Transport(0), node.ListenEndPoint!);
        await slow.WriteAsync(new byte[] { 100, 0, 0 });

        Assert.That(await silent.ReadToEndAsync(), Is.Empty);
        Assert.That(await slow.ReadToEndAsync(), Is.Empty);
    }

    [Test]
    public async Task Strangers_take_a_bounded_number_of_places()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1", with: options => options with { HandshakesMax = 2 });
        RawPeer first = await RawPeer.ConnectAsync(world.Transport(0), node.ListenEndPoint!), second = await RawPeer.ConnectAsync(world.Transport(0), node.ListenEndPoint!);

        await ExpectTurnedAwayAsync(world, node);
        await first.DisposeAsync();
        await second.DisposeAsync();

        PeerNetwork client = world.Add("node-2");
        client.SetAddress("node-1", node.ListenEndPoint!);
        await PeerWorld.UntilAsync(() => client.IsConnected("node-1"));
    }

    [Test]
    public async Task Peers_take_a_bounded_number_of_connections()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1", with: options => options with { IncomingConnectionsMax = 1 });
        RawPeer first = await RawPeer.DialAsync(world.Transport(0), node.ListenEndPoint!);
        await PeerWorld.UntilAsync(() => node.ConnectedHellos("raw").Count == 1);

        await ExpectTurnedAwayAsync(world, node);
        await first.DisposeAsync();
        await PeerWorld.UntilAsync(() => node.ConnectedHellos("raw").Count == 0);
        await using RawPeer third = await RawPeer.DialAsync(world.Transport(0), node.ListenEndPoint!);
    }

    [Test]
    public async Task R22_a_frame_that_comes_twice_is_handled_once()
    {
        await using PeerWorld world = new(kind);
        Handler handler = new((request, _) => new(PeerReply.Copy(request.Payload.Span)));
        PeerNetwork node = world.Add("node-1", handler);
        await using RawPeer peer = await RawPeer.DialAsync(world.Transport(0), node.ListenEndPoint!);
        byte[] first = peer.Frame(FrameKind.Request, "a"u8, correlation: 5), second = peer.Frame(FrameKind.Request, "b"u8, correlation: 6);

        await peer.WriteAsync((byte[])[.. first, .. first, .. second, .. first, .. second]);
        await peer.WriteAsync(peer.Frame(FrameKind.Request, "c"u8, correlation: 7));

        Assert.That((await peer.ReadAsync())!.Value.Header.Correlation, Is.EqualTo(5));
        Assert.That((await peer.ReadAsync())!.Value.Header.Correlation, Is.EqualTo(6));
        Assert.That((await peer.ReadAsync())!.Value.Header.Correlation, Is.EqualTo(7));
        Assert.That(handler.Calls, Is.EqualTo(3));
    }

    [Test]
    public async Task R22_a_gap_ends_the_connection()
    {
        await using PeerWorld world = new(kind);
        Handler handler = new((_, _) => new(PeerReply.Empty));
        PeerNetwork node = world.Add("node-1", handler);
        List<PeerRefusal> refused = Refusals(node);
        RawPeer peer = await RawPeer.DialAsync(world.Transport(0), node.ListenEndPoint!);
        peer.NextSequence = 1;

        await peer.WriteAsync(peer.Frame(FrameKind.Request, "a"u8));

        await peer.ExpectGoodbyeAsync(RefusalCode.SequenceGap, "Frame 1 came where frame 0 was expected");
        await PeerWorld.UntilAsync(() => refused.Count == 1);
        Assert.That((refused[0].NodeId, refused[0].Error.Code), Is.EqualTo(("raw", RefusalCode.SequenceGap)));
        Assert.That(handler.Calls, Is.Zero);
    }

    [Test]
    public async Task A_flipped_bit_ends_the_connection_and_nothing_of_the_frame_is_handled()
    {
        await using PeerWorld world = new(kind);
        Handler handler = new((_, _) => new(PeerReply.Empty));
        PeerNetwork node = world.Add("node-1", handler);

        for (int at = 4; at < 40; at++)
        {
            RawPeer peer = await RawPeer.DialAsync(world.Transport(0), node.ListenEndPoint!);
            byte[] frame = peer.Frame(FrameKind.Request, "payload!"u8);
            frame[at] ^= 0x10;
            await peer.WriteAsync(frame);
            await peer.ExpectGoodbyeAsync(RefusalCode.Corruption, "CRC-32C");
        }

        Assert.That(handler.Calls, Is.Zero);
    }

    [Test]
    public async Task A_damaged_length_that_swallows_what_follows_ends_with_the_alarm()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1", with: options => options with
        {
            HeartbeatInterval = TimeSpan.FromMilliseconds(10),
            SilenceAlarm = TimeSpan.FromMilliseconds(100),
        });
        await using RawPeer peer = await RawPeer.DialAsync(world.Transport(0), node.ListenEndPoint!);
        byte[] frame = peer.Frame(FrameKind.Request, "payload!"u8);
        frame[1] |= 0x80;                                                        // 32 KiB more

        await peer.WriteAsync(frame);

        Assert.That(await peer.ReadAsync(), Is.Null);
    }

    [Test]
    public async Task R42_unknown_frames_end_the_connection_with_a_typed_reason()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1");
        Func<RawPeer, byte[]>[] unknown =
        [
            peer => peer.Frame(FrameKind.Request, [], version: 2),
            peer => peer.Frame((FrameKind)7, []),
            peer => peer.Frame(FrameKind.Request, [], flags: (FrameFlags)0x83),
            peer => peer.Frame(FrameKind.Reply, []),                             // answers come from the other side
        ];

        foreach (Func<RawPeer, byte[]> frame in unknown)
        {
            RawPeer peer = await RawPeer.DialAsync(world.Transport(0), node.ListenEndPoint!);
            await peer.WriteAsync(frame(peer));
            await peer.ExpectGoodbyeAsync(RefusalCode.UnknownFrame, "rame");
        }
    }

    [Test]
    public async Task Fragments_that_announce_too_much_end_the_connection()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1", with: options => options with { MessageBytesMax = 1_000 });
        RawPeer peer = await RawPeer.DialAsync(world.Transport(0), node.ListenEndPoint!);

        await peer.WriteAsync(peer.Frame(FrameKind.Request, "a"u8, flags: FrameFlags.First, total: 1_001));

        await peer.ExpectGoodbyeAsync(RefusalCode.Corruption, "1,001");
    }

    [Test]
    public async Task More_work_than_allowed_is_answered_with_overload()
    {
        await using PeerWorld world = new(kind);
        Gate gate = new();
        PeerNetwork node = world.Add("node-1", gate, options => options with { Limits = new Limits { PeerRequestsMax = 2 } });
        await using RawPeer peer = await RawPeer.DialAsync(world.Transport(0), node.ListenEndPoint!);

        for (ulong i = 1; i <= 3; i++)
            await peer.WriteAsync(peer.Frame(FrameKind.Request, "a"u8, correlation: i));

        (FrameHeader header, _) = (await peer.ReadAsync())!.Value;
        Assert.That(((ReplyStatus)header.Code, header.Correlation), Is.EqualTo((ReplyStatus.Overloaded, 3UL)));
        gate.Open();
        Assert.That((await peer.ReadAsync())!.Value.Header.Code, Is.EqualTo((ushort)ReplyStatus.Answered));
    }

    [Test]
    public async Task An_overloaded_peer_is_a_typed_error_and_nothing_was_done()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1");
        using ITransportListener listener = world.Transport(1).Listen(PeerWorld.AnyPort);
        node.SetAddress("raw", listener.EndPoint);
        await using RawPeer peer = await RawPeer.AcceptAsync(listener, "raw");

        Task<byte[]> asked = node.AskAsync("raw", default);
        (FrameHeader request, _) = (await peer.ReadAsync())!.Value;
        await peer.WriteAsync(peer.Frame(FrameKind.Reply, [], request.Correlation, code: (ushort)ReplyStatus.Overloaded));

        Assert.That(Assert.ThrowsAsync<OverloadedException>(() => asked)!.IsTransient, Is.True);
    }

    [Test]
    public async Task A_late_answer_is_dropped_and_an_answer_of_unknown_status_ends_the_connection()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1");
        using ITransportListener listener = world.Transport(1).Listen(PeerWorld.AnyPort);
        node.SetAddress("raw", listener.EndPoint);
        RawPeer peer = await RawPeer.AcceptAsync(listener, "raw");

        Task<byte[]> asked = node.AskAsync("raw", default);
        ulong correlation = (await peer.ReadAsync())!.Value.Header.Correlation;
        await peer.WriteAsync(peer.Frame(FrameKind.Reply, "late"u8, correlation + 100, code: 0));
        await peer.WriteAsync(peer.Frame(FrameKind.Reply, "?"u8, correlation, code: 77));

        PeerUnavailableException error = Assert.ThrowsAsync<PeerUnavailableException>(() => asked)!;
        Assert.That((error.Failure, error.MayHaveLeft), Is.EqualTo((PeerFailure.LinkLost, true)));
        await peer.ExpectGoodbyeAsync(RefusalCode.UnknownFrame, "77");
    }

    [Test]
    public async Task A_goodbye_fails_what_is_pending_with_its_words_and_is_reported()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1");
        List<PeerRefusal> refused = Refusals(node);
        using ITransportListener listener = world.Transport(1).Listen(PeerWorld.AnyPort);
        node.SetAddress("raw", listener.EndPoint);
        await using RawPeer peer = await RawPeer.AcceptAsync(listener, "raw");
        Task<byte[]> asked = node.AskAsync("raw", default);
        await peer.ReadAsync();

        await peer.WriteAsync(peer.Frame(FrameKind.Goodbye, "your frames are damaged"u8, code: (ushort)RefusalCode.Corruption));

        Assert.That(Assert.ThrowsAsync<PeerUnavailableException>(() => asked)!.Message, Does.Contain("your frames are damaged"));
        await PeerWorld.UntilAsync(() => refused.Count == 1);
        Assert.That((refused[0].Error.Code, refused[0].Error.RefusedBy), Is.EqualTo((RefusalCode.Corruption, RefusedBy.Peer)));
    }

    [Test]
    public async Task A_cancelled_large_request_is_not_sent_to_its_end_and_the_link_goes_on()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1");
        using ITransportListener listener = world.Transport(1).Listen(PeerWorld.AnyPort);
        node.SetAddress("raw", listener.EndPoint);
        await using RawPeer peer = await RawPeer.AcceptAsync(listener, "raw");
        using CancellationTokenSource cancelled = new();

        // Larger than all buffers between: it cannot have left while nobody reads.
        Task<byte[]> asked = node.AskAsync("raw", new byte[64 * 1024 * 1024], cancellationToken: cancelled.Token);
        await peer.ReadAsync();
        await cancelled.CancelAsync();
        Assert.CatchAsync<OperationCanceledException>(() => asked);

        (FrameHeader Header, byte[] Payload)? frame;
        do
        {
            frame = await peer.ReadAsync();
        }
        while (!frame!.Value.Header.IsLast);
        Assert.That(frame.Value.Header.IsAbandoned, Is.True);
        Task<byte[]> next = node.AskAsync("raw", "next"u8.ToArray());
        Assert.That((await peer.ReadAsync())!.Value.Payload, Is.EqualTo("next"u8.ToArray()));
        await peer.WriteAsync(peer.Frame(FrameKind.Reply, "done"u8, frame.Value.Header.Correlation + 1, code: 0));
        Assert.That(await next, Is.EqualTo("done"u8.ToArray()));
    }

    [Test]
    public async Task A_link_that_broke_within_a_large_request_knows_that_it_had_not_left()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1");
        using ITransportListener listener = world.Transport(1).Listen(PeerWorld.AnyPort);
        node.SetAddress("raw", listener.EndPoint);
        RawPeer peer = await RawPeer.AcceptAsync(listener, "raw");

        Task<byte[]> small = node.AskAsync("raw", default), large = node.AskAsync("raw", new byte[64 * 1024 * 1024]);
        await peer.ReadAsync();
        await peer.ReadAsync();
        await peer.DisposeAsync();

        Assert.That(Assert.ThrowsAsync<PeerUnavailableException>(() => small)!.MayHaveLeft, Is.True);
        Assert.That(Assert.ThrowsAsync<PeerUnavailableException>(() => large)!.MayHaveLeft, Is.False);
    }

    [Test]
    public async Task A_full_queue_of_bytes_refuses_requests_and_drops_one_way_messages()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1", with: options => options with { Limits = new Limits { PeerQueueBytesMax = 1_000_000 } });
        using ITransportListener listener = world.Transport(1).Listen(PeerWorld.AnyPort);
        node.SetAddress("raw", listener.EndPoint);
        await using RawPeer peer = await RawPeer.AcceptAsync(listener, "raw");

        // Nobody reads: the buffers between fill, then the queue does.
        Task<byte[]> large = node.AskAsync("raw", new byte[64 * 1024 * 1024]);
        OverloadedException error = Assert.ThrowsAsync<OverloadedException>(() => node.AskAsync("raw", new byte[1_000]))!;

        Assert.That(error.Message, Does.Contain("PeerQueueBytesMax").And.Contain("not sent"));
        Assert.That(node.TrySend("raw", PeerService.Shard, PeerBuffer.Copy(new byte[10]), PeerPriority.Raft), Is.False);
        Assert.That(large.IsCompleted, Is.False);
        node.Kill();
        Assert.ThrowsAsync<PeerUnavailableException>(() => large);
    }

    [Test]
    public async Task A_peer_that_asks_and_does_not_read_loses_its_connection()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork node = world.Add("node-1", new Handler((_, _) => new(PeerReply.Copy(new byte[200_000]))), options => options with
        {
            Limits = new Limits { PeerQueueBytesMax = 1_000_000 },
        });
        List<PeerRefusal> refused = Refusals(node);
        await using RawPeer peer = await RawPeer.DialAsync(world.Transport(0), node.ListenEndPoint!);

        for (ulong i = 1; refused.Count == 0 && i < 10_000; i++)
            await peer.WriteAsync(peer.Frame(FrameKind.Request, [], correlation: i));

        await PeerWorld.UntilAsync(() => refused.Count == 1);
        Assert.That(refused[0].Error.Code, Is.EqualTo(RefusalCode.NotReading));
    }

    private static async Task ExpectTurnedAwayAsync(PeerWorld world, PeerNetwork node)
    {
        try
        {
            await using RawPeer stranger = await RawPeer.ConnectAsync(world.Transport(0), node.ListenEndPoint!);
            Assert.That(await stranger.ReadToEndAsync(), Is.Empty);
        }
        catch (IOException)
        {
            // So quickly that the connect itself failed.
        }
    }

    private static List<PeerRefusal> Refusals(PeerNetwork node)
    {
        List<PeerRefusal> refusals = [];
        node.PeerRefused += refusal =>
        {
            lock (refusals)
                refusals.Add(refusal);
        };
        return refusals;
    }
}
