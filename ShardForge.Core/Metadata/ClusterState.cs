using ShardForge.Consensus;

namespace ShardForge.Metadata;

/// <summary>What the metadata group knows of the cluster: settings, nodes, shards and where their replicas are. Immutable; shared freely.</summary>
/// <remarks>
/// The state of <see cref="Version"/> 1 is the <em>formation record</em> (R37): every initial member keeps exactly that one, and the replicas that it
/// names start with it. Every change makes a new state with the next version.
/// <para>Invariants: nodes are ordered by id and never leave the list (a removed one is marked); shards are ordered by their slots, which cover
/// all slots without overlap; replica ids are unique over all groups, below <see cref="NextReplicaId"/>, and never used again (R29).</para>
/// </remarks>
internal sealed record ClusterState
{
    public const ulong FormationVersion = 1;

    public required Guid ClusterId { get; init; }

    public required string ClusterName { get; init; }

    /// <summary>Rises by one with every change.</summary>
    public required ulong Version { get; init; }

    /// <summary>What all nodes of the cluster know (R42).</summary>
    public required int FeatureLevel { get; init; }

    public required ClusterSettings Settings { get; init; }

    /// <summary>Ordered by id (ordinal).</summary>
    public required IReadOnlyList<NodeInfo> Nodes { get; init; }

    /// <summary>The metadata group, group 0.</summary>
    public required GroupInfo MetadataGroup { get; init; }

    /// <summary>Ordered by slot range.</summary>
    public required IReadOnlyList<ShardInfo> Shards { get; init; }

    /// <summary>The id that the next new replica gets.</summary>
    public required ulong NextReplicaId { get; init; }

    /// <summary>The node of that id, a removed one too; null: never heard of.</summary>
    public NodeInfo? FindNode(string nodeId)
    {
        foreach (NodeInfo node in Nodes)
        {
            if (string.Equals(node.NodeId, nodeId, StringComparison.Ordinal))
                return node;
        }

        return null;
    }

    /// <summary>The shard that holds a slot.</summary>
    public ShardInfo ShardOf(Slot slot)
    {
        int low = 0, high = Shards.Count - 1;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (Shards[middle].Slots.Last < slot.Value)
                low = middle + 1;
            else
                high = middle;
        }

        Invariant.Check(Shards[low].Slots.Contains(slot));
        return Shards[low];
    }

    /// <summary>The shard of that id; null: there is none.</summary>
    public ShardInfo? FindShard(ShardId shard)
    {
        foreach (ShardInfo info in Shards)
        {
            if (info.Shard == shard)
                return info;
        }

        return null;
    }

    /// <summary>Group 0, or a shard's group; null: there is no such shard.</summary>
    public GroupInfo? FindGroup(ShardId shard) => shard == ShardId.Metadata ? MetadataGroup : FindShard(shard)?.Group;

    /// <summary>The replicas that a node is to host, group 0's first, as far as they are in their groups already.</summary>
    public IReadOnlyList<HostedReplica> ReplicasOn(string nodeId)
    {
        List<HostedReplica> hosted = [];
        if (MetadataGroup.ReplicaOn(nodeId) is { } metadata)
            hosted.Add(new(ShardId.Metadata, metadata.Replica, SlotRange.All, MetadataGroup.Epoch, MetadataGroup.Replicas, PrefersToLead: metadata == MetadataGroup.Replicas[0]));
        foreach (ShardInfo shard in Shards)
        {
            if (shard.Group.ReplicaOn(nodeId) is { } replica)
                hosted.Add(new(shard.Shard, replica.Replica, shard.Slots, shard.Group.Epoch, shard.Group.Replicas, replica.Replica == shard.PreferredLeader));
        }

        return hosted;
    }

    /// <summary>The replicas that a node is to create, empty, and that are added to their groups once they are level; group 0's first.</summary>
    public IReadOnlyList<HostedReplica> ReplicasToAddOn(string nodeId)
    {
        List<HostedReplica> added = [];
        // One that an earlier data directory of the node was to have may have voted there already: it must not come back empty (R38).
        ReplicaId first = FindNode(nodeId)?.FirstReplica ?? default;
        Look(ShardId.Metadata, SlotRange.All, MetadataGroup);
        foreach (ShardInfo shard in Shards)
            Look(shard.Shard, shard.Slots, shard.Group);
        return added;

        void Look(ShardId shard, SlotRange slots, GroupInfo group)
        {
            if (group.Change is { Kind: MemberChange.Add } change && string.Equals(change.Replica.NodeId, nodeId, StringComparison.Ordinal) && change.Replica.Replica.Value >= first.Value)
                added.Add(new(shard, change.Replica.Replica, slots, group.Epoch, group.Replicas, PrefersToLead: false));
        }
    }

    /// <summary>
    /// Whether a replica has left its group, or never came to be in it: then its data goes (R41). Ids are given out in order and a replica is named from then
    /// on until its removal is complete, so this holds for ever once it does, whatever older state a node may have.
    /// </summary>
    public bool IsGone(ReplicaId replica)
    {
        if (replica.Value >= NextReplicaId || MetadataGroup.Names(replica))
            return false;
        foreach (ShardInfo shard in Shards)
        {
            if (shard.Group.Names(replica) || shard.Split?.Names(replica) == true)
                return false;
        }

        return true;
    }

    /// <summary>Whether any replica, also one that is on its way in or out, is on a node.</summary>
    public bool HasReplicasOn(string nodeId)
    {
        if (MetadataGroup.IsOn(nodeId))
            return true;
        foreach (ShardInfo shard in Shards)
        {
            if (shard.Group.IsOn(nodeId))
                return true;
        }

        return false;
    }
}

