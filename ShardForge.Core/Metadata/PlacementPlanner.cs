using ShardForge.Consensus;

namespace ShardForge.Metadata;

/// <summary>Thinks out the next steps of placement from the state alone: a pure function, so that whoever leads group 0 goes on where the one before it was.</summary>
/// <remarks>
/// <para>For each group, the first that applies: a member that is lost, or unreachable on a node that leaves, goes (it can only cost majorities); one is added
/// while there are too few; one that leaves goes, once its place is taken or nobody can take it; one too many goes; one is moved from the fullest node to
/// the emptiest where they differ by two or more.</para>
/// <para>Too few: fewer than the replication factor, or than there are nodes; group 0: than min(5, nodes) made odd (R41).</para></remarks>
internal static class PlacementPlanner
{
    /// <param name="state">The state to start from.</param>
    /// <param name="isReachable">Whether a node is up, as the planning node sees it.</param>
    /// <param name="changesMax">How many steps may be under way at a time, those in the state included.</param>
    public static IReadOnlyList<MetadataCommand> Plan(ClusterState state, Func<string, bool> isReachable, int changesMax)
    {
        List<MetadataCommand> steps = [];
        Loads loads = new(state, isReachable);
        int underWay = CountUnderWay(state);
        PlanGroup(ShardId.Metadata, state.MetadataGroup, isSplit: false, Placement.MetadataReplicaCount(Math.Max(1, loads.ActiveCount)));
        int factor = state.Settings.GrowsReplication ? Placement.DefaultReplicationFactor : state.Settings.ReplicationFactor;
        foreach (ShardInfo shard in state.Shards)
            PlanGroup(shard.Shard, shard.Group, shard.Split is not null, Math.Min(factor, loads.ActiveCount));
        if (PlanLeader(state, loads) is { } prefer)
            steps.Add(prefer);
        foreach (NodeInfo node in state.Nodes)
        {
            if (node.IsLeaving && !state.HasReplicasOn(node.NodeId))
                steps.Add(new RemoveNodeCommand(node.NodeId));
        }

        return steps;

        void PlanGroup(ShardId shard, GroupInfo group, bool isSplit, int wanted)
        {
            if (group.Change is not null || isSplit || underWay >= changesMax || Next(shard, group, wanted, loads) is not { } step)
                return;
            steps.Add(step);
            underWay++;
        }
    }

    /// <summary>Whether what is under way in a group cannot come to an end as things are: its node is gone for good.</summary>
    public static CancelAddCommand? CancelHopeless(ClusterState state, ShardId shard, GroupInfo group) =>
        group.Change is { Kind: MemberChange.Add, Replica: RaftMember added } && (state.FindNode(added.NodeId) is not { IsActive: true } node || added.Replica.Value < node.FirstReplica.Value)
            ? new CancelAddCommand(shard, added.Replica)
            : null;

    private static int CountUnderWay(ClusterState state)
    {
        int count = state.MetadataGroup.Change is null ? 0 : 1;
        foreach (ShardInfo shard in state.Shards)
            count += shard.Group.Change is not null || shard.Split is not null ? 1 : 0;
        return count;
    }

    private static MetadataCommand? Next(ShardId shard, GroupInfo group, int wanted, Loads loads)
    {
        List<RaftMember> staying = [], leaving = [], dead = [];
        foreach (RaftMember replica in group.Replicas)
        {
            NodeLoad? node = loads.Find(replica.NodeId);
            if (node is null || node.IsLost(replica.Replica))
                dead.Add(replica);
            else if (node.IsActive)
                staying.Add(replica);
            else if (node.IsReachable)
                leaving.Add(replica);
            else
                dead.Add(replica);
        }

        if (dead.Count > 0 && group.Replicas.Count > 1)
            return new RemoveReplicaCommand(shard, group.PlacementEpoch, dead[0].Replica);
        NodeLoad? emptiest = loads.EmptiestWithout(staying, shard == ShardId.Metadata);
        if (staying.Count < wanted && emptiest is not null)
            return Add(emptiest);
        if (leaving.Count > 0 && group.Replicas.Count > 1)
            return new RemoveReplicaCommand(shard, group.PlacementEpoch, leaving[0].Replica);
        RaftMember? fullest = loads.FullestOf(staying);
        if (fullest is null)
            return null;
        if (staying.Count > wanted)
            return Remove(fullest.Value);
        return shard != ShardId.Metadata && emptiest is not null && loads.Find(fullest.Value.NodeId)!.Replicas - emptiest.Replicas >= 2 ? Add(emptiest) : null;

        AddReplicaCommand Add(NodeLoad node)
        {
            node.Replicas++;
            return new AddReplicaCommand(shard, group.PlacementEpoch, node.NodeId);
        }

        RemoveReplicaCommand Remove(RaftMember replica)
        {
            loads.Find(replica.NodeId)!.Replicas--;
            return new RemoveReplicaCommand(shard, group.PlacementEpoch, replica.Replica);
        }
    }

