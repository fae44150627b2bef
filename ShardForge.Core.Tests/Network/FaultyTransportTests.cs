using NUnit.Framework;
using ShardForge.Network;
using ShardForge.Testing.Network;

namespace ShardForge.Tests.Network;

[TestFixture(TransportKind.FaultyInMemory)]
[TestFixture(TransportKind.FaultyTcp)]
[Parallelizable(ParallelScope.All)]
public sealed class FaultyTransportTests(TransportKind kind)
{
    [Test]
    public async Task A_blocked_direction_holds_what_is_sent_until_it_is_healed()
    {
        await using PeerWorld world = new(kind);
        Handler handler = new((request, _) => new(PeerReply.Copy(request.Payload.Span)));
        (PeerNetwork client, _) = await world.PairAsync(handler);

        world.Faults.BlockLink(0, 1);
        Task<byte[]> request = client.AskAsync("node-2", "held"u8.ToArray());
        Assert.That((handler.Calls, request.IsCompleted), Is.EqualTo((0, false)));
        world.Faults.Heal();

        Assert.That(await request, Is.EqualTo("held"u8.ToArray()));
        Assert.That(client.GetStatistics("node-2")!.Value.Connects, Is.EqualTo(1));
    }

    [Test]
    public async Task The_opposite_direction_of_a_blocked_one_goes_on()
    {
        await using PeerWorld world = new(kind);
        Handler handler = new((request, _) => new(PeerReply.Copy(request.Payload.Span)));
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync(handler);
        server.SetAddress("node-1", client.ListenEndPoint!);
        await PeerWorld.UntilAsync(() => server.IsConnected("node-1"));

        world.Faults.BlockLink(1, 0);
        Task<byte[]> request = client.AskAsync("node-2", "answered in vain"u8.ToArray());
        await PeerWorld.UntilAsync(() => handler.Calls == 1);
        Assert.That(request.IsCompleted, Is.False);

        world.Faults.Heal();
        Assert.That(await request, Is.EqualTo("answered in vain"u8.ToArray()));
    }

    [Test]
    public async Task A_partition_separates_groups_and_replaces_an_earlier_one()
    {
        await using PeerWorld world = new(kind);
        PeerNetwork[] nodes = [world.Add("n0"), world.Add("n1"), world.Add("n2"), world.Add("n3")];
        foreach (PeerNetwork node in nodes)
        {
            foreach (PeerNetwork other in nodes)
            {
                if (other != node)
                    node.SetAddress(other.NodeId, other.ListenEndPoint!);
            }
        }

        // Those not named are one more group.
        world.Faults.Partition([0], [1, 2]);
        Assert.That(Blocked(world.Faults), Is.EqualTo("01 02 03 10 13 20 23 30 31 32"));
        Assert.That(await nodes[1].AskAsync("n2", "x"u8.ToArray()), Is.EqualTo("x"u8.ToArray()));
        Assert.ThrowsAsync<PeerUnavailableException>(() => nodes[0].AskAsync("n1", default, timeout: TimeSpan.FromMilliseconds(50)));

        world.Faults.Partition([0, 3]);
        Assert.That(Blocked(world.Faults), Is.EqualTo("01 02 10 13 20 23 31 32"));

        world.Faults.Heal();
        Assert.That(Blocked(world.Faults), Is.Empty);
        foreach (PeerNetwork node in nodes)
            await PeerWorld.UntilAsync(() => nodes.Where(other => other != node).All(other => node.IsConnected(other.NodeId)));
    }

    [Test]
    public async Task A_killed_node_behind_a_block_is_not_noticed_before_the_alarm()
    {
        await using PeerWorld world = new(kind);
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync();
        world.Faults.Partition([0], [1]);
        Task<byte[]> request = client.AskAsync("node-2", "lost"u8.ToArray());

        server.Kill();
        await server.DisposeAsync();

        Assert.That((client.IsConnected("node-2"), request.IsCompleted), Is.EqualTo((true, false)));
        world.Faults.Heal();
        Assert.That(Assert.ThrowsAsync<PeerUnavailableException>(() => request)!.MayHaveLeft, Is.True);
    }

