using ShardForge.Consensus;

namespace ShardForge.Metadata;

/// <summary>The bytes of a <see cref="ClusterState"/>, as entries, frames, snapshots and files carry it. The checksum is theirs.</summary>
/// <remarks><code>
/// state    | format 1 | cluster id guid | name string | version | feature level | settings | next replica id | nodes | group | shards |
/// settings | shard count | replication factor | flag: it grows | rule kind 1 | rule argument | history window, ms |
/// nodes    | count | node | node | ...
/// node     | id string | removed flag | leaving flag | address string | instance guid | open counter | feature level | first replica |
/// shards   | count | shard | shard | ...
/// shard    | id | first slot 2 | last slot 2 | preferred leader | group | flag | split if flag |
/// split    | child id | first slot of the child 2 | replica count | replica | ...
/// group    | epoch | placement epoch | replica count | replica | ... | change 1: 0 none, 1 add, 2 remove | replica if there is a change |
/// replica  | replica id | position of its node in nodes |
/// </code>
/// What has no size is a varint; pieces as in <see cref="MetadataWriter"/>. Format versions: 1 (without changes of members and splits), 2 (this one).</remarks>
internal static class ClusterStateCodec
{
    private const byte FormatVersion = 2;
    private const byte NoChange = 0, AddChange = 1, RemoveChange = 2;

    public static byte[] Encode(ClusterState state)
    {
        MetadataWriter writer = new();
        Write(writer, state);
        return writer.ToArray();
    }

    public static void Write(MetadataWriter writer, ClusterState state)
    {
        Invariant.Check(Problem(state) is null);
        writer.Byte(FormatVersion).Guid(state.ClusterId).Text(state.ClusterName).Number(state.Version).Number(state.FeatureLevel);
        ClusterSettings settings = state.Settings;
        writer.Number(settings.ShardCount).Number(settings.ReplicationFactor).Flag(settings.GrowsReplication).Byte((byte)settings.PartitionRule.Kind)
            .Number(settings.PartitionRule.Kind == PartitionRuleKind.UpTo ? settings.PartitionRule.Delimiter : settings.PartitionRule.Bytes)
            .Number((long)settings.HistoryWindow.TotalMilliseconds);
        writer.Number(state.NextReplicaId).Number(state.Nodes.Count);
        Dictionary<string, int> positions = new(StringComparer.Ordinal);
        foreach (NodeInfo node in state.Nodes)
        {
            positions.Add(node.NodeId, positions.Count);
            writer.Text(node.NodeId).Flag(node.IsRemoved).Flag(node.IsLeaving).Text(node.Address).Guid(node.InstanceId).Number(node.OpenCounter)
                .Number(node.SupportedFeatureLevel).Number(node.FirstReplica.Value);
        }

        Write(writer, state.MetadataGroup, positions);
        writer.Number(state.Shards.Count);
        foreach (ShardInfo shard in state.Shards)
        {
            writer.Number(shard.Shard.Value).UInt16(shard.Slots.First).UInt16(shard.Slots.Last).Number(shard.PreferredLeader.Value);
            Write(writer, shard.Group, positions);
            writer.Flag(shard.Split is not null);
            if (shard.Split is { } split)
            {
                writer.Number(split.Child.Value).UInt16(split.At.Value);
                Write(writer, split.Replicas, positions);
            }
        }
    }

    /// <summary>Reads what <see cref="Encode"/> wrote; <see cref="InvalidDataException"/> for anything else, also for a state that breaks its own invariants.</summary>
    public static ClusterState Decode(ReadOnlySpan<byte> bytes)
    {
        MetadataReader reader = new(bytes);
        ClusterState state = Read(ref reader);
        reader.ExpectEnd();
        return state;
    }

