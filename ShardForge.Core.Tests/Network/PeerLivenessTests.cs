using Microsoft.Extensions.Time.Testing;
using NUnit.Framework;
using ShardForge.Network;

namespace ShardForge.Tests.Network;

/// <summary>Time limits, heartbeats and reconnects, on a clock of the test.</summary>
[Parallelizable(ParallelScope.All)]
public sealed class PeerLivenessTests
{
    [Test]
    public async Task A_half_open_link_is_torn_down_by_the_alarm_and_its_requests_fail()
    {
        FakeTimeProvider time = new();
        await using PeerWorld world = new(TransportKind.FaultyInMemory, time);
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync(with: options => options with { SilenceAlarm = TimeSpan.FromSeconds(1) });
        await PeerWorld.UntilAsync(() => server.ConnectedHellos("node-1").Count == 1);

        // What the client says arrives; what the server answers does not.
        world.Faults.BlockLink(1, 0);
        Task<byte[]> asked = client.AskAsync("node-2", default);
        await AdvanceUntilAsync(time, () => asked.IsCompleted);

        PeerUnavailableException error = Assert.ThrowsAsync<PeerUnavailableException>(() => asked)!;
        Assert.That((error.Failure, error.MayHaveLeft), Is.EqualTo((PeerFailure.LinkLost, true)));
        Assert.That(error.Message, Does.Contain("1,000 ms"));
        await PeerWorld.UntilAsync(() => !client.IsConnected("node-2"));

        world.Faults.Heal();
        await AdvanceUntilAsync(time, () => client.IsConnected("node-2"));
    }

    [Test]
    public async Task A_peer_that_went_silent_loses_its_incoming_connection_too()
    {
        FakeTimeProvider time = new();
        await using PeerWorld world = new(TransportKind.FaultyInMemory, time);
        (_, PeerNetwork server) = await world.PairAsync(with: options => options with { SilenceAlarm = TimeSpan.FromSeconds(1) });
        await PeerWorld.UntilAsync(() => server.ConnectedHellos("node-1").Count == 1);

        world.Faults.BlockLink(0, 1);

        await AdvanceUntilAsync(time, () => server.ConnectedHellos("node-1").Count == 0);
    }

    [Test]
    public async Task A_quiet_link_outlives_the_alarm()
    {
        FakeTimeProvider time = new();
        await using PeerWorld world = new(TransportKind.InMemory, time);
        (PeerNetwork client, _) = await world.PairAsync(with: options => options with { SilenceAlarm = TimeSpan.FromSeconds(1) });

        for (int tick = 0; tick < 50; tick++)
        {
            long received = client.GetStatistics("node-2")!.Value.FramesReceived;
            time.Advance(TimeSpan.FromMilliseconds(100));
            await PeerWorld.UntilAsync(() => client.GetStatistics("node-2")!.Value.FramesReceived > received);
        }

        Assert.That(client.GetStatistics("node-2")!.Value.Connects, Is.EqualTo(1));
    }

    [Test]
    public async Task A_request_ends_at_its_time_limit_and_not_before()
    {
        FakeTimeProvider time = new();
        await using PeerWorld world = new(TransportKind.InMemory, time);
        (PeerNetwork client, _) = await world.PairAsync(new Gate());
        Task<byte[]> late = client.AskAsync("node-2", default, timeout: TimeSpan.FromMilliseconds(700));
        Task<byte[]> early = client.AskAsync("node-2", default, timeout: TimeSpan.FromMilliseconds(300));

        time.Advance(TimeSpan.FromMilliseconds(299));
        Assert.That((early.IsCompleted, late.IsCompleted), Is.EqualTo((false, false)));
        time.Advance(TimeSpan.FromMilliseconds(2));
        Assert.That(Assert.ThrowsAsync<PeerUnavailableException>(() => early)!.Failure, Is.EqualTo(PeerFailure.TimedOut));
        time.Advance(TimeSpan.FromMilliseconds(398));
        Assert.That(late.IsCompleted, Is.False);
        time.Advance(TimeSpan.FromMilliseconds(2));
        Assert.That(Assert.ThrowsAsync<PeerUnavailableException>(() => late)!.Failure, Is.EqualTo(PeerFailure.TimedOut));
    }