    [Test]
    public async Task A_delay_holds_every_frame_that_long_and_keeps_their_order()
    {
        Microsoft.Extensions.Time.Testing.FakeTimeProvider time = new();
        await using PeerWorld world = new(kind, time);
        List<int> arrived = [];
        (PeerNetwork client, _) = await world.PairAsync(new Handler((request, _) =>
        {
            lock (arrived)
                arrived.Add(request.Payload.Span[0]);
            return new(PeerReply.Empty);
        }));

        world.Faults.DelayLinks(TimeSpan.FromSeconds(5));
        for (int i = 0; i < 10; i++)
            client.TrySend("node-2", PeerService.Shard, PeerBuffer.Copy([(byte)i]), PeerPriority.Request);
        time.Advance(TimeSpan.FromSeconds(4));
        Assert.That(arrived, Is.Empty);

        // The frames have set out at different moments, of which the clock of the test knows only some.
        await PeerWorld.UntilAsync(() =>
        {
            time.Advance(TimeSpan.FromMilliseconds(500));
            lock (arrived)
                return arrived.Count == 10;
        });
        Assert.That(arrived, Is.Ordered);
        world.Faults.Heal();
        Task<byte[]> quick = client.AskAsync("node-2", new byte[] { 99 });
        await PeerWorld.UntilAsync(() =>
        {
            time.Advance(TimeSpan.FromMilliseconds(100));
            return quick.IsCompleted;
        });
        await quick;
    }

    [Test]
    public async Task A_cut_breaks_open_connections_and_new_ones_may_be_opened()
    {
        await using PeerWorld world = new(kind);
        Gate gate = new();
        (PeerNetwork client, _) = await world.PairAsync(gate);
        Task<byte[]> request = client.AskAsync("node-2", default);
        await PeerWorld.UntilAsync(() => gate.Waiting == 1);

        world.Faults.Cut(1, 0);

        Assert.That(Assert.ThrowsAsync<PeerUnavailableException>(() => request)!.MayHaveLeft, Is.True);
        await PeerWorld.UntilAsync(() => client.GetStatistics("node-2")!.Value.Connects == 2);
        gate.Open();
        await client.AskAsync("node-2", default);
    }

    [Test]
    public async Task R22_frames_that_are_lost_or_come_twice_never_let_a_request_be_handled_twice()
    {
        await using PeerWorld world = new(kind, seed: 4_711);
        HashSet<int> handled = [];
        int twice = 0;
        (PeerNetwork client, _) = await world.PairAsync(new Handler((request, _) =>
        {
            lock (handled)
                twice += handled.Add(BitConverter.ToInt32(request.Payload.Span)) ? 0 : 1;
            return new(PeerReply.Copy(request.Payload.Span));
        }), options => options with { ReconnectDelayMax = TimeSpan.FromMilliseconds(20), HeartbeatInterval = TimeSpan.FromMilliseconds(20) });
        world.Faults.DamageFrames(dropProbability: 0.05, duplicateProbability: 0.2);

        // A lost last frame shows only by what follows it, so the callers go on side by side.
        int answered = 0;
        await Task.WhenAll(Enumerable.Range(0, 8).Select(async caller =>
        {
            for (int call = 0; call < 40; call++)
            {
                int number = (caller * 1_000) + call;
                try
                {
                    await client.AskAsync("node-2", BitConverter.GetBytes(number), timeout: TimeSpan.FromMilliseconds(500));
                    Interlocked.Increment(ref answered);
                }
                catch (PeerUnavailableException)
                {
                    await PeerWorld.UntilAsync(() => client.IsConnected("node-2"));
                }
            }
        }));

        PeerLinkStatistics statistics = client.GetStatistics("node-2")!.Value;
        Assert.That(twice, Is.Zero);
        Assert.That(answered, Is.GreaterThan(0));
        Assert.That(statistics.Connects, Is.GreaterThan(1), "a lost frame breaks the link");
        Assert.That(statistics.DuplicatesDropped, Is.GreaterThan(0));
    }

    private static string Blocked(NetworkFaults faults)
    {
        List<string> pairs = [];
        for (int from = 0; from < 4; from++)
        {
            for (int to = 0; to < 4; to++)
            {
                if (faults.IsBlocked(from, to))
                    pairs.Add($"{from}{to}");
            }
        }

        return string.Join(' ', pairs);
    }
}
