using System.Diagnostics;
using System.Net;
using NUnit.Framework;
using ShardForge.Network;

namespace ShardForge.Tests.Network;

[TestFixture(TransportKind.InMemory)]
[TestFixture(TransportKind.Tcp)]
[TestFixture(TransportKind.FaultyInMemory)]
[TestFixture(TransportKind.FaultyTcp)]
[Parallelizable(ParallelScope.All)]
public sealed class PeerNetworkTests(TransportKind kind)
{
    private const int Mebibyte = 1024 * 1024;

    [Test]
    public async Task A_request_is_answered([Values(0, 1, 100, 65_504, 65_505, 70_000, 3 * Mebibyte)] int payloadBytes)
    {
        await using PeerWorld world = new(kind);
        (PeerNetwork client, _) = await world.PairAsync();
        byte[] payload = RandomBytes(payloadBytes);

        byte[] answer = await client.AskAsync("node-2", payload);

        Assert.That(answer.AsSpan().SequenceEqual(payload), Is.True);
    }

    [Test]
    public async Task A_handler_sees_who_asks_and_how()
    {
        await using PeerWorld world = new(kind);
        List<PeerRequest> seen = [];
        (PeerNetwork client, _) = await world.PairAsync(new Handler((request, _) =>
        {
            lock (seen)
                seen.Add(request with { Payload = request.Payload.ToArray() });
            return new(PeerReply.Empty);
        }));

        await client.AskAsync("node-2", "ask"u8.ToArray(), PeerPriority.Raft);
        Assert.That(client.TrySend("node-2", PeerService.Shard, PeerBuffer.Copy("tell"u8), PeerPriority.Bulk), Is.True);
        await PeerWorld.UntilAsync(() => seen.Count == 2);

        Assert.That(seen[0].From, Is.EqualTo("node-1"));
        Assert.That(seen[0].Peer, Is.EqualTo(PeerWorld.Hello("node-1")));
        Assert.That((seen[0].Kind, seen[0].Priority, seen[0].Service), Is.EqualTo((PeerRequestKind.Request, PeerPriority.Raft, PeerService.Shard)));
        Assert.That((seen[1].Kind, seen[1].Priority), Is.EqualTo((PeerRequestKind.OneWay, PeerPriority.Bulk)));
        Assert.That(seen[1].Payload.ToArray(), Is.EqualTo("tell"u8.ToArray()));
    }

    [Test]
    public async Task Many_callers_share_a_link_and_each_gets_its_own_answer()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork first = world.Add("node-1"), second = world.Add("node-2", new Handler(async (request, _) =>
        {
            if (request.Payload.Span[0] % 3 == 0)
                await Task.Yield();
            return PeerReply.Copy(request.Payload.Span);
        }));
        first.SetAddress("node-2", second.ListenEndPoint!);
        second.SetAddress("node-1", first.ListenEndPoint!);

        await Task.WhenAll(Enumerable.Range(0, 64).Select(caller => AskManyAsync(caller % 2 == 0 ? first : second, caller % 2 == 0 ? "node-2" : "node-1", caller)));

