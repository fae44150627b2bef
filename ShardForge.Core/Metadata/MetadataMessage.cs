namespace ShardForge.Metadata;

/// <summary>What nodes ask each other about metadata, once they are members (service <see cref="Network.PeerService.Metadata"/>).</summary>
/// <remarks><code>
/// request          | kind 1 | version 1 | fields |
///   1 timestamps   | count | oldest open snapshot |                 answered by the leader of group 0
///   2 state        | known version | longest wait, ms |             answered when there is a higher version, or the wait is over
///   3 propose      | command |                                      answered by the leader of group 0
/// answer           | status 1 | version 1 | fields |
///   1 timestamps   | first timestamp |
///   2 state        | flag | state bytes if there is a higher version |
///   3 applied      | outcome 1 |
///   4 not leader   | node id string, empty: not known |             nothing was done
///   5 unknown      |                                                it may be applied, or not
///   6 not known    |                                                a kind or version of a newer build (R42)
/// </code>
/// What has no size is a varint; pieces as in <see cref="MetadataWriter"/>; the frame carries the checksum. Versions: 1 of each (this one).</remarks>
internal abstract record MetadataMessage
{
    private const byte MessageVersion = 1;

    private enum RequestKind : byte
    {
        Timestamps = 1,
        State = 2,
        Propose = 3,
    }

    private enum AnswerKind : byte
    {
        Timestamps = 1,
        State = 2,
        Applied = 3,
        NotLeader = 4,
        Unknown = 5,
        NotKnown = 6,
    }

    public byte[] Encode()
    {
        MetadataWriter writer = new();
        switch (this)
        {
            case TimestampsRequest request:
                Request(RequestKind.Timestamps).Number(request.Count).Number(request.OldestOpenSnapshot.Value).Flag(request.IsForwarded);
                break;
            case StateRequest request:
                Request(RequestKind.State).Number(request.KnownVersion).Number((long)request.WaitMax.TotalMilliseconds);
                break;
            case ProposeRequest request:
                Request(RequestKind.Propose).Bytes(request.Command.Encode());
                break;
            case TimestampsAnswer answer:
                Answer(AnswerKind.Timestamps).Number(answer.First.Value);
                break;
            case StateAnswer answer:
                Answer(AnswerKind.State).Flag(answer.State is not null);
                if (answer.State is not null)
                    ClusterStateCodec.Write(writer, answer.State);
                break;
            case AppliedAnswer answer:
                Answer(AnswerKind.Applied).Byte((byte)answer.Outcome);
                break;
            case NotLeaderAnswer answer:
                Answer(AnswerKind.NotLeader).Text(answer.LeaderNode ?? "");
                break;
            case OutcomeUnknownAnswer:
                Answer(AnswerKind.Unknown);
                break;
            case NotKnownAnswer:
                Answer(AnswerKind.NotKnown);
                break;
            default:
                throw new InvalidOperationException($"No encoding for {GetType().Name}.");
        }

        return writer.ToArray();

        MetadataWriter Request(RequestKind kind) => writer.Byte((byte)kind).Byte(MessageVersion);
        MetadataWriter Answer(AnswerKind kind) => writer.Byte((byte)kind).Byte(MessageVersion);
    }

    /// <summary>Null: a kind or version that this build does not know. <see cref="InvalidDataException"/>: the fields do not fit.</summary>
    public static MetadataMessage? DecodeRequest(ReadOnlySpan<byte> bytes)
    {
        MetadataReader reader = new(bytes);
        RequestKind kind = (RequestKind)reader.Byte();
        if (reader.Byte() != MessageVersion)
            return null;
        MetadataMessage? request;
        switch (kind)
        {
            case RequestKind.Timestamps:
                request = new TimestampsRequest(reader.Int32(), new Timestamp(reader.Number()), reader.Flag());
                break;
            case RequestKind.State:
                request = new StateRequest(reader.Number(), TimeSpan.FromMilliseconds(reader.Int32()));
                break;
            case RequestKind.Propose:
                MetadataReader command = new(reader.Bytes());
                request = new ProposeRequest(MetadataCommand.Read(ref command));
                break;
            default:
                return null;
        }

        reader.ExpectEnd();
        return request;
    }

    /// <summary>Null: a kind or version that this build does not know. <see cref="InvalidDataException"/>: the fields do not fit.</summary>
    public static MetadataMessage? DecodeAnswer(ReadOnlySpan<byte> bytes)
    {
        MetadataReader reader = new(bytes);
        AnswerKind kind = (AnswerKind)reader.Byte();
        if (reader.Byte() != MessageVersion)
            return null;
        MetadataMessage? answer = kind switch
        {
            AnswerKind.Timestamps => new TimestampsAnswer(new Timestamp(reader.Number())),
            AnswerKind.State => new StateAnswer(reader.Flag() ? ClusterStateCodec.Read(ref reader) : null),
            AnswerKind.Applied => new AppliedAnswer((MetadataOutcome)reader.Byte()),
            AnswerKind.NotLeader => new NotLeaderAnswer(reader.Text() is { Length: > 0 } node ? node : null),
            AnswerKind.Unknown => new OutcomeUnknownAnswer(),
            AnswerKind.NotKnown => new NotKnownAnswer(),
            _ => null,
        };
        if (answer is not null)
            reader.ExpectEnd();
        return answer;
    }
}

/// <param name="Count">How many are wanted, at least 1.</param>
/// <param name="OldestOpenSnapshot">No snapshot below it is open on the asking node, or will be (R28).</param>
/// <param name="IsForwarded">A member that does not lead passed it on, since the asking node may not reach the leader itself; it is passed on once.</param>
internal sealed record TimestampsRequest(int Count, Timestamp OldestOpenSnapshot, bool IsForwarded) : MetadataMessage;

internal sealed record StateRequest(ulong KnownVersion, TimeSpan WaitMax) : MetadataMessage;

internal sealed record ProposeRequest(MetadataCommand Command) : MetadataMessage;

internal sealed record TimestampsAnswer(Timestamp First) : MetadataMessage;

internal sealed record StateAnswer(ClusterState? State) : MetadataMessage;

internal sealed record AppliedAnswer(MetadataOutcome Outcome) : MetadataMessage;

internal sealed record NotLeaderAnswer(string? LeaderNode) : MetadataMessage;

internal sealed record OutcomeUnknownAnswer : MetadataMessage;

internal sealed record NotKnownAnswer : MetadataMessage;
