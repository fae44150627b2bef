namespace ShardForge.Metadata;

/// <summary>A change of the metadata group's state, as its entries carry it.</summary>
/// <remarks><code>
/// entry            | proposer | command |
/// proposer         | replica id | sequence |          who waits for it: a replica that leads, and its count of proposals in this run
/// command          | kind 1 | version 1 | fields |
///   1 oracle window  | upper end timestamp |           timestamps below it may be handed out
///   2 register node  | id string | address string | instance guid | open counter | feature level |
///   3 raise level    | feature level |
///   4 remove node    | id string |
///   5 replace node   | id string | address string | old instance guid | new instance guid | open counter | feature level |
///   6 leave node     | id string |
///   7 add replica    | shard | placement epoch | node id string |
///   8 remove replica | shard | placement epoch | replica |
///   9 end change     | shard | replica |
///  10 cancel add     | shard | replica |
///  11 prefer leader  | shard | replica |
///  12 split shard    | shard | epoch | first slot of the child 2 |
///  13 end split      | shard | child |
/// </code>
/// What has no size is a varint; pieces as in <see cref="MetadataWriter"/>. The log's record carries the checksum. A kind or version that this build does not
/// know is refused: the replica stops (R42). Commands may be proposed again after an unknown outcome: applied twice they change nothing more.
/// <para>Versions: 1 of each kind (this one).</para></remarks>
internal abstract record MetadataCommand
{
    private const byte CommandVersion = 1;

    private enum Kind : byte
    {
        None = 0,
        OracleWindow = 1,
        RegisterNode = 2,
        RaiseFeatureLevel = 3,
        RemoveNode = 4,
        ReplaceNode = 5,
        LeaveNode = 6,
        AddReplica = 7,
        RemoveReplica = 8,
        EndChange = 9,
        CancelAdd = 10,
        PreferLeader = 11,
        SplitShard = 12,
        EndSplit = 13,
    }

    public byte[] Encode()
    {
        MetadataWriter writer = new();
        Write(writer);
        return writer.ToArray();
    }

    public void Write(MetadataWriter writer)
    {
        switch (this)
        {
            case OracleWindowCommand window:
                Head(Kind.OracleWindow).Number(window.UpperEnd.Value);
                break;
            case RegisterNodeCommand node:
                Head(Kind.RegisterNode).Text(node.NodeId).Text(node.Address).Guid(node.InstanceId).Number(node.OpenCounter).Number(node.SupportedFeatureLevel);
                break;
            case RaiseFeatureLevelCommand raise:
                Head(Kind.RaiseFeatureLevel).Number(raise.FeatureLevel);
                break;
            case RemoveNodeCommand remove:
                Head(Kind.RemoveNode).Text(remove.NodeId);
                break;
            case ReplaceNodeCommand replace:
                Head(Kind.ReplaceNode).Text(replace.NodeId).Text(replace.Address).Guid(replace.OldInstance).Guid(replace.InstanceId).Number(replace.OpenCounter)
                    .Number(replace.SupportedFeatureLevel);
                break;
            case LeaveNodeCommand leave:
                Head(Kind.LeaveNode).Text(leave.NodeId);
                break;
            case AddReplicaCommand add:
                Head(Kind.AddReplica).Number(add.Shard.Value).Number(add.PlacementEpoch).Text(add.NodeId);
                break;
            case RemoveReplicaCommand remove:
                Head(Kind.RemoveReplica).Number(remove.Shard.Value).Number(remove.PlacementEpoch).Number(remove.Replica.Value);
                break;
            case EndChangeCommand end:
                Head(Kind.EndChange).Number(end.Shard.Value).Number(end.Replica.Value);
                break;
            case CancelAddCommand cancel:
                Head(Kind.CancelAdd).Number(cancel.Shard.Value).Number(cancel.Replica.Value);
                break;
            case PreferLeaderCommand prefer:
                Head(Kind.PreferLeader).Number(prefer.Shard.Value).Number(prefer.Replica.Value);
                break;
            case SplitShardCommand split:
                Head(Kind.SplitShard).Number(split.Shard.Value).Number(split.Epoch.Value).UInt16(split.At.Value);
                break;
            case EndSplitCommand end:
                Head(Kind.EndSplit).Number(end.Shard.Value).Number(end.Child.Value);
                break;
            default:
                throw new InvalidOperationException($"No encoding for {GetType().Name}.");
        }

        MetadataWriter Head(Kind kind) => writer.Byte((byte)kind).Byte(CommandVersion);
    }

