using ShardForge.Consensus;

namespace ShardForge.Metadata;

/// <summary>Steps of placement: nodes that go, replicas that come and go, shards that are split (R38, R40, R41).</summary>
/// <remarks>
/// <code>
/// replica   none → AddReplica: named, to be created on its node → (level, added by the group's leader) → EndChange: one of the group's
///           one of the group's → RemoveReplica: named still → (taken out by the group's leader) → EndChange: gone, its node deletes it
///           AddReplica → CancelAdd: to be taken out, whether it was in or not → EndChange: gone
/// shard     → SplitShard: the child and its replicas have their ids → (committed in the parent) → EndSplit: two shards
/// </code>
/// Each step is recorded before anybody acts on it, and may be proposed again: what is so already is left, what was thought out for another placement epoch does nothing.
/// A group has one step under way at most.
/// </remarks>
internal sealed partial record MetadataImage
{
    /// <summary>As many as there may be at formation, and as many again.</summary>
    private const int ShardsMax = 8_192;

    private ClusterState? Replace(ReplaceNodeCommand command, out MetadataOutcome outcome)
    {
        NodeInfo? known = State.FindNode(command.NodeId);
        if (known is null)
        {
            outcome = MetadataOutcome.UnknownNode;
            return null;
        }

        outcome = MetadataOutcome.Ok;
        if (known.InstanceId == command.InstanceId)
            return null;            // done before
        if (known.InstanceId != command.OldInstance)
        {
            outcome = MetadataOutcome.OtherInstance;
            return null;
        }

        if (command.SupportedFeatureLevel < State.FeatureLevel)
        {
            outcome = MetadataOutcome.LevelNotKnown;
            return null;
        }

        return State with
        {
            Nodes = With(State.Nodes, known with
            {
                Address = command.Address,
                InstanceId = command.InstanceId,
                OpenCounter = command.OpenCounter,
                SupportedFeatureLevel = command.SupportedFeatureLevel,
                IsRemoved = false,
                IsLeaving = false,
                FirstReplica = new ReplicaId(State.NextReplicaId),
            }),
        };
    }

    private ClusterState? Leave(LeaveNodeCommand command, out MetadataOutcome outcome)
    {
        NodeInfo? node = State.FindNode(command.NodeId);
        if (node is null)
        {
            outcome = MetadataOutcome.UnknownNode;
            return null;
        }

        outcome = MetadataOutcome.Ok;
        if (!node.IsActive)
            return null;
        if (!State.Nodes.Any(other => other.IsActive && other != node))
        {
            outcome = MetadataOutcome.LastNode;
            return null;
        }

        return State with { Nodes = With(State.Nodes, node with { IsLeaving = true }) };
    }

    private ClusterState? Add(AddReplicaCommand command, out MetadataOutcome outcome)
    {
        if (Idle(command.Shard, command.PlacementEpoch, out outcome) is not { } group)
            return null;
        if (State.FindNode(command.NodeId) is not { IsActive: true } node || group.Replicas.Any(replica => IsOn(node, replica)))
        {
            outcome = MetadataOutcome.Outdated;
            return null;
        }

        RaftMember added = new(new ReplicaId(State.NextReplicaId), command.NodeId);
        return WithGroup(command.Shard, Step(group) with { Change = new(MemberChange.Add, added) }) with { NextReplicaId = State.NextReplicaId + 1 };
    }

    private ClusterState? Remove(RemoveReplicaCommand command, out MetadataOutcome outcome)
    {
        if (Idle(command.Shard, command.PlacementEpoch, out outcome) is not { } group)
            return null;
        if (group.Replicas.Count < 2 || group.NodeOf(command.Replica) is not { } nodeId)
        {
            outcome = MetadataOutcome.Outdated;
            return null;
        }

        return WithGroup(command.Shard, Step(group) with { Change = new(MemberChange.Remove, new RaftMember(command.Replica, nodeId)) });
    }

    private ClusterState? End(EndChangeCommand command, out MetadataOutcome outcome)
    {
        outcome = MetadataOutcome.Ok;
        if (State.FindGroup(command.Shard) is not { Change: { } change } group || change.Replica.Replica != command.Replica)
            return null;            // done before
        List<RaftMember> replicas = [.. group.Replicas.Where(replica => replica.Replica != command.Replica)];
        if (change.Kind == MemberChange.Add)
            replicas.Add(change.Replica);
        replicas.Sort(static (left, right) => left.Replica.Value.CompareTo(right.Replica.Value));
        return WithGroup(command.Shard, Step(group) with { Replicas = replicas, Change = null });
    }

    private ClusterState? Cancel(CancelAddCommand command, out MetadataOutcome outcome)
    {
        outcome = MetadataOutcome.Ok;
        return State.FindGroup(command.Shard) is { Change: { Kind: MemberChange.Add } change } group && change.Replica.Replica == command.Replica
            ? WithGroup(command.Shard, Step(group) with { Change = change with { Kind = MemberChange.Remove } })
            : null;
    }