        async Task AskManyAsync(PeerNetwork network, string peer, int caller)
        {
            byte[] payload = new byte[16];
            for (int call = 0; call < 50; call++)
            {
                payload[0] = (byte)call;
                BitConverter.TryWriteBytes(payload.AsSpan(4), caller);
                BitConverter.TryWriteBytes(payload.AsSpan(8), call);
                Assert.That(await network.AskAsync(peer, payload), Is.EqualTo(payload));
            }
        }
    }

    [Test]
    public async Task A_large_message_does_not_hold_up_small_ones()
    {
        await using PeerWorld world = new(kind);
        List<int> arrived = [];
        (PeerNetwork client, _) = await world.PairAsync(new Handler((request, _) =>
        {
            lock (arrived)
                arrived.Add(request.Payload.Length);
            return new(PeerReply.Empty);
        }));

        // The small ones are queued behind it, in the same priority and in others, before the first fragment can be all that is written.
        Task large = client.AskAsync("node-2", new byte[16 * Mebibyte], PeerPriority.Request);
        Task[] small = [.. Enumerable.Range(0, 40).Select(i => (Task)client.AskAsync("node-2", new byte[10], (PeerPriority)(i % 4)))];
        await Task.WhenAll([large, .. small]);

        int largeAt = arrived.IndexOf(16 * Mebibyte);
        Assert.That(arrived.Take(largeAt).Count(bytes => bytes == 10), Is.GreaterThanOrEqualTo(30), string.Join(' ', arrived));
    }

    [Test]
    public async Task A_slow_handler_does_not_hold_up_others()
    {
        await using PeerWorld world = new(kind);
        Gate gate = new();
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync(gate);
        server.Register(PeerService.Metadata, new Echo());

        Task<byte[]> slow = client.AskAsync("node-2", "slow"u8.ToArray());
        using PeerBuffer quick = await client.SendAsync("node-2", PeerService.Metadata, PeerBuffer.Copy("quick"u8), PeerPriority.Request, PeerWorld.Patience);

        Assert.That(quick.Span.ToArray(), Is.EqualTo("quick"u8.ToArray()));
        Assert.That(slow.IsCompleted, Is.False);
        gate.Open();
        Assert.That(await slow, Is.EqualTo("slow"u8.ToArray()));
    }

    [Test]
    public async Task A_failing_handler_is_told_to_the_caller_and_the_link_stays()
    {
        await using PeerWorld world = new(kind);
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync(new Handler((_, _) => throw new InvalidOperationException("at once")));
        server.Register(PeerService.Metadata, new Handler(async (_, _) =>
        {
            await Task.Yield();
            throw new InvalidOperationException("later");
        }));

        PeerUnavailableException atOnce = Assert.ThrowsAsync<PeerUnavailableException>(() => client.AskAsync("node-2", default))!;
        PeerUnavailableException later = Assert.ThrowsAsync<PeerUnavailableException>(
            async () => await client.SendAsync("node-2", PeerService.Metadata, PeerBuffer.Copy([]), PeerPriority.Request, PeerWorld.Patience))!;
        PeerUnavailableException none = Assert.ThrowsAsync<PeerUnavailableException>(
            async () => await client.SendAsync("node-2", PeerService.Snapshot, PeerBuffer.Copy([]), PeerPriority.Request, PeerWorld.Patience))!;

        Assert.That((atOnce.Failure, atOnce.MayHaveLeft, atOnce.IsTransient), Is.EqualTo((PeerFailure.HandlerFailed, true, false)));
        Assert.That(atOnce.Message, Does.Contain("at once"));
        Assert.That(later.Message, Does.Contain("later"));
        Assert.That((none.Failure, none.MayHaveLeft, none.IsTransient), Is.EqualTo((PeerFailure.NoHandler, false, true)));
        Assert.That(client.IsConnected("node-2"), Is.True);
        Assert.That(client.GetStatistics("node-2")!.Value.Connects, Is.EqualTo(1));
    }

    [Test]
    public async Task A_request_to_nobody_had_not_left()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork client = world.Add("node-1"), gone = world.Add("node-2");
        EndPoint address = gone.ListenEndPoint!;
        await gone.DisposeAsync();
        client.SetAddress("node-2", address);

        // The first waits for the attempt that is under way, the next fails at once.
        PeerUnavailableException waited = Assert.ThrowsAsync<PeerUnavailableException>(() => client.AskAsync("node-2", default))!;
        PeerUnavailableException atOnce = Assert.ThrowsAsync<PeerUnavailableException>(() => client.AskAsync("node-2", default))!;
        PeerUnavailableException unknown = Assert.ThrowsAsync<PeerUnavailableException>(() => client.AskAsync("node-9", default))!;

        Assert.That((waited.Failure, waited.MayHaveLeft), Is.EqualTo((PeerFailure.NotConnected, false)));
        Assert.That((atOnce.Failure, atOnce.MayHaveLeft), Is.EqualTo((PeerFailure.NotConnected, false)));
        Assert.That((unknown.Failure, unknown.MayHaveLeft), Is.EqualTo((PeerFailure.UnknownNode, false)));
        Assert.That(client.TrySend("node-2", PeerService.Shard, PeerBuffer.Copy([]), PeerPriority.Raft), Is.False);
    }

    [Test]
    public async Task A_request_that_was_handled_when_its_peer_was_killed_may_have_left()
    {
        await using PeerWorld world = new(kind);
        Gate gate = new();
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync(gate);
        Task<byte[]> asked = client.AskAsync("node-2", "a"u8.ToArray());
        await PeerWorld.UntilAsync(() => gate.Waiting == 1);

        server.Kill();

        PeerUnavailableException error = Assert.ThrowsAsync<PeerUnavailableException>(() => asked)!;
        Assert.That((error.Failure, error.MayHaveLeft, error.IsTransient), Is.EqualTo((PeerFailure.LinkLost, true, false)));
        await PeerWorld.UntilAsync(() => !client.IsConnected("node-2"));
    }

    [Test]
    public async Task A_killed_peer_is_linked_again_when_it_is_back_on_its_address()
    {
        await using PeerWorld world = new(kind);
        List<string> states = [];
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync();
        client.PeerStateChanged += (node, connected) =>
        {
            lock (states)
                states.Add($"{node} {connected}");
        };
        EndPoint address = server.ListenEndPoint!;

        server.Kill();
        await server.DisposeAsync();
        await PeerWorld.UntilAsync(() => !client.IsConnected("node-2"));
        world.Add("node-2", with: options => options with { ListenEndPoint = address });
        await PeerWorld.UntilAsync(() => client.IsConnected("node-2"));

        Assert.That(await client.AskAsync("node-2", "b"u8.ToArray()), Is.EqualTo("b"u8.ToArray()));
        await PeerWorld.UntilAsync(() => states.Count >= 2);
        Assert.That(states, Is.EqualTo(new[] { "node-2 False", "node-2 True" }));
    }

    [Test]
    public async Task R22_nothing_is_handled_twice_when_links_break_again_and_again()
    {
        await using PeerWorld world = new(kind);
        HashSet<int> handled = [];
        int twice = 0;
        Handler handler = new((request, _) =>
        {
            lock (handled)
                twice += handled.Add(BitConverter.ToInt32(request.Payload.Span)) ? 0 : 1;
            return new(PeerReply.Copy(request.Payload.Span));
        });
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync(handler);
        EndPoint address = server.ListenEndPoint!;
        List<int> answered = [], notLeft = [];
        int next = 0;

        for (int round = 0; round < 5; round++)
        {
            Task[] calls = [.. Enumerable.Range(0, 50).Select(_ => CallAsync(Interlocked.Increment(ref next)))];
            client.SetAddress("node-2", round % 2 == 0 ? new DnsEndPoint("nowhere.invalid", 1) : address);
            client.SetAddress("node-2", address);
            await Task.WhenAll(calls);
            await PeerWorld.UntilAsync(() => client.IsConnected("node-2"));
        }

        Assert.That(twice, Is.Zero);
        Assert.That(handled, Is.SupersetOf(answered));
        Assert.That(handled.Intersect(notLeft), Is.Empty);

        async Task CallAsync(int number)
        {
            try
            {
                await client.AskAsync("node-2", BitConverter.GetBytes(number));
                lock (answered)
                    answered.Add(number);
            }
            catch (PeerUnavailableException error)
            {
                if (!error.MayHaveLeft)
                {
                    lock (notLeft)
                        notLeft.Add(number);
                }
            }
        }
    }

    [Test]
    public async Task A_request_without_an_answer_in_time_may_have_left()
    {
        await using PeerWorld world = new(kind);
        Gate gate = new();
        (PeerNetwork client, _) = await world.PairAsync(gate);

        PeerUnavailableException error = Assert.ThrowsAsync<PeerUnavailableException>(
            () => client.AskAsync("node-2", default, timeout: TimeSpan.FromMilliseconds(50)))!;

        Assert.That((error.Failure, error.MayHaveLeft), Is.EqualTo((PeerFailure.TimedOut, true)));
        Assert.That(client.GetStatistics("node-2")!.Value.RequestsPending, Is.Zero);
        Assert.That(client.IsConnected("node-2"), Is.True);
    }

    [Test]
    public async Task A_cancelled_wait_ends_with_the_callers_token()
    {
        await using PeerWorld world = new(kind);
        Gate gate = new();
        (PeerNetwork client, _) = await world.PairAsync(gate);
        using CancellationTokenSource cancelled = new();
        Task<byte[]> asked = client.AskAsync("node-2", default, cancellationToken: cancelled.Token);
        await PeerWorld.UntilAsync(() => gate.Waiting == 1);

        await cancelled.CancelAsync();

        OperationCanceledException error = Assert.CatchAsync<OperationCanceledException>(() => asked)!;
        Assert.That(error.CancellationToken, Is.EqualTo(cancelled.Token));
        Assert.CatchAsync<OperationCanceledException>(() => client.AskAsync("node-2", default, cancellationToken: cancelled.Token));
        gate.Open();
        Assert.That(gate.Waiting, Is.EqualTo(1));
    }

    [Test]
    public async Task A_full_queue_refuses_with_a_typed_error_and_recovers()
    {
        await using PeerWorld world = new(kind);
        Gate gate = new();
        (PeerNetwork client, _) = await world.PairAsync(gate, options => options with { Limits = new Limits { PeerRequestsMax = 4 } });
        Task<byte[]>[] asked = [.. Enumerable.Range(0, 4).Select(_ => client.AskAsync("node-2", default))];

        OverloadedException error = Assert.ThrowsAsync<OverloadedException>(() => client.AskAsync("node-2", default))!;

        Assert.That(error.Message, Does.Contain("PeerRequestsMax"));
        gate.Open();
        await Task.WhenAll(asked);
        Assert.That(await client.AskAsync("node-2", "x"u8.ToArray()), Is.EqualTo("x"u8.ToArray()));
    }

    [Test]
    public async Task A_message_over_the_limit_is_refused_by_its_sender()
    {
        await using PeerWorld world = new(kind);
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync(with: options => options with { MessageBytesMax = 100_000 });
        server.Register(PeerService.Metadata, new Handler((_, _) => new(PeerReply.Copy(new byte[100_001]))));

        LimitExceededException error = Assert.ThrowsAsync<LimitExceededException>(() => client.AskAsync("node-2", new byte[100_001]))!;
        PeerUnavailableException reply = Assert.ThrowsAsync<PeerUnavailableException>(
            async () => await client.SendAsync("node-2", PeerService.Metadata, PeerBuffer.Copy([]), PeerPriority.Request, PeerWorld.Patience))!;

        Assert.That((error.Maximum, error.Actual), Is.EqualTo((100_000L, 100_001L)));
        Assert.That(reply.Failure, Is.EqualTo(PeerFailure.HandlerFailed));
        Assert.That(await client.AskAsync("node-2", new byte[100_000]), Has.Length.EqualTo(100_000));
    }

    [Test]
    public async Task Disposing_fails_what_is_pending_frees_the_address_and_leaves_nothing_behind()
    {
        await using PeerWorld world = new(kind);
        Gate gate = new();
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync(gate);
        server.SetAddress("node-1", client.ListenEndPoint!);
        await PeerWorld.UntilAsync(() => server.IsConnected("node-1"));
        EndPoint address = server.ListenEndPoint!;
        Task<byte[]> asked = client.AskAsync("node-2", default);
        await PeerWorld.UntilAsync(() => gate.Waiting == 1);

        await server.DisposeAsync();
        await server.DisposeAsync();

        PeerUnavailableException error = Assert.ThrowsAsync<PeerUnavailableException>(() => asked)!;
        Assert.That((error.Failure, error.MayHaveLeft), Is.EqualTo((PeerFailure.LinkLost, true)));
        PeerUnavailableException stopped = Assert.ThrowsAsync<PeerUnavailableException>(() => server.AskAsync("node-1", default))!;
        Assert.That((stopped.Failure, stopped.MayHaveLeft), Is.EqualTo((PeerFailure.Stopped, false)));
        world.Add("node-2", with: options => options with { ListenEndPoint = address });
        await PeerWorld.UntilAsync(() => client.IsConnected("node-2"));
    }

    [Test]
    public async Task An_address_in_use_is_a_configuration_error_that_names_the_setting()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork first = world.Add("node-1");

        ConfigurationException error = Assert.Throws<ConfigurationException>(() => world.Add("node-2", with: options => options with { ListenEndPoint = first.ListenEndPoint }))!;

        Assert.That(error.Setting, Is.EqualTo("ListenEndPoint"));
        Assert.That(((IPEndPoint)first.ListenEndPoint!).Port, Is.Not.Zero);
        Assert.That(error.Message, Does.Contain(first.ListenEndPoint.ToString()));
    }

    [Test]
    public async Task A_probe_gives_the_hello_of_whoever_is_there()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork first = world.Add("node-1"), second = world.Add("node-2", with: options => options with
        {
            LocalHello = () => PeerWorld.Hello("node-2") with { AdvertisedEndPoint = new DnsEndPoint("db-2.example", 7_000), LogEnd = ulong.MaxValue },
        });

        HandshakeHello hello = await first.ProbeAsync(second.ListenEndPoint!, PeerWorld.Patience);

        Assert.That(hello.NodeId, Is.EqualTo("node-2"));
        Assert.That(hello.LogEnd, Is.EqualTo(ulong.MaxValue));
        Assert.That(hello.AdvertisedEndPoint, Is.EqualTo(new DnsEndPoint("db-2.example", 7_000)));
        Assert.That(hello with { AdvertisedEndPoint = null, LogEnd = 4_096 }, Is.EqualTo(PeerWorld.Hello("node-2") with { Purpose = HandshakePurpose.Probe }));
        EndPoint free = second.ListenEndPoint!;
        await second.DisposeAsync();
        PeerUnavailableException nobody = Assert.ThrowsAsync<PeerUnavailableException>(async () => await first.ProbeAsync(free, PeerWorld.Patience))!;
        Assert.That((nobody.Failure, nobody.MayHaveLeft), Is.EqualTo((PeerFailure.NotConnected, false)));
    }

    [Test]
    public async Task An_address_can_be_asked_without_knowing_who_is_there()
    {
        await using PeerWorld world = new(kind);
        HandshakePurpose purpose = default;
        PeerNetwork first = world.Add("node-1"), second = world.Add("node-2", new Handler((request, _) =>
        {
            purpose = request.Peer.Purpose;
            return new(PeerReply.Copy(request.Payload.Span));
        }));

        using PeerBuffer answer = await first.SendToAddressAsync(second.ListenEndPoint!, PeerService.Shard, PeerBuffer.Copy("form"u8), PeerWorld.Patience);

        Assert.That(answer.Span.ToArray(), Is.EqualTo("form"u8.ToArray()));
        Assert.That(purpose, Is.EqualTo(HandshakePurpose.Call));
        await PeerWorld.UntilAsync(() => second.ConnectedHellos("node-1").Count == 0);
    }

    [Test]
    public async Task Another_cluster_is_refused_with_a_typed_error_on_both_sides()
    {
        await using PeerWorld world = new(kind);
        List<PeerRefusal> atClient = [], atServer = [];
        PeerNetwork server = world.Add("node-2");
        PeerNetwork client = world.Add("node-1", with: options => options with { LocalHello = () => PeerWorld.Hello("node-1") with { ClusterName = "other" } });
        client.PeerRefused += refusal => Add(atClient, refusal);
        server.PeerRefused += refusal => Add(atServer, refusal);

        client.SetAddress("node-2", server.ListenEndPoint!);
        await PeerWorld.UntilAsync(() => atClient.Count > 0 && atServer.Count > 0);
        PeerUnavailableException sent = Assert.ThrowsAsync<PeerUnavailableException>(() => client.AskAsync("node-2", default))!;
        PeerUnavailableException probed = Assert.ThrowsAsync<PeerUnavailableException>(async () => await client.ProbeAsync(server.ListenEndPoint!, PeerWorld.Patience))!;

        Assert.That((atClient[0].NodeId, atClient[0].Error.Code, atClient[0].Error.RefusedBy), Is.EqualTo(("node-2", RefusalCode.WrongCluster, RefusedBy.Peer)));
        Assert.That((atServer[0].NodeId, atServer[0].Error.Code, atServer[0].Error.RefusedBy), Is.EqualTo(("node-1", RefusalCode.WrongCluster, RefusedBy.ThisNode)));
        Assert.That(atClient[0].Error.Text, Is.EqualTo("cluster \"other\" is not \"tests\""));
        Assert.That((sent.Failure, sent.MayHaveLeft, ((PeerRefusedException)sent.InnerException!).Code), Is.EqualTo((PeerFailure.Refused, false, RefusalCode.WrongCluster)));
        Assert.That((probed.Failure, ((PeerRefusedException)probed.InnerException!).Code), Is.EqualTo((PeerFailure.Refused, RefusalCode.WrongCluster)));

        static void Add(List<PeerRefusal> list, PeerRefusal refusal)
        {
            lock (list)
                list.Add(refusal);
        }
    }

    [Test]
    public async Task R42_without_a_common_protocol_version_both_are_named()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork older = world.Add("node-1"), newer = world.Add("node-2", with: options => options with { Protocol = new ProtocolRange(7, 9) });

        PeerUnavailableException up = Assert.ThrowsAsync<PeerUnavailableException>(async () => await older.ProbeAsync(newer.ListenEndPoint!, PeerWorld.Patience))!;
        PeerUnavailableException down = Assert.ThrowsAsync<PeerUnavailableException>(async () => await newer.ProbeAsync(older.ListenEndPoint!, PeerWorld.Patience))!;

        PeerRefusedException byNewer = (PeerRefusedException)up.InnerException!, byOlder = (PeerRefusedException)down.InnerException!;
        Assert.That((byNewer.Code, byNewer.RefusedBy), Is.EqualTo((RefusalCode.ProtocolVersion, RefusedBy.Peer)));
        Assert.That((byOlder.Code, byOlder.RefusedBy), Is.EqualTo((RefusalCode.ProtocolVersion, RefusedBy.Peer)));
        Assert.That(byNewer.Text, Is.EqualTo("No common protocol version: the refusing side speaks 7 to 9, the refused one 1."));
        Assert.That(byOlder.Text, Is.EqualTo("No common protocol version: the refusing side speaks 1, the refused one 7 to 9."));
    }

    [Test]
    public async Task Another_node_at_the_address_is_refused()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork client = world.Add("node-1"), other = world.Add("node-3");
        PeerRefusal? refusal = null;
        client.PeerRefused += found => refusal ??= found;

        client.SetAddress("node-2", other.ListenEndPoint!);
        await PeerWorld.UntilAsync(() => refusal is not null);

        Assert.That(refusal!.Value.Error.Code, Is.EqualTo(RefusalCode.WrongNode));
        Assert.That(refusal.Value.Error.Text, Does.Contain("node-3").And.Contain("node-2"));
        Assert.That(client.IsConnected("node-2"), Is.False);
    }

    [Test]
    public async Task A_removed_peer_is_not_linked_and_its_requests_fail()
    {
        await using PeerWorld world = new(kind);
        Gate gate = new();
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync(gate);
        Task<byte[]> asked = client.AskAsync("node-2", default);
        await PeerWorld.UntilAsync(() => gate.Waiting == 1);

        client.Remove("node-2");

        PeerUnavailableException error = Assert.ThrowsAsync<PeerUnavailableException>(() => asked)!;
        Assert.That((error.Failure, error.MayHaveLeft), Is.EqualTo((PeerFailure.LinkLost, true)));
        Assert.That(client.IsConnected("node-2"), Is.False);
        Assert.That(client.GetStatistics("node-2"), Is.Null);
        Assert.That(client.LastHeard("node-2"), Is.Zero);
        await PeerWorld.UntilAsync(() => server.ConnectedHellos("node-1").Count == 0);
    }

    [Test]
    public async Task A_quiet_link_is_kept_alive_by_pings_and_their_time_is_measured()
    {
        await using PeerWorld world = new(kind);
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync(with: options => options with { HeartbeatInterval = TimeSpan.FromMilliseconds(10) });
        server.SetAddress("node-1", client.ListenEndPoint!);

        await PeerWorld.UntilAsync(() => client.GetStatistics("node-2")!.Value.RoundTrip > TimeSpan.Zero);
        long heardByClient = client.LastHeard("node-2"), heardByServer = server.LastHeard("node-1");
        await PeerWorld.UntilAsync(() => client.LastHeard("node-2") > heardByClient && server.LastHeard("node-1") > heardByServer);

        PeerLinkStatistics statistics = client.GetStatistics("node-2")!.Value;
        Assert.That(client.LastHeard("node-2"), Is.LessThanOrEqualTo(Stopwatch.GetTimestamp()));
        Assert.That(statistics.Connects, Is.EqualTo(1));
        Assert.That(statistics.BytesSent, Is.GreaterThan(0));
        Assert.That(statistics.FramesReceived, Is.GreaterThan(0));
    }

    [Test]
    public async Task The_hellos_of_connected_peers_can_be_looked_up()
    {
        await using PeerWorld world = new(kind);
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync();

        await PeerWorld.UntilAsync(() => server.ConnectedHellos("node-1").Count == 1);
        Assert.That(server.ConnectedHellos("node-1")[0], Is.EqualTo(PeerWorld.Hello("node-1")));
        Assert.That(client.ConnectedHellos("node-2"), Is.EqualTo(new[] { PeerWorld.Hello("node-2") }));
        Assert.That(client.ConnectedHellos("node-9"), Is.Empty);
    }

    private static byte[] RandomBytes(int bytes)
    {
        byte[] random = new byte[bytes];
        new Random(bytes).NextBytes(random);
        return random;
    }
}
