using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using ShardForge.Consensus.NodeLog;
using ShardForge.Network;

namespace ShardForge.Consensus;

/// <summary>What replicas of a group say to each other.</summary>
/// <remarks><code>
/// message  | version 1 | kind 1 | zero 2 | shard 4 | sender replica 8 | target replica 8 | term 8 | body |        little-endian
/// answer   | version 1 | kind 1 | code 1 | zero 1 | term 8 | body |
///
/// vote, pre-vote   | last index 8 | last term 8 |                                  answer | granted 1 |
/// append           | prev index 8 | prev term 8 | commit 8 | kept from 8 | count 4 | entry | entry | ...
///                                                                                  answer | result 1 | last index 8 | no room 1 |
///   entry          | term 8 | kind 1 | length 4 | payload |
///   kept from      nobody needs older entries: what is behind may be compacted by everyone
///   no room        0, or 1: the follower's disk is full or nearly so (R34)
/// hand-over        | next leader 8 |                                               answer | |
/// snapshot begin   | transfer 8 | index 8 | index's term 8 | bytes 8 |             answer | result 1 |
/// snapshot chunk   | transfer 8 | file offset 8 | crc 4 | last of file 1 | name length 2 | name (UTF-8, '/') | bytes |
///                                                                                  answer | result 1 |
/// snapshot install | transfer 8 | index 8 | index's term 8 | bytes 8 | files 4 | crc 4 | configuration |   answer | result 1 |
///   transfer       0 in a begin: only asks whether a snapshot would be taken
///   crc            CRC-32C of the bytes; in install, of all bytes in the order in which they were sent
/// </code>
/// The link's frame around a message carries the checksum. An unknown version or kind is refused (R42). Versions: 1 (without "no room"), 2 (this one).</remarks>
internal static class RaftMessage
{
    public const byte Version = 2;
    public const int HeaderBytes = 32, AnswerHeaderBytes = 12, AppendHeadBytes = 36, AppendAnswerBytes = 10, EntryHeadBytes = 13;
    private const int KindAt = 1, ShardAt = 4, SenderAt = 8, TargetAt = 16, TermAt = 24;

    /// <summary>Starts a message.</summary>
    /// <param name="bodyBytes">Length of the body, for the first buffer.</param>
    /// <param name="header">What it starts with.</param>
    public static PeerBuffer Create(in RaftHeader header, int bodyBytes)
    {
        PeerBuffer buffer = new(HeaderBytes + bodyBytes);
        Span<byte> target = buffer.GetSpan(HeaderBytes)[..HeaderBytes];
        target.Clear();
        target[0] = Version;
        target[KindAt] = (byte)header.Kind;
        BinaryPrimitives.WriteInt32LittleEndian(target[ShardAt..], header.Shard.Value);
        BinaryPrimitives.WriteUInt64LittleEndian(target[SenderAt..], header.Sender.Value);
        BinaryPrimitives.WriteUInt64LittleEndian(target[TargetAt..], header.Target.Value);
        BinaryPrimitives.WriteInt64LittleEndian(target[TermAt..], header.Term.Value);
        buffer.Advance(HeaderBytes);
        return buffer;
    }

    /// <summary>False: of another version, or of a kind that is not known, or too short to be a message.</summary>
    public static bool TryReadHeader(ReadOnlySpan<byte> message, out RaftHeader header)
    {
        header = default;
        if (message.Length < HeaderBytes || message[0] != Version || message[KindAt] is 0 or > (byte)RaftMessageKind.SnapshotInstall)
            return false;
        header = new RaftHeader
        {
            Kind = (RaftMessageKind)message[KindAt],
            Shard = new ShardId(BinaryPrimitives.ReadInt32LittleEndian(message[ShardAt..])),
            Sender = new ReplicaId(BinaryPrimitives.ReadUInt64LittleEndian(message[SenderAt..])),
            Target = new ReplicaId(BinaryPrimitives.ReadUInt64LittleEndian(message[TargetAt..])),
            Term = new Term(BinaryPrimitives.ReadInt64LittleEndian(message[TermAt..])),
        };
        return true;
    }

    public static PeerBuffer Answer(RaftMessageKind kind, RaftAnswerCode code, Term term, int bodyBytes = 0)
    {
        PeerBuffer buffer = new(AnswerHeaderBytes + bodyBytes);
        Span<byte> target = buffer.GetSpan(AnswerHeaderBytes)[..AnswerHeaderBytes];
        target.Clear();
        target[0] = Version;
        target[1] = (byte)kind;
        target[2] = (byte)code;
        BinaryPrimitives.WriteInt64LittleEndian(target[4..], term.Value);
        buffer.Advance(AnswerHeaderBytes);
        return buffer;
    }