    /// <summary>Reads what <see cref="Encode"/> wrote.</summary>
    /// <exception cref="ConfigurationException">A kind or version of a newer build.</exception>
    /// <exception cref="InvalidDataException">The fields do not fit.</exception>
    public static MetadataCommand Read(ref MetadataReader reader)
    {
        byte kind = reader.Byte();
        byte version = reader.Byte();
        if (version != CommandVersion || (Kind)kind is < Kind.OracleWindow or > Kind.EndSplit)
        {
            throw new ConfigurationException("DataDirectory",
                $"The metadata group's log has a command of kind {kind} in version {version}, which this build does not know. Nothing was skipped; open the node with a newer build.");
        }

        MetadataCommand command = (Kind)kind switch
        {
            Kind.OracleWindow => new OracleWindowCommand(new Timestamp(reader.Number())),
            Kind.RegisterNode => new RegisterNodeCommand(reader.Text(), reader.Text(), reader.Guid(), reader.Number(), reader.Int32()),
            Kind.RaiseFeatureLevel => new RaiseFeatureLevelCommand(reader.Int32()),
            Kind.RemoveNode => new RemoveNodeCommand(reader.Text()),
            Kind.ReplaceNode => new ReplaceNodeCommand(reader.Text(), reader.Text(), reader.Guid(), reader.Guid(), reader.Number(), reader.Int32()),
            Kind.LeaveNode => new LeaveNodeCommand(reader.Text()),
            Kind.AddReplica => new AddReplicaCommand(new ShardId(reader.Int32()), reader.Number(), reader.Text()),
            Kind.RemoveReplica => new RemoveReplicaCommand(new ShardId(reader.Int32()), reader.Number(), new ReplicaId(reader.Number())),
            Kind.EndChange => new EndChangeCommand(new ShardId(reader.Int32()), new ReplicaId(reader.Number())),
            Kind.CancelAdd => new CancelAddCommand(new ShardId(reader.Int32()), new ReplicaId(reader.Number())),
            Kind.PreferLeader => new PreferLeaderCommand(new ShardId(reader.Int32()), new ReplicaId(reader.Number())),
            Kind.SplitShard => new SplitShardCommand(new ShardId(reader.Int32()), new Epoch(reader.Number()), new Slot(reader.UInt16())),
            _ => new EndSplitCommand(new ShardId(reader.Int32()), new ShardId(reader.Int32())),
        };
        reader.ExpectEnd();
        return command;
    }
}

/// <summary>Timestamps below <paramref name="UpperEnd"/> may be handed out (R01).</summary>
internal sealed record OracleWindowCommand(Timestamp UpperEnd) : MetadataCommand;

/// <summary>A node is there, at this address, in its so-many-th run (R38).</summary>
internal sealed record RegisterNodeCommand(string NodeId, string Address, Guid InstanceId, ulong OpenCounter, int SupportedFeatureLevel) : MetadataCommand;

/// <summary>Every node knows this level (R42).</summary>
internal sealed record RaiseFeatureLevelCommand(int FeatureLevel) : MetadataCommand;

/// <summary>A node without replicas leaves.</summary>
internal sealed record RemoveNodeCommand(string NodeId) : MetadataCommand;

/// <summary>An empty data directory takes the place of a node's former one (R38): the replicas of that one are lost.</summary>
internal sealed record ReplaceNodeCommand(string NodeId, string Address, Guid OldInstance, Guid InstanceId, ulong OpenCounter, int SupportedFeatureLevel) : MetadataCommand;

/// <summary>A node is to leave: its replicas are moved away, then it is removed.</summary>
internal sealed record LeaveNodeCommand(string NodeId) : MetadataCommand;

/// <summary>A group gets another replica, on that node: it is given its id, and is added once it is level.</summary>
internal sealed record AddReplicaCommand(ShardId Shard, ulong PlacementEpoch, string NodeId) : MetadataCommand;

/// <summary>A group loses a replica.</summary>
internal sealed record RemoveReplicaCommand(ShardId Shard, ulong PlacementEpoch, ReplicaId Replica) : MetadataCommand;

/// <summary>The group's leader has carried the change out: it is committed there.</summary>
internal sealed record EndChangeCommand(ShardId Shard, ReplicaId Replica) : MetadataCommand;

/// <summary>A replica is not to be added after all: whether it was by now or not, it is taken out.</summary>
internal sealed record CancelAddCommand(ShardId Shard, ReplicaId Replica) : MetadataCommand;

/// <summary>That replica is to lead while it can.</summary>
internal sealed record PreferLeaderCommand(ShardId Shard, ReplicaId Replica) : MetadataCommand;

/// <summary>A shard is to be split (R40): the child is given its id, and a replica beside each of the parent's.</summary>
internal sealed record SplitShardCommand(ShardId Shard, Epoch Epoch, Slot At) : MetadataCommand;

/// <summary>The split is committed in the parent: the child serves the slots it got.</summary>
internal sealed record EndSplitCommand(ShardId Shard, ShardId Child) : MetadataCommand;

/// <summary>How a command ended once it was applied. On the wire: never give a number a second meaning.</summary>
internal enum MetadataOutcome : byte
{
    None = 0,

    /// <summary>Applied, or it was so already.</summary>
    Ok = 1,

    /// <summary>The node id belongs to another data directory (R38).</summary>
    OtherInstance = 2,

    /// <summary>The node registers a lower open counter than before: a restored copy of its directory (R38).</summary>
    RestoredCopy = 3,

    /// <summary>The node still hosts replicas.</summary>
    NodeHasReplicas = 4,

    /// <summary>No such node.</summary>
    UnknownNode = 5,

    /// <summary>Not every node knows that level.</summary>
    LevelNotKnown = 6,

    /// <summary>The node was taken out of the cluster.</summary>
    NodeRemoved = 7,

    /// <summary>It was thought out for another state: nothing was changed. Look at the state as it is now.</summary>
    Outdated = 8,

    /// <summary>No such shard.</summary>
    UnknownShard = 9,

    /// <summary>No other node would be left.</summary>
    LastNode = 10,

    /// <summary>Too many shards, or the shard has too few slots to be split.</summary>
    CannotSplit = 11,
}