    public static ClusterState Read(ref MetadataReader reader)
    {
        byte format = reader.Byte();
        if (format != FormatVersion)
            throw new InvalidDataException($"A cluster state of format {format}; this build reads format {FormatVersion}.");
        Guid clusterId = reader.Guid();
        string name = reader.Text();
        ulong version = reader.Number();
        int featureLevel = reader.Int32();
        ClusterSettings settings = ReadSettings(ref reader);
        ulong nextReplicaId = reader.Number();
        NodeInfo[] nodes = new NodeInfo[reader.Count()];
        for (int i = 0; i < nodes.Length; i++)
        {
            string nodeId = reader.Text();
            bool removed = reader.Flag();
            bool leaving = reader.Flag();
            nodes[i] = new()
            {
                NodeId = nodeId,
                IsRemoved = removed,
                IsLeaving = leaving,
                Address = reader.Text(),
                InstanceId = reader.Guid(),
                OpenCounter = reader.Number(),
                SupportedFeatureLevel = reader.Int32(),
                FirstReplica = new ReplicaId(reader.Number()),
            };
        }

        GroupInfo metadataGroup = ReadGroup(ref reader, nodes);
        ShardInfo[] shards = new ShardInfo[reader.Count()];
        for (int i = 0; i < shards.Length; i++)
        {
            shards[i] = new()
            {
                Shard = new ShardId(reader.Int32()),
                Slots = new SlotRange(reader.UInt16(), reader.UInt16()),
                PreferredLeader = new ReplicaId(reader.Number()),
                Group = ReadGroup(ref reader, nodes),
                Split = reader.Flag() ? new ShardSplit(new ShardId(reader.Int32()), new Slot(reader.UInt16()), ReadReplicas(ref reader, nodes)) : null,
            };
        }

        ClusterState state = new()
        {
            ClusterId = clusterId,
            ClusterName = name,
            Version = version,
            FeatureLevel = featureLevel,
            Settings = settings,
            Nodes = nodes,
            MetadataGroup = metadataGroup,
            Shards = shards,
            NextReplicaId = nextReplicaId,
        };
        return Problem(state) is { } problem ? throw new InvalidDataException($"A cluster state of version {version}: {problem}.") : state;
    }

    private static void Write(MetadataWriter writer, GroupInfo group, Dictionary<string, int> positions)
    {
        writer.Number(group.Epoch.Value).Number(group.PlacementEpoch);
        Write(writer, group.Replicas, positions);
        writer.Byte(group.Change?.Kind switch { null => NoChange, MemberChange.Add => AddChange, _ => RemoveChange });
        if (group.Change is { } change)
            Write(writer, change.Replica, positions);
    }

    private static void Write(MetadataWriter writer, IReadOnlyList<RaftMember> replicas, Dictionary<string, int> positions)
    {
        writer.Number(replicas.Count);
        foreach (RaftMember replica in replicas)
            Write(writer, replica, positions);
    }

    private static void Write(MetadataWriter writer, RaftMember replica, Dictionary<string, int> positions) =>
        writer.Number(replica.Replica.Value).Number(positions[replica.NodeId]);

    private static GroupInfo ReadGroup(ref MetadataReader reader, NodeInfo[] nodes)
    {
        Epoch epoch = new(reader.Number());
        ulong placementEpoch = reader.Number();
        RaftMember[] replicas = ReadReplicas(ref reader, nodes);
        ReplicaChange? change = reader.Byte() switch
        {
            NoChange => null,
            AddChange => new(MemberChange.Add, ReadReplica(ref reader, nodes)),
            RemoveChange => new(MemberChange.Remove, ReadReplica(ref reader, nodes)),
            byte other => throw new InvalidDataException($"A change of members of kind {other}."),
        };
        return new() { Epoch = epoch, PlacementEpoch = placementEpoch, Replicas = replicas, Change = change };
    }

    private static RaftMember[] ReadReplicas(ref MetadataReader reader, NodeInfo[] nodes)
    {
        RaftMember[] replicas = new RaftMember[reader.Count()];
        for (int i = 0; i < replicas.Length; i++)
            replicas[i] = ReadReplica(ref reader, nodes);
        return replicas;
    }

    private static RaftMember ReadReplica(ref MetadataReader reader, NodeInfo[] nodes)
    {
        ReplicaId replica = new(reader.Number());
        int position = reader.Int32();
        return position < nodes.Length ? new(replica, nodes[position].NodeId) : throw new InvalidDataException($"Replica {replica} is on node {position} of {nodes.Length}.");
    }