    /// <summary>An answer whose body is one byte.</summary>
    public static PeerBuffer Answer(RaftMessageKind kind, Term term, byte result)
    {
        PeerBuffer buffer = Answer(kind, RaftAnswerCode.Ok, term, 1);
        buffer.GetSpan(1)[0] = result;
        buffer.Advance(1);
        return buffer;
    }

    public static PeerBuffer AppendAnswer(Term term, RaftAppendResult result, LogIndex last, bool hasRoom)
    {
        PeerBuffer buffer = Answer(RaftMessageKind.Append, RaftAnswerCode.Ok, term, AppendAnswerBytes);
        Span<byte> body = buffer.GetSpan(AppendAnswerBytes);
        body[0] = (byte)result;
        BinaryPrimitives.WriteInt64LittleEndian(body[1..], last.Value);
        body[9] = hasRoom ? (byte)0 : (byte)1;
        buffer.Advance(AppendAnswerBytes);
        return buffer;
    }

    /// <summary>The head of an answer and its body.</summary>
    /// <exception cref="InvalidDataException">It is none, or of another version.</exception>
    public static RaftAnswer ReadAnswer(ReadOnlyMemory<byte> answer, RaftMessageKind kind)
    {
        ReadOnlySpan<byte> bytes = answer.Span;
        if (bytes.Length < AnswerHeaderBytes || bytes[0] != Version || bytes[1] != (byte)kind)
            throw new InvalidDataException($"{bytes.Length:N0} bytes are no answer of version {Version} to a message of kind {kind}.");
        return new((RaftAnswerCode)bytes[2], new Term(BinaryPrimitives.ReadInt64LittleEndian(bytes[4..])), answer[AnswerHeaderBytes..]);
    }

    public static void Write(PeerBuffer buffer, long number)
    {
        BinaryPrimitives.WriteInt64LittleEndian(buffer.GetSpan(8), number);
        buffer.Advance(8);
    }

    public static void Write(PeerBuffer buffer, uint number)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(buffer.GetSpan(4), number);
        buffer.Advance(4);
    }

    /// <summary>An append with its entries.</summary>
    public static PeerBuffer Append(in RaftHeader header, in RaftAppendHead head, ReadOnlySpan<ReplicaLogEntry> entries)
    {
        long bytes = AppendHeadBytes;
        foreach (ReplicaLogEntry entry in entries)
            bytes += EntryHeadBytes + entry.Payload.Length;
        PeerBuffer buffer = Create(header, checked((int)bytes));
        Write(buffer, head.Previous.Value);
        Write(buffer, head.PreviousTerm.Value);
        Write(buffer, head.Commit.Value);
        Write(buffer, head.KeptFrom.Value);
        Write(buffer, (uint)entries.Length);
        foreach (ReplicaLogEntry entry in entries)
        {
            Span<byte> target = buffer.GetSpan(EntryHeadBytes + entry.Payload.Length);
            BinaryPrimitives.WriteInt64LittleEndian(target, entry.Term.Value);
            target[8] = (byte)entry.Kind;
            BinaryPrimitives.WriteInt32LittleEndian(target[9..], entry.Payload.Length);
            entry.Payload.Span.CopyTo(target[EntryHeadBytes..]);
            buffer.Advance(EntryHeadBytes + entry.Payload.Length);
        }

        return buffer;
    }

    /// <summary>The body of an append. The entries' payloads lie in <paramref name="body"/>; the array is the caller's to give back to the pool.</summary>
    /// <exception cref="InvalidDataException">It is none, or an entry is of a kind that this build does not know.</exception>
    public static RaftAppendHead ReadAppend(ReadOnlyMemory<byte> body, out ReplicaLogEntry[] entries, out int count)
    {
        ReadOnlySpan<byte> bytes = body.Span;
        if (bytes.Length < AppendHeadBytes)
            throw new InvalidDataException($"An append of {bytes.Length} bytes; the shortest has {AppendHeadBytes}.");
        RaftAppendHead head = new()
        {
            Previous = new LogIndex(BinaryPrimitives.ReadInt64LittleEndian(bytes)),
            PreviousTerm = new Term(BinaryPrimitives.ReadInt64LittleEndian(bytes[8..])),
            Commit = new LogIndex(BinaryPrimitives.ReadInt64LittleEndian(bytes[16..])),
            KeptFrom = new LogIndex(BinaryPrimitives.ReadInt64LittleEndian(bytes[24..])),
        };
        uint stated = BinaryPrimitives.ReadUInt32LittleEndian(bytes[32..]);
        if (stated > (uint)(bytes.Length - AppendHeadBytes) / EntryHeadBytes)
            throw new InvalidDataException($"An append of {bytes.Length:N0} bytes cannot hold {stated:N0} entries.");
        count = (int)stated;
        entries = count == 0 ? [] : ArrayPool<ReplicaLogEntry>.Shared.Rent(count);
        int at = AppendHeadBytes;
        for (int i = 0; i < count; i++)
        {
            if (bytes.Length - at < EntryHeadBytes)
                throw new InvalidDataException($"An append ends inside entry {i} of {count}.");
            Term term = new(BinaryPrimitives.ReadInt64LittleEndian(bytes[at..]));
            byte kind = bytes[at + 8];
            int length = BinaryPrimitives.ReadInt32LittleEndian(bytes[(at + 9)..]);
            at += EntryHeadBytes;
            if (kind is 0 or > (byte)RaftEntryKind.Configuration)
                throw new InvalidDataException($"Entry {i} of an append is of kind {kind}, which this build does not know.");
            if (length < 0 || length > bytes.Length - at)
                throw new InvalidDataException($"Entry {i} of an append claims {length:N0} bytes; {bytes.Length - at:N0} are left.");
            entries[i] = new(term, (RaftEntryKind)kind, body.Slice(at, length));
            at += length;
        }

        return head;
    }

    public static void WriteName(PeerBuffer buffer, string name)
    {
        int length = Encoding.UTF8.GetByteCount(name);
        Span<byte> target = buffer.GetSpan(2 + length);
        BinaryPrimitives.WriteUInt16LittleEndian(target, checked((ushort)length));
        Encoding.UTF8.GetBytes(name, target[2..]);
        buffer.Advance(2 + length);
    }
}

