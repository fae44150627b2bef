using NUnit.Framework;
using ShardForge.Metadata;

namespace ShardForge.Tests.Metadata;

[Parallelizable(ParallelScope.All)]
internal sealed class MetadataServiceTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(20);

    [Test]
    public async Task A_node_that_is_alone_is_formed_when_it_is_started()
    {
        await using MetadataNodes nodes = new();
        MetadataService service = await nodes.StartAsync(1, static options => options with { Link = null });
        Assert.That(service.Formed.IsCompletedSuccessfully);
        Assert.That(service.State.Shards, Has.Count.EqualTo(4));
        Assert.That(service.State.ReplicasOn("n1"), Has.Count.EqualTo(5));
        Timestamp first = await NextAsync(service);
        Assert.That(await NextAsync(service), Is.GreaterThan(first));
    }

    [Test]
    public async Task Three_nodes_form_one_cluster_and_all_get_rising_timestamps()
    {
        await using MetadataNodes nodes = new();
        await StartThreeAsync(nodes);
        ClusterState[] records = await Task.WhenAll(nodes.Services.Select(static service => service.Formed)).WaitAsync(s_limit);
        Assert.That(records.Select(static record => record.ClusterId).Distinct().Count(), Is.EqualTo(1));
        Timestamp last = Timestamp.Zero;
        for (int round = 0; round < 5; round++)
        {
            foreach (MetadataService service in nodes.Services)
            {
                Timestamp next = await NextAsync(service);
                Assert.That(next, Is.GreaterThan(last));
                last = next;
            }
        }
    }

    [Test]
    public async Task R01_timestamps_rise_over_a_change_of_leader()
    {
        await using MetadataNodes nodes = new();
        await StartThreeAsync(nodes);
        int leader = await nodes.WaitForLeaderAsync();
        Timestamp before = Timestamp.Zero;
        foreach (MetadataService service in nodes.Services)
            before = await NextAsync(service);

        await nodes.KillAsync(leader);
        foreach (MetadataService service in nodes.Services)
        {
            Timestamp after = await NextAsync(service);
            Assert.That(after, Is.GreaterThan(before));
            before = after;
        }
    }

    private static async Task StartThreeAsync(MetadataNodes nodes)
    {
        for (int number = 1; number <= 3; number++)
            await nodes.StartAsync(number, static options => options with { Members = MetadataNodes.Members(3) });
    }

    private static async Task<Timestamp> NextAsync(MetadataService service)
    {
        using CancellationTokenSource limit = new(s_limit);
        return await service.Timestamps.NextAsync(limit.Token);
    }
}