    private static ClusterSettings ReadSettings(ref MetadataReader reader)
    {
        int shardCount = reader.Int32();
        int replicationFactor = reader.Int32();
        bool grows = reader.Flag();
        PartitionRuleKind kind = (PartitionRuleKind)reader.Byte();
        int argument = reader.Int32();
        long historyMilliseconds = reader.Int64();
        return new()
        {
            ShardCount = shardCount,
            ReplicationFactor = replicationFactor,
            GrowsReplication = grows,
            PartitionRule = kind switch
            {
                PartitionRuleKind.WholeKey when argument == 0 => PartitionRule.WholeKey,
                PartitionRuleKind.FixedLength when argument is >= 1 and <= 8 * 1024 => PartitionRule.FixedLength(argument),
                PartitionRuleKind.UpTo when argument <= byte.MaxValue => PartitionRule.UpTo((byte)argument),
                _ => throw new InvalidDataException($"A partition rule of kind {(byte)kind} with {argument}."),
            },
            HistoryWindow = historyMilliseconds <= int.MaxValue * 1000L
                ? TimeSpan.FromMilliseconds(historyMilliseconds)
                : throw new InvalidDataException($"A history window of {historyMilliseconds:N0} ms."),
        };
    }

    /// <summary>What breaks the state's invariants; null: nothing.</summary>
    private static string? Problem(ClusterState state)
    {
        for (int i = 1; i < state.Nodes.Count; i++)
        {
            if (string.CompareOrdinal(state.Nodes[i - 1].NodeId, state.Nodes[i].NodeId) >= 0)
                return $"node {state.Nodes[i].NodeId} is out of order";
        }

        HashSet<ulong> used = [];
        if (GroupProblem(state, state.MetadataGroup, used) is { } metadataProblem)
            return metadataProblem;
        int nextSlot = 0;
        foreach (ShardInfo shard in state.Shards)
        {
            if (shard.Slots.First != nextSlot || shard.Slots.Last < shard.Slots.First)
                return $"shard {shard.Shard} has slots {shard.Slots}, where {nextSlot:X4} is the next";
            nextSlot = shard.Slots.Last + 1;
            if (GroupProblem(state, shard.Group, used) is { } problem)
                return problem;
            if (shard.Group.NodeOf(shard.PreferredLeader) is null)
                return $"shard {shard.Shard} prefers {shard.PreferredLeader}, which is not its replica";
            if (shard.Split is not { } split)
                continue;
            if (!shard.Slots.Contains(split.At) || split.At.Value == shard.Slots.First || state.FindShard(split.Child) is not null || split.Replicas.Count == 0)
                return $"shard {shard.Shard} is split at {split.At} into {split.Child}, which cannot be";
            foreach (RaftMember replica in split.Replicas)
            {
                if (ReplicaProblem(state, replica, used) is { } splitProblem)
                    return splitProblem;
            }
        }

        return nextSlot == Slot.Count ? null : $"the shards cover {nextSlot} slots";
    }

    private static string? GroupProblem(ClusterState state, GroupInfo group, HashSet<ulong> used)
    {
        if (group.Replicas.Count == 0)
            return "a group has no replica";
        foreach (RaftMember replica in group.Replicas)
        {
            if (ReplicaProblem(state, replica, used) is { } problem)
                return problem;
        }

        return group.Change is { } change && group.NodeOf(change.Replica.Replica) is null ? ReplicaProblem(state, change.Replica, used) : null;
    }

    private static string? ReplicaProblem(ClusterState state, RaftMember replica, HashSet<ulong> used)
    {
        if (replica.Replica.IsNone || replica.Replica.Value >= state.NextReplicaId || !used.Add(replica.Replica.Value))
            return $"replica {replica.Replica} is none, not given out yet, or there twice";
        return state.FindNode(replica.NodeId) is null ? $"replica {replica.Replica} is on {replica.NodeId}, which is no node" : null;
    }
}