/// <summary>On the wire: never give a number a second meaning.</summary>
internal enum RaftMessageKind : byte
{
    None = 0,
    Vote = 1,
    PreVote = 2,
    Append = 3,
    HandOver = 4,
    SnapshotBegin = 5,
    SnapshotChunk = 6,
    SnapshotInstall = 7,
}

/// <summary>How a message was met. On the wire: never give a number a second meaning.</summary>
internal enum RaftAnswerCode : byte
{
    /// <summary>Handled; the body is the answer.</summary>
    Ok = 0,

    /// <summary>No such replica here, or not one of that shard, or removed, or not yet open.</summary>
    UnknownReplica = 1,

    /// <summary>A version or kind that this build does not know, or a body that is none (R42).</summary>
    NotUnderstood = 2,

    /// <summary>The replica stopped, or could not answer.</summary>
    Stopped = 3,
}

/// <summary>On the wire: never give a number a second meaning.</summary>
internal enum RaftAppendResult : byte
{
    Rejected = 0,
    Replicated = 1,
    ReplicatedWithLeaderTerm = 2,
    UnsupportedVersion = 3,
}

/// <summary>How far a snapshot came. On the wire: never give a number a second meaning.</summary>
internal enum SnapshotResult : byte
{
    /// <summary>Of an old term, or of a transfer that is not open; begin anew.</summary>
    Rejected = 0,

    /// <summary>Go on; to an install: done.</summary>
    Accepted = 1,

    /// <summary>The follower has all that the snapshot covers: nothing to send.</summary>
    NotNeeded = 2,
}

/// <summary>What every message starts with.</summary>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct RaftHeader
{
    public required RaftMessageKind Kind { get; init; }

    public required ShardId Shard { get; init; }

    public required ReplicaId Sender { get; init; }

    public required ReplicaId Target { get; init; }

    public required Term Term { get; init; }
}

/// <summary>What stands before the entries of an append.</summary>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct RaftAppendHead
{
    public LogIndex Previous { get; init; }

    public Term PreviousTerm { get; init; }

    public LogIndex Commit { get; init; }

    public LogIndex KeptFrom { get; init; }
}

/// <summary>An answer as it was read.</summary>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct RaftAnswer(RaftAnswerCode Code, Term Term, ReadOnlyMemory<byte> Body);
