using ShardForge.Storage;
using ShardForge.Testing;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>Three nodes in one process, over the public surface.</summary>
[Parallelizable(ParallelScope.All)]
public sealed class TestClusterTests
{
    [Test]
    public async Task What_one_node_writes_every_node_reads([Values] TestTransport transport)
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { Transport = transport });

        for (int i = 0; i < 30; i++)
            await cluster[i % 3].PutAsync(Bytes($"k{i:D2}"), Bytes($"v{i}"));

        for (int node = 0; node < cluster.Count; node++)
        {
            for (int i = 0; i < 30; i++)
                Assert.That(Text(await cluster[node].GetAsync(Bytes($"k{i:D2}"))), Is.EqualTo($"v{i}"));
            Assert.That(await ScanAsync(cluster[node], KeyRange.All), Has.Count.EqualTo(30));
        }
    }

    [Test]
    public async Task Leaders_are_spread_over_the_nodes()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { ShardCount = 6 });

        string?[] leaders = [.. cluster[0].GetStatus().Shards.Select(static shard => shard.LeaderNodeId)];

        Assert.That(leaders.Distinct().Count(), Is.EqualTo(3), string.Join(", ", leaders));
    }

    [Test]
    public async Task A_killed_node_costs_no_acknowledged_write_and_comes_back([Values(0, 1, 2)] int victim)
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync();
        int other = (victim + 1) % 3;
        for (int i = 0; i < 20; i++)
            await cluster[victim].PutAsync(Bytes($"a{i:D2}"), Bytes("before"));

        await cluster.KillAsync(victim);
        await cluster.KillAsync(victim);
        Assert.Throws<InvalidOperationException>(() => _ = cluster[victim]);
        for (int i = 0; i < 20; i++)
            await cluster[other].PutAsync(Bytes($"b{i:D2}"), Bytes("while it was down"));
        await cluster.RestartAsync(victim);

        Assert.That(await ScanAsync(cluster[victim], KeyRange.All), Has.Count.EqualTo(40));
        Assert.That(async () => await cluster.RestartAsync(victim), Throws.InstanceOf<InvalidOperationException>());
    }

    [Test]
    public async Task A_rolling_stop_and_restart_loses_nothing()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync();
        for (int node = 0; node < 3; node++)
        {
            await cluster[(node + 1) % 3].PutAsync(Bytes($"k{node}"), Bytes("v"));
            await cluster.StopAsync(node);
            await cluster[(node + 1) % 3].PutAsync(Bytes($"l{node}"), Bytes("v"));
            await cluster.RestartAsync(node);
        }

        for (int node = 0; node < 3; node++)
            Assert.That(await ScanAsync(cluster[node], KeyRange.All), Has.Count.EqualTo(6));
    }

    [Test]
    public async Task All_nodes_killed_at_once_hold_every_acknowledged_write_afterwards([Values("lsm", "sqlite", "memory")] string engine, [Values] bool powerCut)
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new()
        {
            Seed = 4711,
            StorageEngine = engine switch { "lsm" => StorageEngines.Lsm(), "sqlite" => StorageEngines.Sqlite(), _ => StorageEngines.InMemory() },
        });
        int acknowledged = 0;
        using CancellationTokenSource stop = new();
        Task writer = Task.Run(async () =>
        {
            try
            {
                for (int i = 0; ; i++)
                {
                    await cluster[i % 3].PutAsync(Bytes($"k{i:D5}"), Bytes($"v{i}"));
                    Volatile.Write(ref acknowledged, i + 1);
                }
            }
            catch (Exception error) when (error is ShardForgeException or ObjectDisposedException or InvalidOperationException)
            {
            }
        });
        await UntilAsync(() => Volatile.Read(ref acknowledged) >= 100, "a hundred writes");

        await Task.WhenAll(Enumerable.Range(0, 3).Select(node => powerCut ? cluster.PowerCutAsync(node) : cluster.KillAsync(node)));
        await writer;
        await Task.WhenAll(Enumerable.Range(0, 3).Select(node => cluster.RestartAsync(node)));

        for (int i = 0; i < acknowledged; i++)
            Assert.That(Text(await cluster[i % 3].GetAsync(Bytes($"k{i:D5}"))), Is.EqualTo($"v{i}"), $"write {i} of {acknowledged}");
    }

    [Test]
    public async Task A_node_cut_off_refuses_and_the_others_go_on()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { OperationTimeout = TimeSpan.FromSeconds(3) });
        byte[] key = Bytes("k");
        await cluster[0].PutAsync(key, Bytes("1"));
        int leader = cluster.LeaderOf(key);
        Assert.That(leader, Is.InRange(0, 2));

        cluster.Partition([leader]);
        int other = (leader + 1) % 3;
        await cluster[other].PutAsync(key, Bytes("2"));

        Assert.That(Text(await cluster[other].GetAsync(key)), Is.EqualTo("2"));
        Assert.ThrowsAsync<ShardUnavailableException>(async () => await cluster[leader].GetAsync(key), "a stale read would be worse");
        cluster.Heal();
        Assert.That(Text(await cluster[leader].GetAsync(key)), Is.EqualTo("2"));
    }

    [Test]
    public async Task Without_a_majority_writes_are_refused_within_their_time()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { OperationTimeout = TimeSpan.FromSeconds(1) });
        await cluster[0].PutAsync(Bytes("k"), Bytes("1"));
        await cluster.KillAsync(1);
        await cluster.KillAsync(2);

        ShardForgeException? error = Assert.CatchAsync<ShardForgeException>(async () => await cluster[0].PutAsync(Bytes("k"), Bytes("2")));

        Assert.That(error, Is.InstanceOf<ShardUnavailableException>().Or.InstanceOf<OutcomeUnknownException>());
        await cluster.RestartAsync(1);
        await cluster[0].PutAsync(Bytes("k"), Bytes("3"));
        Assert.That(Text(await cluster[1].GetAsync(Bytes("k"))), Is.EqualTo("3"));
    }

    [Test]
    public async Task A_one_way_block_does_not_stop_the_cluster([Values(0, 1, 2)] int from, [Values(1, 2)] int distance)
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { OperationTimeout = TimeSpan.FromSeconds(10) });
        int to = (from + distance) % 3;

        cluster.BlockLink(from, to);
        for (int i = 0; i < 8; i++)
            await cluster[i % 3].PutAsync(Bytes($"k{i}"), Bytes("v"));
        for (int i = 0; i < 8; i++)
            Assert.That(Text(await cluster[(i + 1) % 3].GetAsync(Bytes($"k{i}"))), Is.EqualTo("v"), $"k{i}, seed {cluster.Seed}");
        cluster.Heal();

        Assert.That(await ScanAsync(cluster[to], KeyRange.All), Has.Count.EqualTo(8));
    }

    [Test]
    public async Task Delayed_links_slow_the_cluster_down_and_no_more()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync();

        cluster.DelayLinks(TimeSpan.FromMilliseconds(10));
        for (int i = 0; i < 5; i++)
            await cluster[i % 3].PutAsync(Bytes($"k{i}"), Bytes("v"));
        cluster.Heal();

        Assert.That(await ScanAsync(cluster[0], KeyRange.All), Has.Count.EqualTo(5));
    }

    [Test]
    public async Task Links_slower_than_the_usual_election_timeout_still_carry_elections_and_writes()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { OperationTimeout = TimeSpan.FromSeconds(20) });

        cluster.DelayLinks(TimeSpan.FromMilliseconds(75));
        for (int i = 0; i < 3; i++)
            await cluster[i % 3].PutAsync(Bytes($"k{i}"), Bytes("v"));
        int leader = cluster.LeaderOf(Bytes("k3"));
        Assert.That(leader, Is.Not.Negative, $"seed {cluster.Seed}");
        await cluster.KillAsync(leader);
        await cluster[(leader + 1) % 3].PutAsync(Bytes("k3"), Bytes("v"));
        await cluster.RestartAsync(leader);
        cluster.Heal();

        Assert.That(await ScanAsync(cluster[leader], KeyRange.All), Has.Count.EqualTo(4), $"seed {cluster.Seed}");
    }

    [Test]
    public async Task Increments_by_compare_and_set_from_all_nodes_are_all_counted_over_kills()
    {
        const int Workers = 3, Rounds = 40;
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { OperationTimeout = TimeSpan.FromSeconds(15) });
        byte[] key = Bytes("counter");
        await cluster[0].PutAsync(key, BitConverter.GetBytes(0));
        int unknown = 0, done = 0;
        Task[] workers = [.. Enumerable.Range(0, Workers).Select(worker => Task.Run(async () =>
        {
            for (int i = 0; i < Rounds;)
            {
                try
                {
                    ShardForgeCluster node = cluster[0];
                    byte[] was = (await node.GetAsync(key))!;
                    if (await node.CompareAndSetAsync(key, was, BitConverter.GetBytes(BitConverter.ToInt32(was) + 1)))
                    {
                        i++;
                        Interlocked.Increment(ref done);
                    }
                }
                catch (OutcomeUnknownException)
                {
                    i++;
                    Interlocked.Increment(ref unknown);
                }
                catch (ShardForgeException error) when (error.IsTransient)
                {
                }
            }
        }))];
        await UntilAsync(() => Volatile.Read(ref done) > 20, "twenty increments");
        int victim = cluster.LeaderOf(key) is > 0 and int leader ? leader : 1;
        await cluster.KillAsync(victim);
        await UntilAsync(() => Volatile.Read(ref done) > 60, "sixty increments");
        await cluster.RestartAsync(victim);
        await Task.WhenAll(workers);

        int count = BitConverter.ToInt32((await cluster[victim].GetAsync(key))!);
        Assert.That(count, Is.InRange(done, done + unknown));
    }

    [Test]
    public async Task Replicas_can_be_fewer_than_nodes([Values(1, 2)] int replicationFactor)
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { ReplicationFactor = replicationFactor, ShardCount = 6 });
        for (int i = 0; i < 30; i++)
            await cluster[i % 3].PutAsync(Bytes($"k{i:D2}"), Bytes("v"));

        for (int node = 0; node < 3; node++)
            Assert.That(await ScanAsync(cluster[node], KeyRange.All), Has.Count.EqualTo(30));
    }

    [Test]
    public async Task One_node_and_five_nodes_are_clusters_too([Values(1, 5)] int nodes)
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { Nodes = nodes, ShardCount = 2 });
        await cluster[nodes - 1].PutAsync(Bytes("k"), Bytes("v"));

        Assert.That(Text(await cluster[0].GetAsync(Bytes("k"))), Is.EqualTo("v"));
    }

    [Test]
    public async Task A_write_in_flight_on_a_node_that_is_killed_is_unknown_or_acknowledged()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync();
        ShardForgeCluster node = cluster[0];
        Task[] writes = [.. Enumerable.Range(0, 200).Select(i => node.PutAsync(Bytes($"k{i}"), Bytes("v")).AsTask())];

        await cluster.KillAsync(0);

        foreach (Task write in writes)
        {
            try
            {
                await write.WaitAsync(TimeSpan.FromSeconds(30));
            }
            catch (Exception error) when (error is OutcomeUnknownException or ObjectDisposedException)
            {
            }
        }

        Assert.ThrowsAsync<ObjectDisposedException>(async () => await node.GetAsync(Bytes("k")));
    }
}
