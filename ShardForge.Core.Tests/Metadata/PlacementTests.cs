using NUnit.Framework;
using ShardForge.Consensus;
using ShardForge.Metadata;

namespace ShardForge.Tests.Metadata;

[Parallelizable(ParallelScope.All)]
internal sealed class PlacementTests
{
    [Test]
    public void Replicas_and_leaders_are_spread_within_one()
    {
        foreach ((int nodes, int factor, int shards) in Shapes())
        {
            PlacementPlan plan = Placement.Place(NodeIds(nodes), shards, factor);
            string shape = $"{nodes} nodes, {factor} replicas, {shards} shards";
            Dictionary<string, int> replicas = NodeIds(nodes).ToDictionary(static node => node, static _ => 0);
            Dictionary<string, int> leaders = new(replicas);
            foreach (ShardInfo shard in plan.Shards)
            {
                Assert.That(shard.Group.Replicas.Select(static replica => replica.NodeId).Distinct().Count(), Is.EqualTo(factor), shape);
                foreach (RaftMember replica in shard.Group.Replicas)
                    replicas[replica.NodeId]++;
                leaders[shard.Group.NodeOf(shard.PreferredLeader)!]++;
            }

            Assert.That(replicas.Values.Max() - replicas.Values.Min(), Is.LessThanOrEqualTo(1), $"replicas of {shape}");
            Assert.That(leaders.Values.Max() - leaders.Values.Min(), Is.LessThanOrEqualTo(1), $"leaders of {shape}");
        }
    }

    [Test]
    public void Replica_ids_are_unique_and_below_the_next_one()
    {
        PlacementPlan plan = Placement.Place(NodeIds(5), 7, 3);
        ulong[] ids = [.. plan.MetadataGroup.Replicas.Concat(plan.Shards.SelectMany(static shard => shard.Group.Replicas)).Select(static replica => replica.Replica.Value)];
        Assert.That(ids, Is.Unique);
        Assert.That(ids, Is.All.GreaterThan(0UL).And.All.LessThan(plan.NextReplicaId));
    }

    [Test]
    public void Shards_cover_every_slot_once([Values(1, 3, 8, 1000, 65536)] int shards)
    {
        PlacementPlan plan = Placement.Place(["a"], shards, 1);
        int next = 0;
        foreach (ShardInfo shard in plan.Shards)
        {
            Assert.That((int)shard.Slots.First, Is.EqualTo(next));
            next = shard.Slots.Last + 1;
        }

        Assert.That(next, Is.EqualTo(Slot.Count));
    }

    [TestCase(1, 1)]
    [TestCase(2, 1)]
    [TestCase(3, 3)]
    [TestCase(4, 3)]
    [TestCase(5, 5)]
    [TestCase(9, 5)]
    public void R41_group_0_has_an_odd_number_of_replicas_up_to_five(int nodes, int replicas) =>
        Assert.That(Placement.Place(NodeIds(nodes), 1, 1).MetadataGroup.Replicas, Has.Count.EqualTo(replicas));

    private static IEnumerable<(int Nodes, int Factor, int Shards)> Shapes()
    {
        for (int nodes = 1; nodes <= 9; nodes++)
        {
            for (int factor = 1; factor <= Math.Min(5, nodes); factor++)
            {
                for (int shards = 1; shards <= 40; shards++)
                    yield return (nodes, factor, shards);
            }
        }
    }

    private static string[] NodeIds(int count) => [.. Enumerable.Range(1, count).Select(static number => $"n{number}")];
}