/// <summary>What is chosen when a cluster is formed; later the stored values hold.</summary>
internal sealed record ClusterSettings
{
    public required int ShardCount { get; init; }

    /// <summary>How many replicas a group of shards is to have, as far as there are nodes.</summary>
    public required int ReplicationFactor { get; init; }

    /// <summary>Nobody chose the replication factor: it grows with the cluster, up to <see cref="Placement.DefaultReplicationFactor"/>.</summary>
    public bool GrowsReplication { get; init; }

    public required PartitionRule PartitionRule { get; init; }

    /// <summary>How long old versions, records and results are kept at least (R18, R28).</summary>
    public TimeSpan HistoryWindow { get; init; } = TimeSpan.FromMinutes(10);
}

/// <summary>A node of the cluster.</summary>
internal sealed record NodeInfo
{
    public required string NodeId { get; init; }

    /// <summary>Where others dial it (<see cref="Network.EndPointText"/>); empty: it has no listener.</summary>
    public required string Address { get; init; }

    /// <summary>Random id of its data directory (R38); empty: none is known yet.</summary>
    public required Guid InstanceId { get; init; }

    /// <summary>How often the directory was opened, as last registered (R38).</summary>
    public required ulong OpenCounter { get; init; }

    /// <summary>The highest feature level that it knows (R42).</summary>
    public required int SupportedFeatureLevel { get; init; }

    /// <summary>It left; its id can come back only as a replacement.</summary>
    public bool IsRemoved { get; init; }

    /// <summary>It is to leave: its replicas are moved away, and it gets no new ones.</summary>
    public bool IsLeaving { get; init; }

    /// <summary>
    /// Replicas below this one that are on this node were an earlier data directory's (R38): they are lost, and are taken out of their groups. None: the directory
    /// was never replaced.
    /// </summary>
    public ReplicaId FirstReplica { get; init; }

    /// <summary>Whether it takes part and is to stay.</summary>
    public bool IsActive => !IsRemoved && !IsLeaving;
}

/// <summary>The replicas of a Raft group.</summary>
internal sealed record GroupInfo
{
    /// <summary>Rises with every change of range: what was evaluated under one is appended under it (R11).</summary>
    public required Epoch Epoch { get; init; }

    /// <summary>Rises with every step of placement: a step names the one it was thought out for, and does nothing at another (R41).</summary>
    public ulong PlacementEpoch { get; init; }

    /// <summary>The step that is under way; null: none. The group's leader carries it out, whoever that is, again until it is done.</summary>
    public ReplicaChange? Change { get; init; }

    /// <summary>Ordered by replica id.</summary>
    public required IReadOnlyList<RaftMember> Replicas { get; init; }

    public RaftMember? ReplicaOn(string nodeId)
    {
        foreach (RaftMember replica in Replicas)
        {
            if (string.Equals(replica.NodeId, nodeId, StringComparison.Ordinal))
                return replica;
        }

        return null;
    }

    public bool Names(ReplicaId replica) => NodeOf(replica) is not null || Change?.Replica.Replica == replica;

    public bool IsOn(string nodeId) => ReplicaOn(nodeId) is not null || string.Equals(Change?.Replica.NodeId, nodeId, StringComparison.Ordinal);

    /// <summary>The node that hosts a replica; null: the replica is not of this group.</summary>
    public string? NodeOf(ReplicaId replica)
    {
        foreach (RaftMember member in Replicas)
        {
            if (member.Replica == replica)
                return member.NodeId;
        }

        return null;
    }
}

/// <summary>A replica on its way into its group, or out of it.</summary>
internal sealed record ReplicaChange(MemberChange Kind, RaftMember Replica);

/// <summary>A split that is under way (R40): the child gets the slots from <paramref name="At"/> on, and a replica beside each one of the parent.</summary>
internal sealed record ShardSplit(ShardId Child, Slot At, IReadOnlyList<RaftMember> Replicas)
{
    public bool Names(ReplicaId replica)
    {
        foreach (RaftMember member in Replicas)
        {
            if (member.Replica == replica)
                return true;
        }

        return false;
    }
}

/// <summary>A shard: its slots and its group.</summary>
internal sealed record ShardInfo
{
    public required ShardId Shard { get; init; }

    public required SlotRange Slots { get; init; }

    public required GroupInfo Group { get; init; }

    /// <summary>The replica that should lead while it can, so that leaders are spread over the nodes.</summary>
    public required ReplicaId PreferredLeader { get; init; }

    /// <summary>Not null: it is being split; then no replica comes or goes.</summary>
    public ShardSplit? Split { get; init; }

    public Epoch Epoch => Group.Epoch;
}

/// <summary>A replica that a node is to host.</summary>
/// <param name="Shard">Its group; <see cref="ShardId.Metadata"/> for group 0.</param>
/// <param name="Replica">Never used before or after.</param>
/// <param name="Slots">Of a shard: its slots.</param>
/// <param name="Epoch">Of the group.</param>
/// <param name="Members">The group's replicas, this one included.</param>
/// <param name="PrefersToLead">Whether it should lead while it can.</param>
internal sealed record HostedReplica(ShardId Shard, ReplicaId Replica, SlotRange Slots, Epoch Epoch, IReadOnlyList<RaftMember> Members, bool PrefersToLead)
{
    /// <summary>For <c>INodeLog.CreateReplicaAsync</c>.</summary>
    public byte[] EncodeConfiguration() => new RaftConfiguration(Members).Encode();

    /// <summary>For <c>INodeLog.CreateReplicaAsync</c>.</summary>
    public byte[] EncodeDescriptor() => new ReplicaDescriptor(Shard, Slots, Epoch).Encode();
}
