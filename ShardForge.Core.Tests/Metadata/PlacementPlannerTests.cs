using NUnit.Framework;
using ShardForge.Consensus;
using ShardForge.Metadata;

namespace ShardForge.Tests.Metadata;

/// <summary>Placement without nodes: the planner's steps are recorded, and carried out at once, until it has none left.</summary>
[Parallelizable(ParallelScope.All)]
internal sealed class PlacementPlannerTests
{
    [Test]
    public void A_cluster_as_it_was_formed_needs_no_step([Values(1, 2, 3, 5)] int nodes)
    {
        World world = new(nodes, shards: 8, Math.Min(3, nodes));
        Assert.That(world.Plan(), Is.Empty);
    }

    [Test]
    public void One_node_becomes_three_replicas_and_then_stays_at_three()
    {
        World world = new(1, shards: 8, factor: 1, grows: true);
        world.Join("n2");
        world.Settle();
        Assert.That(world.ReplicaCounts(), Is.All.EqualTo(2));
        Assert.That(world.State.MetadataGroup.Replicas, Has.Count.EqualTo(1), "two are no better than one");
        world.Join("n3");
        world.Settle();
        Assert.That(world.ReplicaCounts(), Is.All.EqualTo(3));
        Assert.That(world.State.MetadataGroup.Replicas, Has.Count.EqualTo(3));
        world.Join("n4");
        world.Settle();
        Assert.That(world.ReplicaCounts(), Is.All.EqualTo(3));
        world.AssertBalanced();
        world.Join("n5");
        world.Settle();
        Assert.That(world.State.MetadataGroup.Replicas, Has.Count.EqualTo(5));
        world.AssertBalanced();
    }

    [Test]
    public void A_replication_factor_that_was_chosen_stays()
    {
        World world = new(2, shards: 4, factor: 1);
        world.Join("n3");
        world.Settle();
        Assert.That(world.ReplicaCounts(), Is.All.EqualTo(1));
        world.AssertBalanced();
    }

    [Test]
    public void A_node_that_leaves_keeps_its_replicas_until_others_have_them()
    {
        World world = new(4, shards: 8, factor: 3);
        world.Apply(new LeaveNodeCommand("n2"));
        world.OnStep = _ => Assert.That(world.State.Shards.Select(static shard => shard.Group.Replicas.Count), Is.All.GreaterThanOrEqualTo(3));
        world.Settle();
        Assert.That(world.State.FindNode("n2")!.IsRemoved, Is.True);
        Assert.That(world.State.HasReplicasOn("n2"), Is.False);
        Assert.That(world.ReplicaCounts(), Is.All.EqualTo(3));
        world.AssertBalanced();
    }

    [Test]
    public void A_node_that_leaves_and_is_down_costs_no_majority_while_it_goes()
    {
        World world = new(3, shards: 4, factor: 3);
        world.Unreachable.Add("n3");
        world.Apply(new LeaveNodeCommand("n3"));
        world.OnStep = _ => Assert.That(world.State.Shards.Select(static shard => shard.Group.Replicas.Count), Is.All.LessThanOrEqualTo(3));
        world.Settle();
        Assert.That(world.State.FindNode("n3")!.IsRemoved, Is.True);
        Assert.That(world.ReplicaCounts(), Is.All.EqualTo(2));
    }

    [Test]
    public void R38_Replicas_of_a_replaced_directory_go_before_others_come()
    {
        World world = new(3, shards: 4, factor: 3);
        ReplicaId[] lost = [.. world.State.ReplicasOn("n3").Select(static hosted => hosted.Replica)];
        world.Apply(new ReplaceNodeCommand("n3", "a", world.State.FindNode("n3")!.InstanceId, Guid.NewGuid(), 1, 1));
        world.Settle();
        Assert.That(lost.Select(world.State.IsGone), Is.All.True);
        Assert.That(world.ReplicaCounts(), Is.All.EqualTo(3));
        Assert.That(world.State.MetadataGroup.Replicas, Has.Count.EqualTo(3));
    }