    [Test]
    public async Task A_request_that_waits_for_its_link_has_not_left_when_its_time_is_up()
    {
        FakeTimeProvider time = new();
        await using PeerWorld world = new(TransportKind.FaultyInMemory, time);
        PeerNetwork client = world.Add("node-1"), server = world.Add("node-2");
        world.Faults.BlockLink(0, 1);
        client.SetAddress("node-2", server.ListenEndPoint!);

        Task<byte[]> asked = client.AskAsync("node-2", default, timeout: TimeSpan.FromMilliseconds(300));
        await AdvanceUntilAsync(time, () => asked.IsCompleted);

        PeerUnavailableException error = Assert.ThrowsAsync<PeerUnavailableException>(() => asked)!;
        Assert.That((error.Failure, error.MayHaveLeft), Is.EqualTo((PeerFailure.TimedOut, false)));
    }

    [Test]
    public async Task A_connection_that_hangs_is_given_up_at_its_time_limit()
    {
        FakeTimeProvider time = new();
        await using PeerWorld world = new(TransportKind.FaultyInMemory, time);
        PeerNetwork client = world.Add("node-1", with: options => options with { ConnectTimeout = TimeSpan.FromMilliseconds(500) }), server = world.Add("node-2");
        world.Faults.BlockLink(1, 0);

        Task<HandshakeHello> probe = client.ProbeAsync(server.ListenEndPoint!, PeerWorld.Patience).AsTask();
        await AdvanceUntilAsync(time, () => probe.IsCompleted);

        Assert.That(Assert.ThrowsAsync<PeerUnavailableException>(() => probe)!.Message, Does.Contain("500 ms"));
    }

    [Test]
    public async Task A_frozen_clock_does_not_hold_up_a_dispose()
    {
        FakeTimeProvider time = new();
        PeerWorld world = new(TransportKind.FaultyTcp, time);
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync();
        world.Faults.BlockLink(0, 1);
        world.Faults.BlockLink(1, 0);
        client.SetAddress("node-3", PeerWorld.AnyPort);

        await client.DisposeAsync().AsTask().WaitAsync(PeerWorld.Patience);
        await server.DisposeAsync().AsTask().WaitAsync(PeerWorld.Patience);
        await world.DisposeAsync();
    }

    [Test]
    public void Reconnects_wait_longer_and_longer_up_to_a_cap_with_jitter()
    {
        PeerNetworkOptions options = new()
        {
            Transport = new TcpTransport(),
            LocalHello = () => PeerWorld.Hello("node-1"),
            Policy = new SameClusterPolicy(),
            ReconnectDelayMin = TimeSpan.FromMilliseconds(20),
            ReconnectDelayMax = TimeSpan.FromMilliseconds(500),
        };
        PeerDialer dialer = new(options, CancellationToken.None);

        Assert.That(dialer.ReconnectDelay(0), Is.EqualTo(TimeSpan.Zero));
        for (int failures = 1; failures < 100; failures++)
        {
            double most = Math.Min(500, 20 * Math.Pow(2, failures - 1));
            Assert.That(dialer.ReconnectDelay(failures).TotalMilliseconds, Is.InRange(most / 2, most));
        }

        Assert.That(Enumerable.Range(0, 20).Select(_ => dialer.ReconnectDelay(30)), Is.Unique);
    }

    private static Task AdvanceUntilAsync(FakeTimeProvider time, Func<bool> condition) => PeerWorld.UntilAsync(() =>
    {
        if (condition())
            return true;
        time.Advance(TimeSpan.FromMilliseconds(20));
        return condition();
    });
}
