using System.Buffers.Binary;

namespace ShardForge.Consensus.NodeLog;

/// <summary>What the records of each kind hold, behind the record header that <see cref="LogFormat"/> describes.</summary>
/// <remarks><code>
/// Promise         | durable segment 8 | durable offset 8 | batch bytes 4 |
/// Entry           | index 8 | term 8 | entry kind 1 | payload |                 RewrittenEntry: the same
/// Fragment        | bytes of the whole body 4 | this part's place in it 4 | kind of the whole 1 | part |
/// HardState       | term 8 | voted for 8 (0: nobody) |
/// Truncation      | last index kept 8 |
/// CompactionMark  | index 8 | term 8 | configuration |
/// ReplicaCreated  | descriptor bytes 4 | descriptor | configuration |           term 1, no vote, generation 1
/// ReplicaRemoved  | |
/// Generation      | index 8 | term 8 | generation 8 | keeps the tail 1 | configuration |
/// CarriedState    | term 8 | voted for 8 | last index 8 | compacted index 8 | compacted term 8 | generation 8 | descriptor bytes 4 | descriptor | configuration |
/// RemovedIds      | replica id 8 | ... |                                                            little-endian
/// </code></remarks>
internal static class LogBody
{
    private const int CarriedHeadBytes = 52, GenerationHeadBytes = 25, MarkHeadBytes = 16;

    public static void WriteEntryHead(Span<byte> target, LogIndex index, Term term, RaftEntryKind kind)
    {
        BinaryPrimitives.WriteInt64LittleEndian(target, index.Value);
        BinaryPrimitives.WriteInt64LittleEndian(target[8..], term.Value);
        target[16] = (byte)kind;
    }

    public static bool TryReadEntry(ReadOnlySpan<byte> body, out LogIndex index, out Term term, out RaftEntryKind kind)
    {
        bool complete = body.Length >= LogFormat.EntryHeadBytes;
        index = complete ? new(BinaryPrimitives.ReadInt64LittleEndian(body)) : default;
        term = complete ? new(BinaryPrimitives.ReadInt64LittleEndian(body[8..])) : default;
        kind = complete ? (RaftEntryKind)body[16] : default;
        return complete;
    }

    public static byte[] Entry(LogIndex index, Term term, RaftEntryKind kind, ReadOnlySpan<byte> payload)
    {
        byte[] body = new byte[LogFormat.EntryHeadBytes + payload.Length];
        WriteEntryHead(body, index, term, kind);
        payload.CopyTo(body.AsSpan(LogFormat.EntryHeadBytes));
        return body;
    }

    public static void WriteFragmentHead(Span<byte> target, int totalBytes, int at, LogRecordKind kind)
    {
        BinaryPrimitives.WriteInt32LittleEndian(target, totalBytes);
        BinaryPrimitives.WriteInt32LittleEndian(target[4..], at);
        target[8] = (byte)kind;
    }

    public static bool TryReadFragment(ReadOnlySpan<byte> body, out int totalBytes, out int at, out LogRecordKind kind)
    {
        bool complete = body.Length > LogFormat.FragmentHeadBytes;
        totalBytes = complete ? BinaryPrimitives.ReadInt32LittleEndian(body) : 0;
        at = complete ? BinaryPrimitives.ReadInt32LittleEndian(body[4..]) : 0;
        kind = complete ? (LogRecordKind)body[8] : default;
        return complete && at >= 0 && totalBytes - at >= body.Length - LogFormat.FragmentHeadBytes;
    }

    public static byte[] HardState(Term term, ReplicaId votedFor)
    {
        byte[] body = new byte[16];
        BinaryPrimitives.WriteInt64LittleEndian(body, term.Value);
        BinaryPrimitives.WriteUInt64LittleEndian(body.AsSpan(8), votedFor.Value);
        return body;
    }

    public static bool TryReadHardState(ReadOnlySpan<byte> body, out Term term, out ReplicaId votedFor)
    {
        bool complete = body.Length == 16;
        term = complete ? new(BinaryPrimitives.ReadInt64LittleEndian(body)) : default;
        votedFor = complete ? new(BinaryPrimitives.ReadUInt64LittleEndian(body[8..])) : default;
        return complete;
    }

    public static byte[] Truncation(LogIndex lastKept)
    {
        byte[] body = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(body, lastKept.Value);
        return body;
    }

    public static bool TryReadTruncation(ReadOnlySpan<byte> body, out LogIndex lastKept)
    {
        lastKept = body.Length == 8 ? new(BinaryPrimitives.ReadInt64LittleEndian(body)) : default;
        return body.Length == 8;
    }