    [Test]
    public void R38_A_replica_that_was_on_its_way_to_a_replaced_directory_is_given_up()
    {
        World world = new(3, shards: 1, factor: 2);
        world.Join("n4");
        ShardInfo shard = world.State.Shards[0];
        world.Apply(new AddReplicaCommand(shard.Shard, shard.Group.PlacementEpoch, "n4"));
        ReplicaId added = world.State.Shards[0].Group.Change!.Replica.Replica;
        Assert.That(world.State.ReplicasToAddOn("n4").Select(static hosted => hosted.Replica), Is.EqualTo(new[] { added }));
        world.Apply(new ReplaceNodeCommand("n4", "a", world.State.FindNode("n4")!.InstanceId, Guid.NewGuid(), 1, 1));
        Assert.That(world.State.ReplicasToAddOn("n4"), Is.Empty, "the other directory must not make it anew");
        world.Settle();
        Assert.That(world.State.IsGone(added), Is.True);
    }

    [Test]
    public void R41_A_step_that_is_proposed_again_changes_nothing()
    {
        World world = new(4, shards: 2, factor: 3);
        world.Apply(new LeaveNodeCommand("n1"));
        Random random = new(5);
        List<MetadataCommand> before = [];
        world.OnStep = step =>
        {
            before.Add(step);
            for (int i = 0; i < 3; i++)
            {
                ClusterState state = world.State;
                MetadataCommand old = before[random.Next(before.Count)];
                world.Apply(old);
                if (old is AddReplicaCommand or RemoveReplicaCommand)
                    Assert.That(world.State, Is.SameAs(state), $"{old}");
            }
        };
        world.Settle();
        Assert.That(world.State.FindNode("n1")!.IsRemoved, Is.True);
        Assert.That(world.ReplicaCounts(), Is.All.EqualTo(3));
    }

    [Test]
    public void R40_A_split_names_the_child_and_its_replicas_before_it_happens()
    {
        World world = new(3, shards: 2, factor: 3);
        ShardInfo parent = world.State.Shards[0];
        SplitShardCommand command = new(parent.Shard, parent.Epoch, new Slot(0x4000));
        Assert.That(world.Apply(command), Is.EqualTo(MetadataOutcome.Ok));
        Assert.That(world.Apply(command), Is.EqualTo(MetadataOutcome.Ok));
        ShardSplit split = world.State.Shards[0].Split!;
        Assert.That(split.Replicas.Select(static replica => replica.NodeId), Is.EqualTo(parent.Group.Replicas.Select(static replica => replica.NodeId)));
        Assert.That(split.Replicas.Select(replica => world.State.IsGone(replica.Replica)), Is.All.False);
        Assert.That(world.Apply(new AddReplicaCommand(parent.Shard, world.State.Shards[0].Group.PlacementEpoch, "n1")), Is.EqualTo(MetadataOutcome.Outdated));

        for (int i = 0; i < 2; i++)
            Assert.That(world.Apply(new EndSplitCommand(parent.Shard, split.Child)), Is.EqualTo(MetadataOutcome.Ok));
        Assert.That(world.State.Shards.Select(static shard => shard.Slots.ToString()), Is.EqualTo(new[] { new SlotRange(0, 0x3FFF), new SlotRange(0x4000, 0x7FFF), new SlotRange(0x8000, 0xFFFF) }.Select(static range => range.ToString())));
        Assert.That(world.State.Shards[1].Epoch, Is.EqualTo(world.State.Shards[0].Epoch).And.GreaterThan(parent.Epoch));
        Assert.That(world.Apply(command), Is.EqualTo(MetadataOutcome.Outdated));
        ClusterStateCodec.Decode(ClusterStateCodec.Encode(world.State));
    }

