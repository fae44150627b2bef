namespace ShardForge.Metadata.Formation;

/// <summary>What nodes say to each other before they are members (service <see cref="Network.PeerService.Formation"/>).</summary>
/// <remarks><code>
/// message       | kind 1 | version 1 | fields |
///   1 view         | cluster name | node id | instance guid | open counter | feature level | member count | member ids | standing 1 | refusal 1 | flag | state if flag |
///   2 join         | cluster name | node id | address | instance guid | open counter | feature level |
///   3 join answer  | cluster name | refusal 1 | flag | state if flag |
/// </code>
/// Names, ids and addresses are strings; what has no size is a varint; pieces as in <see cref="MetadataWriter"/>, states as in <see cref="ClusterStateCodec"/>; the frame
/// carries the checksum. Versions: 1 of each (this one). An unknown kind or version is an <see cref="InvalidDataException"/> (R42).</remarks>
internal abstract record FormationMessage
{
    private const byte MessageVersion = 1;
    private const byte ViewKind = 1, JoinKind = 2, JoinAnswerKind = 3;

    public byte[] Encode()
    {
        MetadataWriter writer = new();
        switch (this)
        {
            case FormationView view:
                writer.Byte(ViewKind).Byte(MessageVersion).Text(view.ClusterName).Text(view.NodeId).Guid(view.InstanceId).Number(view.OpenCounter).Number(view.SupportedFeatureLevel);
                writer.Number(view.Members.Count);
                foreach (string member in view.Members)
                    writer.Text(member);
                writer.Byte((byte)view.Standing).Byte((byte)view.Refusal);
                WriteState(writer, view.Record);
                break;
            case JoinRequest join:
                writer.Byte(JoinKind).Byte(MessageVersion).Text(join.ClusterName).Text(join.Node.NodeId).Text(join.Node.Address).Guid(join.Node.InstanceId)
                    .Number(join.Node.OpenCounter).Number(join.Node.SupportedFeatureLevel);
                break;
            case JoinAnswer answer:
                writer.Byte(JoinAnswerKind).Byte(MessageVersion).Text(answer.ClusterName).Byte((byte)answer.Refusal);
                WriteState(writer, answer.State);
                break;
            default:
                throw new InvalidOperationException($"No encoding for {GetType().Name}.");
        }

        return writer.ToArray();
    }

    public static FormationMessage Decode(ReadOnlySpan<byte> bytes)
    {
        MetadataReader reader = new(bytes);
        byte kind = reader.Byte();
        byte version = reader.Byte();
        if (version != MessageVersion)
            throw new InvalidDataException($"A formation message of kind {kind} and version {version}; this build reads version {MessageVersion}.");
        FormationMessage message = kind switch
        {
            ViewKind => ReadView(ref reader),
            JoinKind => new JoinRequest
            {
                ClusterName = reader.Text(),
                Node = new RegisterNodeCommand(reader.Text(), reader.Text(), reader.Guid(), reader.Number(), reader.Int32()),
            },
            JoinAnswerKind => ReadJoinAnswer(ref reader),
            _ => throw new InvalidDataException($"A formation message of kind {kind}."),
        };
        reader.ExpectEnd();
        return message;
    }

    private static FormationView ReadView(ref MetadataReader reader)
    {
        string clusterName = reader.Text();
        string nodeId = reader.Text();
        Guid instanceId = reader.Guid();
        ulong openCounter = reader.Number();
        int featureLevel = reader.Int32();
        string[] members = new string[reader.Count()];
        for (int i = 0; i < members.Length; i++)
            members[i] = reader.Text();
        FormationStanding standing = (FormationStanding)reader.Byte();
        FormationRefusal refusal = (FormationRefusal)reader.Byte();
        return new()
        {
            ClusterName = clusterName,
            NodeId = nodeId,
            InstanceId = instanceId,
            OpenCounter = openCounter,
            SupportedFeatureLevel = featureLevel,
            Members = members,
            Standing = standing,
            Refusal = refusal,
            Record = ReadState(ref reader),
        };
    }

    private static JoinAnswer ReadJoinAnswer(ref MetadataReader reader)
    {
        string clusterName = reader.Text();
        FormationRefusal refusal = (FormationRefusal)reader.Byte();
        return new(ReadState(ref reader), refusal, clusterName);
    }

    private static void WriteState(MetadataWriter writer, ClusterState? state)
    {
        writer.Flag(state is not null);
        if (state is not null)
            ClusterStateCodec.Write(writer, state);
    }

    private static ClusterState? ReadState(ref MetadataReader reader) => reader.Flag() ? ClusterStateCodec.Read(ref reader) : null;
}
