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
        if (version != CommandVersion || (Kind)kind is < Kind.OracleWindow or > Kind.RemoveNode)
        {
            throw new ConfigurationException("DataDirectory",
                $"The metadata group's log has a command of kind {kind} in version {version}, which this build does not know. Nothing was skipped; open the node with a newer build.");
        }

        MetadataCommand command = (Kind)kind switch
        {
            Kind.OracleWindow => new OracleWindowCommand(new Timestamp(reader.Number())),
            Kind.RegisterNode => new RegisterNodeCommand(reader.Text(), reader.Text(), reader.Guid(), reader.Number(), reader.Int32()),
            Kind.RaiseFeatureLevel => new RaiseFeatureLevelCommand(reader.Int32()),
            _ => new RemoveNodeCommand(reader.Text()),
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
}