    [Test]
    public void Random_joins_and_removals_always_settle([Range(1, 20)] int seed)
    {
        Random random = new(seed);
        World world = new(random.Next(1, 5), shards: random.Next(1, 12), factor: 1, grows: true);
        int last = world.State.Nodes.Count;
        for (int i = 0; i < 12; i++)
        {
            switch (random.Next(4))
            {
                case 0 when last < 9:
                    world.Join($"n{++last}");
                    break;
                case 1:
                    world.Apply(new LeaveNodeCommand($"n{random.Next(1, last + 1)}"));
                    break;
                case 2:
                    NodeInfo node = world.State.Nodes[random.Next(world.State.Nodes.Count)];
                    world.Apply(new ReplaceNodeCommand(node.NodeId, "a", node.InstanceId, new Guid(random.Next(), 0, 0, new byte[8]), 1, 1));
                    break;
                default:
                    world.Settle(steps: random.Next(5));
                    break;
            }
        }

        world.Settle();
        int active = world.State.Nodes.Count(static node => node.IsActive);
        Assert.That(world.ReplicaCounts(), Is.All.EqualTo(Math.Min(3, active)), $"seed {seed}");
        Assert.That(world.State.MetadataGroup.Replicas, Has.Count.EqualTo(Placement.MetadataReplicaCount(active)), $"seed {seed}");
        world.AssertBalanced();
        Assert.That(ClusterStateCodec.Encode(ClusterStateCodec.Decode(ClusterStateCodec.Encode(world.State))), Is.EqualTo(ClusterStateCodec.Encode(world.State)));
    }

    private sealed class World
    {
        private MetadataImage _image;

        public World(int nodes, int shards, int factor, bool grows = false)
        {
            ClusterState state = States.Formation(nodes, shards, factor);
            _image = MetadataImage.OfFormation(state with { Settings = state.Settings with { GrowsReplication = grows } });
        }

        public ClusterState State => _image.State;

        public HashSet<string> Unreachable { get; } = [];

        public Action<MetadataCommand>? OnStep { get; set; }

        public IReadOnlyList<MetadataCommand> Plan() => PlacementPlanner.Plan(State, node => !Unreachable.Contains(node), changesMax: 3);

        public void Join(string node) => Apply(new RegisterNodeCommand(node, "a", new Guid(node.GetHashCode(StringComparison.Ordinal), 7, 0, new byte[8]), 1, 1));

        public MetadataOutcome Apply(MetadataCommand command)
        {
            MetadataReader reader = new(command.Encode());
            _image = _image.Apply(MetadataCommand.Read(ref reader), out MetadataOutcome outcome);
            return outcome;
        }

        /// <summary>Until nothing is left to do, or for so many rounds.</summary>
        public void Settle(int steps = 500)
        {
            for (int i = 0; i < steps; i++)
            {
                IReadOnlyList<MetadataCommand> plan = Plan();
                List<MetadataCommand> ends = [];
                Look(ShardId.Metadata, State.MetadataGroup);
                foreach (ShardInfo shard in State.Shards)
                    Look(shard.Shard, shard.Group);
                if (plan.Count == 0 && ends.Count == 0)
                    return;
                foreach (MetadataCommand step in ends.Concat(plan))
                {
                    Apply(step);
                    OnStep?.Invoke(step);
                }

                void Look(ShardId shard, GroupInfo group)
                {
                    if (PlacementPlanner.CancelHopeless(State, shard, group) is { } cancel)
                        ends.Add(cancel);
                    else if (group.Change is { } change)
                        ends.Add(new EndChangeCommand(shard, change.Replica.Replica));
                }
            }

            if (steps >= 500)
                Assert.Fail($"It does not settle: {string.Join(", ", Plan())}");
        }

        public IEnumerable<int> ReplicaCounts() => State.Shards.Select(static shard => shard.Group.Replicas.Select(static replica => replica.NodeId).Distinct().Count());

        public void AssertBalanced()
        {
            Dictionary<string, int> counts = State.Nodes.Where(static node => node.IsActive).ToDictionary(static node => node.NodeId, static _ => 0);
            Dictionary<string, int> leads = new(counts);
            foreach (ShardInfo shard in State.Shards)
            {
                foreach (RaftMember replica in shard.Group.Replicas)
                    counts[replica.NodeId]++;
                leads[shard.Group.NodeOf(shard.PreferredLeader)!]++;
            }

            Assert.That(counts.Values.Max() - counts.Values.Min(), Is.LessThanOrEqualTo(1), string.Join(", ", counts));
            Assert.That(leads.Values.Max() - leads.Values.Min(), Is.LessThanOrEqualTo(2), string.Join(", ", leads));
        }
    }
}