    private ClusterState? Prefer(PreferLeaderCommand command, out MetadataOutcome outcome)
    {
        outcome = MetadataOutcome.Outdated;
        if (State.FindShard(command.Shard) is not { } shard || shard.Group.NodeOf(command.Replica) is null)
            return null;
        outcome = MetadataOutcome.Ok;
        return shard.PreferredLeader == command.Replica ? null : WithShard(shard with { PreferredLeader = command.Replica });
    }

    private ClusterState? Split(SplitShardCommand command, out MetadataOutcome outcome)
    {
        if (State.FindShard(command.Shard) is not { } shard)
        {
            outcome = MetadataOutcome.UnknownShard;
            return null;
        }

        outcome = MetadataOutcome.Ok;
        if (shard.Split?.At == command.At && shard.Epoch == command.Epoch)
            return null;            // done before
        if (shard.Epoch != command.Epoch || shard.Split is not null || shard.Group.Change is not null)
        {
            outcome = MetadataOutcome.Outdated;
            return null;
        }

        if (!shard.Slots.Contains(command.At) || command.At.Value == shard.Slots.First || State.Shards.Count >= ShardsMax)
        {
            outcome = MetadataOutcome.CannotSplit;
            return null;
        }

        ulong next = State.NextReplicaId;
        RaftMember[] replicas = [.. shard.Group.Replicas.Select(replica => new RaftMember(new ReplicaId(next++), replica.NodeId))];
        int child = NextShard(State);
        return WithShard(shard with { Split = new(new ShardId(child), command.At, replicas), Group = Step(shard.Group) }) with { NextReplicaId = next };
    }

    private ClusterState? End(EndSplitCommand command, out MetadataOutcome outcome)
    {
        outcome = MetadataOutcome.Ok;
        if (State.FindShard(command.Shard) is not { Split: { } split } shard || split.Child != command.Child)
            return null;            // done before
        Epoch epoch = new(shard.Epoch.Value + 1);
        int preferred = Math.Max(0, shard.Group.Replicas.ToList().FindIndex(replica => replica.Replica == shard.PreferredLeader));
        ShardInfo parent = shard with
        {
            Slots = new SlotRange(shard.Slots.First, (ushort)(split.At.Value - 1)),
            Group = Step(shard.Group) with { Epoch = epoch },
            Split = null,
        };
        ShardInfo child = new()
        {
            Shard = split.Child,
            Slots = new SlotRange(split.At.Value, shard.Slots.Last),
            Group = new() { Epoch = epoch, Replicas = split.Replicas },
            PreferredLeader = split.Replicas[Math.Min(preferred, split.Replicas.Count - 1)].Replica,
        };
        List<ShardInfo> shards = [.. State.Shards];
        int at = shards.FindIndex(other => other.Shard == shard.Shard);
        shards[at] = parent;
        shards.Insert(at + 1, child);
        return State with { Shards = shards };
    }

    /// <summary>The group, if nothing is under way there and the step was thought out for how it is.</summary>
    private GroupInfo? Idle(ShardId shard, ulong placementEpoch, out MetadataOutcome outcome)
    {
        GroupInfo? group = State.FindGroup(shard);
        outcome = group is null ? MetadataOutcome.UnknownShard
            : group.PlacementEpoch != placementEpoch || group.Change is not null || State.FindShard(shard)?.Split is not null ? MetadataOutcome.Outdated
            : MetadataOutcome.Ok;
        return outcome == MetadataOutcome.Ok ? group : null;
    }

    private static bool IsOn(NodeInfo node, RaftMember replica) =>
        replica.Replica.Value >= node.FirstReplica.Value && string.Equals(replica.NodeId, node.NodeId, StringComparison.Ordinal);

    /// <summary>Ids of shards are never used again either, so that what a router remembers of one cannot be taken for another.</summary>
    private static int NextShard(ClusterState state)
    {
        int last = 0;
        foreach (ShardInfo shard in state.Shards)
            last = Math.Max(last, Math.Max(shard.Shard.Value, shard.Split?.Child.Value ?? 0));
        return last + 1;
    }

    private static GroupInfo Step(GroupInfo group) => group with { PlacementEpoch = group.PlacementEpoch + 1 };

    private ClusterState WithGroup(ShardId shard, GroupInfo group)
    {
        if (shard == ShardId.Metadata)
            return State with { MetadataGroup = group };
        ShardInfo changed = State.FindShard(shard)! with { Group = group };
        // A preferred leader that is gone is followed by one that is there.
        return WithShard(group.NodeOf(changed.PreferredLeader) is null ? changed with { PreferredLeader = group.Replicas[0].Replica } : changed);
    }

    private ClusterState WithShard(ShardInfo shard) => State with { Shards = [.. State.Shards.Select(other => other.Shard == shard.Shard ? shard : other)] };
}
