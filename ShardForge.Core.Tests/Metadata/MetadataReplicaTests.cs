using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Metadata;

namespace ShardForge.Tests.Metadata;

[Parallelizable(ParallelScope.All)]
internal sealed class MetadataReplicaTests
{
    [Test]
    public async Task A_command_is_applied_on_every_replica_with_the_same_result()
    {
        using GroupZero group = new();
        group.Elect(1);
        ProposalResult result = await group[1].ProposeAsync(States.Register("n4", 4, 1), default);
        Assert.That(result, Is.EqualTo(new ProposalResult(ProposalStatus.Applied, MetadataOutcome.Ok)));
        for (int number = 1; number <= 3; number++)
        {
            Assert.That(group[number].State.Version, Is.EqualTo(2UL));
            Assert.That(group[number].State.Nodes.Select(static node => node.NodeId), Is.EqualTo((string[])["n1", "n2", "n3", "n4"]));
            Assert.That(group[number].Image.Encode(), Is.EqualTo(group[1].Image.Encode()));
        }
    }

    [Test]
    public async Task Applied_twice_a_command_changes_nothing_more()
    {
        using GroupZero group = new();
        group.Elect(1);
        await group[1].ProposeAsync(States.Register("n4", 4, 1), default);
        ProposalResult again = await group[1].ProposeAsync(States.Register("n4", 4, 1), default);
        Assert.That(again.Outcome, Is.EqualTo(MetadataOutcome.Ok));
        Assert.That(group[1].State.Version, Is.EqualTo(2UL));
    }

    [Test]
    public async Task R38_another_directory_and_a_restored_copy_are_refused()
    {
        using GroupZero group = new();
        group.Elect(1);
        Assert.That((await group[1].ProposeAsync(States.Register("n2", 2, 5), default)).Outcome, Is.EqualTo(MetadataOutcome.Ok));
        Assert.That((await group[1].ProposeAsync(States.Register("n2", 2, 4), default)).Outcome, Is.EqualTo(MetadataOutcome.RestoredCopy));
        Assert.That((await group[1].ProposeAsync(States.Register("n2", 9, 9), default)).Outcome, Is.EqualTo(MetadataOutcome.OtherInstance));
        Assert.That(group[1].State.FindNode("n2")!.OpenCounter, Is.EqualTo(5UL));
    }

    [Test]
    public async Task R42_the_level_rises_only_when_every_node_knows_it()
    {
        using GroupZero group = new();
        group.Elect(1);
        await group[1].ProposeAsync(States.Register("n1", 1, 2, featureLevel: 2), default);
        await group[1].ProposeAsync(States.Register("n2", 2, 2, featureLevel: 2), default);
        Assert.That((await group[1].ProposeAsync(new RaiseFeatureLevelCommand(2), default)).Outcome, Is.EqualTo(MetadataOutcome.LevelNotKnown));
        await group[1].ProposeAsync(States.Register("n3", 3, 2, featureLevel: 2), default);
        Assert.That((await group[1].ProposeAsync(new RaiseFeatureLevelCommand(2), default)).Outcome, Is.EqualTo(MetadataOutcome.Ok));
        Assert.That(group[2].State.FeatureLevel, Is.EqualTo(2));
        Assert.That((await group[1].ProposeAsync(States.Register("n4", 4, 1, featureLevel: 1), default)).Outcome, Is.EqualTo(MetadataOutcome.LevelNotKnown));
    }

    [Test]
    public async Task A_node_leaves_only_without_replicas_and_does_not_come_back()
    {
        using GroupZero group = new();
        group.Elect(1);
        await group[1].ProposeAsync(States.Register("n4", 4, 1), default);
        Assert.That((await group[1].ProposeAsync(new RemoveNodeCommand("n1"), default)).Outcome, Is.EqualTo(MetadataOutcome.NodeHasReplicas));
        Assert.That((await group[1].ProposeAsync(new RemoveNodeCommand("n9"), default)).Outcome, Is.EqualTo(MetadataOutcome.UnknownNode));
        Assert.That((await group[1].ProposeAsync(new RemoveNodeCommand("n4"), default)).Outcome, Is.EqualTo(MetadataOutcome.Ok));
        Assert.That((await group[1].ProposeAsync(States.Register("n4", 4, 2), default)).Outcome, Is.EqualTo(MetadataOutcome.NodeRemoved));
        Assert.That(group[3].State.FindNode("n4")!.IsRemoved);
    }

    [Test]
    public async Task R42_an_unknown_command_stops_the_replica()
    {
        using GroupZero group = new();
        group.Elect(1);
        byte[] entry = new MetadataWriter().Number(1).Number(99).Byte(77).Byte(1).ToArray();
        Assert.That(group.Group(1).TryPropose(group.Cluster.Term, entry, out LogIndex _));
        Assert.That(group.Group(2).Status.Fault, Is.InstanceOf<ConfigurationException>());
        Assert.That(group[2].State.Version, Is.EqualTo(1UL));
        Assert.That(await group[1].ProposeAsync(new RaiseFeatureLevelCommand(1), default), Is.EqualTo(ProposalResult.NotApplied));
    }

