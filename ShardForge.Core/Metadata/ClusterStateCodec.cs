using ShardForge.Consensus;

namespace ShardForge.Metadata;

/// <summary>The bytes of a <see cref="ClusterState"/>, as entries, frames, snapshots and files carry it. The checksum is theirs.</summary>
/// <remarks><code>
/// state    | format 1 | cluster id guid | name string | version | feature level | settings | next replica id | nodes | group | shards |
/// settings | shard count | replication factor | rule kind 1 | rule argument | history window, ms |
/// nodes    | count | node | node | ...
/// node     | id string | removed flag | address string | instance guid | open counter | feature level |
/// shards   | count | shard | shard | ...
/// shard    | id | first slot 2 | last slot 2 | preferred leader | group |
/// group    | epoch | replica count | replica | replica | ...
/// replica  | replica id | position of its node in nodes |
/// </code>
/// What has no size is a varint; pieces as in <see cref="MetadataWriter"/>. Format versions: 1 (this one).</remarks>
internal static class ClusterStateCodec
{
    private const byte FormatVersion = 1;

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
        writer.Number(settings.ShardCount).Number(settings.ReplicationFactor).Byte((byte)settings.PartitionRule.Kind)
            .Number(settings.PartitionRule.Kind == PartitionRuleKind.UpTo ? settings.PartitionRule.Delimiter : settings.PartitionRule.Bytes)
            .Number((long)settings.HistoryWindow.TotalMilliseconds);
        writer.Number(state.NextReplicaId).Number(state.Nodes.Count);
        Dictionary<string, int> positions = new(StringComparer.Ordinal);
        foreach (NodeInfo node in state.Nodes)
        {
            positions.Add(node.NodeId, positions.Count);
            writer.Text(node.NodeId).Flag(node.IsRemoved).Text(node.Address).Guid(node.InstanceId).Number(node.OpenCounter).Number(node.SupportedFeatureLevel);
        }

        Write(writer, state.MetadataGroup, positions);
        writer.Number(state.Shards.Count);
        foreach (ShardInfo shard in state.Shards)
        {
            writer.Number(shard.Shard.Value).UInt16(shard.Slots.First).UInt16(shard.Slots.Last).Number(shard.PreferredLeader.Value);
            Write(writer, shard.Group, positions);
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
            nodes[i] = new()
            {
                NodeId = nodeId,
                IsRemoved = removed,
                Address = reader.Text(),
                InstanceId = reader.Guid(),
                OpenCounter = reader.Number(),
                SupportedFeatureLevel = reader.Int32(),
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
        writer.Number(group.Epoch.Value).Number(group.Replicas.Count);
        foreach (RaftMember replica in group.Replicas)
            writer.Number(replica.Replica.Value).Number(positions[replica.NodeId]);
    }

    private static GroupInfo ReadGroup(ref MetadataReader reader, NodeInfo[] nodes)
    {
        Epoch epoch = new(reader.Number());
        RaftMember[] replicas = new RaftMember[reader.Count()];
        for (int i = 0; i < replicas.Length; i++)
        {
            ReplicaId replica = new(reader.Number());
            int position = reader.Int32();
            if (position >= nodes.Length)
                throw new InvalidDataException($"Replica {replica} is on node {position} of {nodes.Length}.");
            replicas[i] = new(replica, nodes[position].NodeId);
        }

        return new() { Epoch = epoch, Replicas = replicas };
    }

    private static ClusterSettings ReadSettings(ref MetadataReader reader)
    {
        int shardCount = reader.Int32();
        int replicationFactor = reader.Int32();
        PartitionRuleKind kind = (PartitionRuleKind)reader.Byte();
        int argument = reader.Int32();
        long historyMilliseconds = reader.Int64();
        return new()
        {
            ShardCount = shardCount,
            ReplicationFactor = replicationFactor,
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
        }

        return nextSlot == Slot.Count ? null : $"the shards cover {nextSlot} slots";
    }

    private static string? GroupProblem(ClusterState state, GroupInfo group, HashSet<ulong> used)
    {
        if (group.Replicas.Count == 0)
            return "a group has no replica";
        foreach (RaftMember replica in group.Replicas)
        {
            if (replica.Replica.IsNone || replica.Replica.Value >= state.NextReplicaId || !used.Add(replica.Replica.Value))
                return $"replica {replica.Replica} is none, not given out yet, or there twice";
            if (state.FindNode(replica.NodeId) is null)
                return $"replica {replica.Replica} is on {replica.NodeId}, which is no node";
        }

        return null;
    }
}