    /// <summary>One shard whose leader should be on another node: its preferred one is on none that stays, or on one that leads two more than another replica's.</summary>
    private static PreferLeaderCommand? PlanLeader(ClusterState state, Loads loads)
    {
        foreach (ShardInfo shard in state.Shards)
        {
            string preferredNode = shard.Group.NodeOf(shard.PreferredLeader)!;
            NodeLoad? preferred = loads.Find(preferredNode) is { IsActive: true } node && !node.IsLost(shard.PreferredLeader) ? node : null;
            ReplicaId best = default;
            NodeLoad? bestNode = null;
            foreach (RaftMember replica in shard.Group.Replicas)
            {
                // One that is about to be taken out is no choice.
                if (IsToGo(shard, replica) || loads.Find(replica.NodeId) is not { IsActive: true } candidate || candidate.IsLost(replica.Replica))
                    continue;
                if (bestNode is null || candidate.Leads < bestNode.Leads)
                    (best, bestNode) = (replica.Replica, candidate);
            }

            if (bestNode is not null && (preferred is null || preferred.Leads - bestNode.Leads >= 2))
                return new PreferLeaderCommand(shard.Shard, best);
        }

        return null;

        static bool IsToGo(ShardInfo shard, RaftMember replica) => shard.Group.Change is { Kind: MemberChange.Remove } change && change.Replica == replica;
    }

    private sealed class NodeLoad(NodeInfo node, bool isReachable)
    {
        public string NodeId => node.NodeId;

        public bool IsActive => node.IsActive;

        public bool IsReachable => isReachable;

        /// <summary>Replicas of shards, those on their way in included.</summary>
        public int Replicas { get; set; }

        public int Leads { get; set; }

        public bool IsLost(ReplicaId replica) => replica.Value < node.FirstReplica.Value;
    }

    private sealed class Loads
    {
        private readonly Dictionary<string, NodeLoad> _nodes = new(StringComparer.Ordinal);

        public Loads(ClusterState state, Func<string, bool> isReachable)
        {
            foreach (NodeInfo node in state.Nodes)
            {
                if (!node.IsRemoved)
                    _nodes.Add(node.NodeId, new NodeLoad(node, isReachable(node.NodeId)));
            }

            foreach (ShardInfo shard in state.Shards)
            {
                foreach (RaftMember replica in shard.Group.Replicas)
                    Count(replica, shard.PreferredLeader);
                if (shard.Group.Change is { Kind: MemberChange.Add } change)
                    Count(change.Replica, default);
            }
        }

        public int ActiveCount => _nodes.Values.Count(static node => node.IsActive);

        public NodeLoad? Find(string nodeId) => _nodes.GetValueOrDefault(nodeId);

        /// <summary>Who may take a replica. For group 0 the first by id, so that it lies as at formation.</summary>
        public NodeLoad? EmptiestWithout(List<RaftMember> replicas, bool byId)
        {
            NodeLoad? emptiest = null;
            foreach (NodeLoad node in _nodes.Values)
            {
                if (!node.IsActive || !node.IsReachable || replicas.Exists(replica => string.Equals(replica.NodeId, node.NodeId, StringComparison.Ordinal)))
                    continue;
                if (emptiest is null || (!byId && node.Replicas < emptiest.Replicas))
                    emptiest = node;
            }

            return emptiest;
        }

        public RaftMember? FullestOf(List<RaftMember> replicas)
        {
            RaftMember? fullest = null;
            int most = -1;
            foreach (RaftMember replica in replicas)
            {
                if (_nodes[replica.NodeId].Replicas > most)
                    (fullest, most) = (replica, _nodes[replica.NodeId].Replicas);
            }

            return fullest;
        }

        private void Count(RaftMember replica, ReplicaId preferredLeader)
        {
            if (Find(replica.NodeId) is not { } node || node.IsLost(replica.Replica))
                return;
            node.Replicas++;
            if (replica.Replica == preferredLeader)
                node.Leads++;
        }
    }
}
