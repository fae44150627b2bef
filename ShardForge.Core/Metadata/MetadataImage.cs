namespace ShardForge.Metadata;

/// <summary>The whole replicated state of the metadata group as of one entry. Immutable; what is applied makes a new one.</summary>
/// <remarks><code>
/// image | format 1 | applied index | applied term | oracle window timestamp | cluster state |        varints; ClusterStateCodec
/// </code>
/// The file around it carries the checksum. Format versions: 1 (this one).</remarks>
internal sealed partial record MetadataImage(LogIndex AppliedIndex, Term AppliedTerm, Timestamp OracleWindow, ClusterState State)
{
    private const byte FormatVersion = 1;

    /// <summary>What a replica of the formation starts with: the record, at the beginning of the log.</summary>
    public static MetadataImage OfFormation(ClusterState record) => new(default, default, Timestamp.Zero, record);

    public byte[] Encode()
    {
        MetadataWriter writer = new();
        writer.Byte(FormatVersion).Number(AppliedIndex.Value).Number(AppliedTerm.Value).Number(OracleWindow.Value);
        ClusterStateCodec.Write(writer, State);
        return writer.ToArray();
    }

    /// <summary>Reads what <see cref="Encode"/> wrote; <see cref="InvalidDataException"/> for anything else.</summary>
    public static MetadataImage Decode(ReadOnlySpan<byte> bytes)
    {
        MetadataReader reader = new(bytes);
        byte format = reader.Byte();
        if (format != FormatVersion)
            throw new InvalidDataException($"An image of format {format}; this build reads format {FormatVersion}.");
        MetadataImage image = new(new LogIndex(reader.Int64()), new Term(reader.Int64()), new Timestamp(reader.Number()), ClusterStateCodec.Read(ref reader));
        reader.ExpectEnd();
        return image;
    }

    /// <summary>The image after a command. A pure function: every replica gets the same.</summary>
    public MetadataImage Apply(MetadataCommand command, out MetadataOutcome outcome)
    {
        switch (command)
        {
            case OracleWindowCommand window:
                outcome = MetadataOutcome.Ok;
                return this with { OracleWindow = Timestamp.Later(OracleWindow, window.UpperEnd) };
            case RegisterNodeCommand register:
                return Changed(Register(register, out outcome));
            case RaiseFeatureLevelCommand raise:
                return Changed(Raise(raise, out outcome));
            case RemoveNodeCommand remove:
                return Changed(Remove(remove, out outcome));
            case ReplaceNodeCommand replace:
                return Changed(Replace(replace, out outcome));
            case LeaveNodeCommand leave:
                return Changed(Leave(leave, out outcome));
            case AddReplicaCommand add:
                return Changed(Add(add, out outcome));
            case RemoveReplicaCommand remove:
                return Changed(Remove(remove, out outcome));
            case EndChangeCommand end:
                return Changed(End(end, out outcome));
            case CancelAddCommand cancel:
                return Changed(Cancel(cancel, out outcome));
            case PreferLeaderCommand prefer:
                return Changed(Prefer(prefer, out outcome));
            case SplitShardCommand split:
                return Changed(Split(split, out outcome));
            case EndSplitCommand end:
                return Changed(End(end, out outcome));
            default:
                throw new InvalidOperationException($"No rule for {command.GetType().Name}.");
        }
    }

    private MetadataImage Changed(ClusterState? changed) =>
        changed is null ? this : this with { State = changed with { Version = State.Version + 1 } };

    private ClusterState? Register(RegisterNodeCommand command, out MetadataOutcome outcome)
    {
        NodeInfo registered = new()
        {
            NodeId = command.NodeId,
            Address = command.Address,
            InstanceId = command.InstanceId,
            OpenCounter = command.OpenCounter,
            SupportedFeatureLevel = command.SupportedFeatureLevel,
        };
        NodeInfo? known = State.FindNode(command.NodeId);
        if (known is not null && known.InstanceId != Guid.Empty && known.InstanceId != command.InstanceId)
        {
            outcome = MetadataOutcome.OtherInstance;
            return null;
        }

        if (known is { IsRemoved: true })
        {
            outcome = MetadataOutcome.NodeRemoved;
            return null;
        }

        if (known is not null && known.OpenCounter > command.OpenCounter)
        {
            outcome = MetadataOutcome.RestoredCopy;
            return null;
        }

        if (command.SupportedFeatureLevel < State.FeatureLevel)
        {
            outcome = MetadataOutcome.LevelNotKnown;
            return null;
        }

        if (known is not null)
            registered = registered with { IsLeaving = known.IsLeaving, FirstReplica = known.FirstReplica };
        outcome = MetadataOutcome.Ok;
        return registered == known ? null : State with { Nodes = With(State.Nodes, registered) };
    }

    private ClusterState? Raise(RaiseFeatureLevelCommand command, out MetadataOutcome outcome)
    {
        foreach (NodeInfo node in State.Nodes)
        {
            if (!node.IsRemoved && node.SupportedFeatureLevel < command.FeatureLevel)
            {
                outcome = MetadataOutcome.LevelNotKnown;
                return null;
            }
        }

        outcome = MetadataOutcome.Ok;
        return command.FeatureLevel > State.FeatureLevel ? State with { FeatureLevel = command.FeatureLevel } : null;
    }

    private ClusterState? Remove(RemoveNodeCommand command, out MetadataOutcome outcome)
    {
        NodeInfo? node = State.FindNode(command.NodeId);
        if (node is null)
        {
            outcome = MetadataOutcome.UnknownNode;
            return null;
        }

        if (State.HasReplicasOn(command.NodeId))
        {
            outcome = MetadataOutcome.NodeHasReplicas;
            return null;
        }

        outcome = MetadataOutcome.Ok;
        return node.IsRemoved ? null : State with { Nodes = With(State.Nodes, node with { IsRemoved = true, IsLeaving = false }) };
    }

    /// <summary>The nodes with one put in its place, new or changed.</summary>
    private static List<NodeInfo> With(IReadOnlyList<NodeInfo> nodes, NodeInfo node)
    {
        List<NodeInfo> changed = new(nodes.Count + 1);
        foreach (NodeInfo other in nodes)
        {
            if (!string.Equals(other.NodeId, node.NodeId, StringComparison.Ordinal))
                changed.Add(other);
        }

        int at = changed.FindIndex(other => string.CompareOrdinal(other.NodeId, node.NodeId) > 0);
        changed.Insert(at < 0 ? changed.Count : at, node);
        return changed;
    }
}