    public static byte[] CompactionMark(LogIndex index, Term term, ReadOnlySpan<byte> configuration)
    {
        byte[] body = new byte[MarkHeadBytes + configuration.Length];
        BinaryPrimitives.WriteInt64LittleEndian(body, index.Value);
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(8), term.Value);
        configuration.CopyTo(body.AsSpan(MarkHeadBytes));
        return body;
    }

    public static bool TryReadCompactionMark(ReadOnlySpan<byte> body, out LogIndex index, out Term term, out byte[] configuration)
    {
        bool complete = body.Length >= MarkHeadBytes;
        index = complete ? new(BinaryPrimitives.ReadInt64LittleEndian(body)) : default;
        term = complete ? new(BinaryPrimitives.ReadInt64LittleEndian(body[8..])) : default;
        configuration = complete ? body[MarkHeadBytes..].ToArray() : [];
        return complete;
    }

    public static byte[] ReplicaCreated(ReadOnlySpan<byte> descriptor, ReadOnlySpan<byte> configuration)
    {
        byte[] body = new byte[4 + descriptor.Length + configuration.Length];
        BinaryPrimitives.WriteInt32LittleEndian(body, descriptor.Length);
        descriptor.CopyTo(body.AsSpan(4));
        configuration.CopyTo(body.AsSpan(4 + descriptor.Length));
        return body;
    }

    public static bool TryReadReplicaCreated(ReadOnlySpan<byte> body, out byte[] descriptor, out byte[] configuration)
    {
        int bytes = body.Length >= 4 ? BinaryPrimitives.ReadInt32LittleEndian(body) : -1;
        bool complete = bytes >= 0 && bytes <= body.Length - 4;
        descriptor = complete ? body.Slice(4, bytes).ToArray() : [];
        configuration = complete ? body[(4 + bytes)..].ToArray() : [];
        return complete;
    }

    public static byte[] Generation(LogIndex index, Term term, long generation, bool keepsTail, ReadOnlySpan<byte> configuration)
    {
        byte[] body = new byte[GenerationHeadBytes + configuration.Length];
        BinaryPrimitives.WriteInt64LittleEndian(body, index.Value);
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(8), term.Value);
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(16), generation);
        body[24] = keepsTail ? (byte)1 : (byte)0;
        configuration.CopyTo(body.AsSpan(GenerationHeadBytes));
        return body;
    }

    public static bool TryReadGeneration(ReadOnlySpan<byte> body, out LogIndex index, out Term term, out long generation, out bool keepsTail, out byte[] configuration)
    {
        bool complete = body.Length >= GenerationHeadBytes && body[24] <= 1;
        index = complete ? new(BinaryPrimitives.ReadInt64LittleEndian(body)) : default;
        term = complete ? new(BinaryPrimitives.ReadInt64LittleEndian(body[8..])) : default;
        generation = complete ? BinaryPrimitives.ReadInt64LittleEndian(body[16..]) : 0;
        keepsTail = complete && body[24] == 1;
        configuration = complete ? body[GenerationHeadBytes..].ToArray() : [];
        return complete;
    }

    public static byte[] CarriedState(in LogCarriedState state)
    {
        byte[] body = new byte[CarriedHeadBytes + state.Descriptor.Length + state.Configuration.Length];
        BinaryPrimitives.WriteInt64LittleEndian(body, state.Term.Value);
        BinaryPrimitives.WriteUInt64LittleEndian(body.AsSpan(8), state.VotedFor.Value);
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(16), state.LastIndex.Value);
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(24), state.CompactedIndex.Value);
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(32), state.CompactedTerm.Value);
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(40), state.Generation);
        BinaryPrimitives.WriteInt32LittleEndian(body.AsSpan(48), state.Descriptor.Length);
        state.Descriptor.Span.CopyTo(body.AsSpan(CarriedHeadBytes));
        state.Configuration.Span.CopyTo(body.AsSpan(CarriedHeadBytes + state.Descriptor.Length));
        return body;
    }

    public static bool TryReadCarriedState(ReadOnlySpan<byte> body, out LogCarriedState state)
    {
        int descriptorBytes = body.Length >= CarriedHeadBytes ? BinaryPrimitives.ReadInt32LittleEndian(body[48..]) : -1;
        state = default;
        if (descriptorBytes < 0 || descriptorBytes > body.Length - CarriedHeadBytes)
            return false;
        state = new LogCarriedState(
            new Term(BinaryPrimitives.ReadInt64LittleEndian(body)), new ReplicaId(BinaryPrimitives.ReadUInt64LittleEndian(body[8..])),
            new LogIndex(BinaryPrimitives.ReadInt64LittleEndian(body[16..])), new LogIndex(BinaryPrimitives.ReadInt64LittleEndian(body[24..])),
            new Term(BinaryPrimitives.ReadInt64LittleEndian(body[32..])), BinaryPrimitives.ReadInt64LittleEndian(body[40..]),
            body.Slice(CarriedHeadBytes, descriptorBytes).ToArray(), body[(CarriedHeadBytes + descriptorBytes)..].ToArray());
        return true;
    }

    public static byte[] RemovedIds(IReadOnlyCollection<ReplicaId> ids)
    {
        byte[] body = new byte[8 * ids.Count];
        int at = 0;
        foreach (ReplicaId id in ids)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(body.AsSpan(at), id.Value);
            at += 8;
        }

        return body;
    }

    public static ReplicaId ReadRemovedId(ReadOnlySpan<byte> body, int position) => new(BinaryPrimitives.ReadUInt64LittleEndian(body[(8 * position)..]));
}

/// <summary>All that a replica is but its entries.</summary>
internal readonly record struct LogCarriedState(Term Term, ReplicaId VotedFor, LogIndex LastIndex, LogIndex CompactedIndex, Term CompactedTerm, long Generation,
    ReadOnlyMemory<byte> Descriptor, ReadOnlyMemory<byte> Configuration);