    [Test]
    public async Task A_replica_that_does_not_lead_proposes_nothing()
    {
        using GroupZero group = new();
        group.Elect(1);
        Assert.That(await group[2].ProposeAsync(new RaiseFeatureLevelCommand(1), default), Is.EqualTo(ProposalResult.NotApplied));
    }

    [Test]
    public async Task The_outcome_of_a_proposal_is_unknown_once_the_leadership_is_lost()
    {
        using GroupZero group = new();
        group.Elect(1);
        group.Cluster.HoldsCommits = true;
        Task<ProposalResult> proposed = group[1].ProposeAsync(States.Register("n4", 4, 1), default).AsTask();
        Assert.That(proposed.IsCompleted, Is.False);
        group.Elect(2);
        Assert.That(await proposed, Is.EqualTo(ProposalResult.Unknown));
    }

    [Test]
    public async Task A_proposal_whose_place_another_entry_takes_is_lost()
    {
        using GroupZero group = new();
        group.Elect(1);
        group.Elect(2, deposeOthers: false);
        // Replica 1 still believes that it leads: what it appends is in a tail that nobody will see.
        Task<ProposalResult> proposed = group[1].ProposeAsync(States.Register("n4", 4, 1), default).AsTask();
        await group[2].ProposeAsync(States.Register("n5", 5, 1), default);
        group.Cluster.Depose(GroupZero.IdOf(1));
        Assert.That((await proposed).Status, Is.Not.EqualTo(ProposalStatus.Applied));
        Assert.That(group[1].State.FindNode("n4"), Is.Null);
    }

    [Test]
    public async Task R32_a_restarted_replica_goes_on_from_its_image()
    {
        using GroupZero group = new();
        group.Elect(1);
        await group[1].ProposeAsync(States.Register("n4", 4, 1), default);
        await group[3].FlushAsync();
        LogIndex saved = group[3].Image.AppliedIndex;
        Assert.That(group.Group(3).ReleasedIndex, Is.EqualTo(saved));
        group.Cluster.Detach(GroupZero.IdOf(3));
        await group[3].DisposeAsync();
        await group[1].ProposeAsync(States.Register("n5", 5, 1), default);

        MetadataReplica reopened = group.Open(3, compacted: saved);
        Assert.That(reopened.State.Nodes, Has.Count.EqualTo(5));
        Assert.That(reopened.Image.Encode(), Is.EqualTo(group[1].Image.Encode()));
    }

    [Test]
    public async Task Without_an_image_a_replica_replays_from_the_formation_record()
    {
        using GroupZero group = new();
        group.Elect(1);
        await group[1].ProposeAsync(States.Register("n4", 4, 1), default);
        group.Cluster.Detach(GroupZero.IdOf(3));
        Assert.That(group.Open(3).Image.Encode(), Is.EqualTo(group[1].Image.Encode()));
    }

    [Test]
    public void A_missing_image_behind_a_compacted_log_is_reported()
    {
        using GroupZero group = new();
        Assert.That(() => group.Open(3, compacted: new LogIndex(5)), Throws.InstanceOf<CorruptionException>());
    }

    [Test]
    public async Task R33_a_replica_behind_the_log_takes_a_snapshot_and_drops_the_old_generation()
    {
        using GroupZero group = new();
        group.Elect(1);
        group.Group(3).HoldsApplies = true;
        await group[3].FlushAsync();
        await group[1].ProposeAsync(States.Register("n4", 4, 1), default);
        group.Cluster.Compact(group.Cluster.CommitIndex);
        await group.Cluster.SendSnapshotAsync(GroupZero.IdOf(1), GroupZero.IdOf(3), generation: 2);
        Assert.That(group[3].Image.Encode(), Is.EqualTo(group[1].Image.Encode()));
        group.Group(3).HoldsApplies = false;
        await group[1].ProposeAsync(States.Register("n5", 5, 1), default);
        Assert.That(group[3].State.Version, Is.EqualTo(3UL));
        await group[3].FlushAsync();
        Assert.That(group.FileSystem.ListDirectories("/shards/r3").Select(Path.GetFileName), Is.EqualTo((string[])["2"]));

        group.Cluster.Detach(GroupZero.IdOf(3));
        await group[3].DisposeAsync();
        Assert.That(group.Open(3, generation: 2, compacted: group.Cluster.CommitIndex).State.Version, Is.EqualTo(3UL));
    }

    [Test]
    public async Task A_damaged_image_is_reported_wherever_a_byte_is_changed()
    {
        using GroupZero group = new();
        group.Elect(1);
        await group[1].FlushAsync();
        group.Cluster.Detach(GroupZero.IdOf(1));
        const string ImagePath = "/shards/r1/1/meta";
        using IFile file = group.FileSystem.Open(ImagePath, FileOpenMode.ReadWrite);
        byte[] one = new byte[1];
        for (long at = 0; at < file.Length; at++)
        {
            file.Read(one, at);
            one[0] ^= 0x40;
            file.Write(one, at);
            Assert.That(() => group.Open(1), Throws.InstanceOf<CorruptionException>(), $"byte {at}");
            one[0] ^= 0x40;
            file.Write(one, at);
        }

        Assert.That(() => group.Open(1), Throws.Nothing);
    }
}
