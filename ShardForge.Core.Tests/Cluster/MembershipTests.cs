using ShardForge.Testing;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>Nodes that come, go and come back empty while clients write.</summary>
[Parallelizable(ParallelScope.All)]
public sealed class MembershipTests
{
    [Test]
    public async Task One_node_grows_to_three_replicas_while_clients_write()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { Nodes = 1 });
        await using SteadyWriter writer = new(cluster);
        await writer.AdvanceAsync(20);

        await cluster.AddNodeAsync();
        await cluster.AddNodeAsync();
        await UntilPlacedAsync(cluster, 0, replicas: 3, metadataReplicas: 3);
        await writer.AdvanceAsync(20);

        // What one node held alone survives the loss of that node.
        await cluster.KillAsync(0);
        await writer.AdvanceAsync(20);
        await writer.CheckAsync(1);
        await cluster.RestartAsync(0);
        Assert.That(await ScanAsync(cluster[0], KeyRange.All), Is.EqualTo(await ScanAsync(cluster[2], KeyRange.All)));
    }

    [Test]
    public async Task A_fourth_node_takes_its_share_of_replicas_and_leaders()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { ShardCount = 8 });
        await using SteadyWriter writer = new(cluster);
        await writer.AdvanceAsync(20);

        await cluster.AddNodeAsync();
        await UntilAsync(() => Counts(cluster, 0).Values.All(static count => count == 6), "six replicas on each of four nodes");
        await UntilPlacedAsync(cluster, 0, replicas: 3, metadataReplicas: 3);
        await UntilAsync(() => Leaders(cluster, 0).Count == 4 && Leaders(cluster, 0).Values.All(static count => count == 2), "two leaders on each of four nodes");
        await writer.CheckAsync(3);
    }

    [Test]
    public async Task A_removed_node_gives_its_replicas_away_and_says_so()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { Nodes = 4 });
        await using SteadyWriter writer = new(cluster);
        await writer.AdvanceAsync(20);

        await cluster[1].RemoveNodeAsync("node-1").WaitAsync(TimeSpan.FromSeconds(30));
        await cluster[1].RemoveNodeAsync("node-1").WaitAsync(TimeSpan.FromSeconds(30));

        await UntilPlacedAsync(cluster, 1, replicas: 3, metadataReplicas: 3);
        Assert.That(Counts(cluster, 1), Does.Not.ContainKey("node-1"));
        Assert.That(cluster[1].GetStatus().Nodes.Select(static node => node.NodeId), Is.EqualTo(new[] { "node-2", "node-3", "node-4" }));
        await UntilAsync(() => cluster[0].GetStatus().Problems.Any(static problem => problem.Contains("taken out", StringComparison.Ordinal)), "the removed node to say so");
        ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(() => cluster[0].WaitUntilReadyAsync());
        Assert.That(error!.Message, Does.Contain("node-1"));
        await cluster.KillAsync(0);
        await writer.AdvanceAsync(20);
        await writer.CheckAsync(2);
    }

    [Test]
    public async Task A_node_that_is_down_for_good_can_be_removed()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync();
        await using SteadyWriter writer = new(cluster);
        await writer.AdvanceAsync(20);
        await cluster.KillAsync(2);

        await cluster[0].RemoveNodeAsync("node-3").WaitAsync(TimeSpan.FromSeconds(30));
        await UntilPlacedAsync(cluster, 0, replicas: 2, metadataReplicas: 1);
        await writer.AdvanceAsync(20);
        Assert.That(cluster[1].GetStatus().Health, Is.EqualTo(ClusterHealth.Healthy), string.Join(' ', cluster[1].GetStatus().Problems));

        // What it had is of no use any more, and it says so when it comes back.
        Assert.That(async () => await cluster.RestartAsync(2), Throws.InstanceOf<ConfigurationException>());
        await cluster.KillAsync(2);
        await writer.CheckAsync(1);
    }

    [Test]
    public async Task A_removal_that_cannot_be_is_refused()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { Nodes = 1 });
        Assert.That(async () => await cluster[0].RemoveNodeAsync("node-9"), Throws.ArgumentException);
        Assert.That(async () => await cluster[0].RemoveNodeAsync("node-1"), Throws.InvalidOperationException);
        Assert.That(async () => await cluster[0].RemoveNodeAsync(""), Throws.ArgumentException);
        await cluster[0].PutAsync(Bytes("k"), Bytes("v"));
    }

    [Test]
    public async Task R38_A_wiped_node_comes_back_in_its_own_place([Values(0, 2)] int victim)
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync();
        await using SteadyWriter writer = new(cluster);
        await writer.AdvanceAsync(20);
        long[] before = ReplicasOn(cluster, 1, victim);
        await cluster.KillAsync(victim);
        await writer.AdvanceAsync(20);

        await cluster.WipeAsync(victim);
        await cluster.RestartAsync(victim);
        await UntilAsync(() => ReplicasOn(cluster, 1, victim) is var now && now.Length == before.Length && !now.Intersect(before).Any(), "other replicas in the place of those that are lost");
        await UntilPlacedAsync(cluster, 1, replicas: 3, metadataReplicas: 3);

        // It counts again: another one may go.
        await cluster.KillAsync(1);
        await writer.AdvanceAsync(20);
        await writer.CheckAsync(victim);
    }

    [Test]
    public async Task A_rolling_restart_under_load_fails_no_call()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { ShardCount = 6 });
        await using SteadyWriter writer = new(cluster, writers: 4);
        for (int node = 0; node < 3; node++)
        {
            await writer.AvoidAsync(node);
            await cluster.StopAsync(node);
            await writer.AdvanceAsync(20);
            await cluster.RestartAsync(node);
            await writer.AvoidAsync(-1);
        }

        Assert.That(writer.Failed, Is.Zero, writer.LastFailure);
        await writer.CheckAsync(1);

        // And each node leads its share again.
        await UntilAsync(() => Leaders(cluster, 0) is var leaders && leaders.Count == 3 && leaders.Values.All(static count => count == 2), "two leaders on each of three nodes");
    }

    [Test]
    public async Task Joins_and_removals_go_on_under_kills([Values(1, 2)] int seed)
    {
        Random random = new(seed);
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { Seed = seed });
        await using SteadyWriter writer = new(cluster);
        await writer.AdvanceAsync(10);
        await cluster.AddNodeAsync();
        for (int round = 0; round < 3; round++)
        {
            int victim = random.Next(4);
            await (random.Next(2) == 0 ? cluster.KillAsync(victim) : cluster.PowerCutAsync(victim));
            await writer.AdvanceAsync(10);
            await cluster.RestartAsync(victim);
        }

        Task removal = cluster[3].RemoveNodeAsync("node-2");
        int other = random.Next(2) == 0 ? 0 : 2;
        await cluster.KillAsync(other);
        await writer.AdvanceAsync(10);
        await cluster.RestartAsync(other);
        await removal.WaitAsync(TimeSpan.FromSeconds(60));
        await UntilPlacedAsync(cluster, 0, replicas: 3, metadataReplicas: 3);
        await cluster.KillAsync(1);
        await writer.CheckAsync(0);
    }

    private static async Task UntilPlacedAsync(ShardForgeTestCluster cluster, int node, int replicas, int metadataReplicas) =>
        await UntilAsync(
            () => cluster[node].GetStatus() is var status
                && status.Shards.All(shard => shard.Replicas.Count == replicas && shard.Replicas.Select(static replica => replica.NodeId).Distinct().Count() == replicas)
                && status.Metadata!.Replicas.Count == metadataReplicas,
            $"{replicas} replicas of each shard and {metadataReplicas} of the metadata");

    private static Dictionary<string, int> Counts(ShardForgeTestCluster cluster, int node) =>
        cluster[node].GetStatus().Shards.SelectMany(static shard => shard.Replicas).GroupBy(static replica => replica.NodeId).ToDictionary(static group => group.Key, static group => group.Count());

    private static Dictionary<string, int> Leaders(ShardForgeTestCluster cluster, int node) =>
        cluster[node].GetStatus().Shards.Where(static shard => shard.LeaderNodeId is not null).GroupBy(static shard => shard.LeaderNodeId!)
            .ToDictionary(static group => group.Key, static group => group.Count());

    private static long[] ReplicasOn(ShardForgeTestCluster cluster, int node, int of) =>
        [.. cluster[node].GetStatus().Shards.SelectMany(static shard => shard.Replicas).Where(replica => replica.NodeId == $"node-{of + 1}").Select(static replica => replica.ReplicaId)];
}
