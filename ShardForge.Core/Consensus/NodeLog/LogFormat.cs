using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Consensus.NodeLog;

/// <summary>The bytes of the node log: segments, batches, records. What a record's body holds is in <see cref="LogBody"/>.</summary>
/// <remarks><code>
/// segment | header 4,096 | batch | batch | ... | zeros, or bytes of the file's former life |       fixed size, never grown
/// header  | magic 8 | version 4 | crc 4 | log id 16 | number 8 | bytes 8 | start position 8 | batch bytes max 4 | zeros
///   crc      CRC-32C of the header's used bytes but itself. Magic, version and crc stay where they are in every version
///   position bytes of all earlier segments: start position + offset is a place in the log's whole life, and only rises
/// batch   | promise | record | record | ... | zeros to the next multiple of 4,096 |     one write and one flush; all of it counts or none
/// record  | length 4 | crc 4 | replica id 8 | kind 1 | body |                                       little-endian
///   length   bytes behind the crc, so never under 9
///   crc      CRC-32C of log id, segment number, offset in the segment, length, and all behind the crc. So neither a record of the
///            file's former life, nor bytes of a log file inside somebody's value, are ever taken for a record (R29)
/// </code>
/// Versions of the format: 1 (this one).</remarks>
internal static class LogFormat
{
    public const int BlockBytes = 4096, HeaderBytes = BlockBytes, Version = 1;
    public const int RecordHeaderBytes = 17, PromiseBodyBytes = 20, PromiseBytes = RecordHeaderBytes + PromiseBodyBytes;
    public const int FragmentHeadBytes = 9, EntryHeadBytes = 17;
    private const ulong Magic = 0x0147_4F4C_4B52_4853;                      // "SHRKLOG" 1
    private const int CrcAt = 4, ReplicaAt = 8, KindAt = 16;
    private const int HeaderUsedBytes = 60, HeaderCrcAt = 12;

    public static long AlignUp(long bytes) => (bytes + BlockBytes - 1) & ~(BlockBytes - 1L);

    /// <summary>What every checksum of a segment starts from.</summary>
    public static uint Seed(Guid logId, long number)
    {
        Span<byte> id = stackalloc byte[16];
        logId.TryWriteBytes(id, bigEndian: true, out _);
        return Crc32C.Append(Crc32C.Compute(id), (ulong)number);
    }

    public static void WriteHeader(Span<byte> block, in LogSegmentHeader header)
    {
        block.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(block, Magic);
        BinaryPrimitives.WriteInt32LittleEndian(block[8..], Version);
        header.LogId.TryWriteBytes(block[16..], bigEndian: true, out _);
        BinaryPrimitives.WriteInt64LittleEndian(block[32..], header.Number);
        BinaryPrimitives.WriteInt64LittleEndian(block[40..], header.Bytes);
        BinaryPrimitives.WriteInt64LittleEndian(block[48..], header.StartPosition);
        BinaryPrimitives.WriteInt32LittleEndian(block[56..], header.BatchBytesMax);
        BinaryPrimitives.WriteUInt32LittleEndian(block[HeaderCrcAt..], HeaderCrc(block));
    }

    /// <summary><see cref="CorruptionException"/> for damage, <see cref="ConfigurationException"/> for a newer version.</summary>
    public static LogSegmentHeader ReadHeader(ReadOnlySpan<byte> block, string path)
    {
        if (block.Length < HeaderUsedBytes || BinaryPrimitives.ReadUInt64LittleEndian(block) != Magic)
            throw new CorruptionException(path, 0, "this is not a segment of a node log.");
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(block[HeaderCrcAt..]), computed = HeaderCrc(block);
        if (stored != computed)
            throw new CorruptionException(path, 0, $"segment header: CRC-32C stored {stored:x8}, computed {computed:x8}.");
        int version = BinaryPrimitives.ReadInt32LittleEndian(block[8..]);
        if (version != Version)
            throw new ConfigurationException("DataDirectory", $"{path} has log format {version}; this build reads {Version}. Nothing was changed.");
        LogSegmentHeader header = new(new Guid(block.Slice(16, 16), bigEndian: true), BinaryPrimitives.ReadInt64LittleEndian(block[32..]),
            BinaryPrimitives.ReadInt64LittleEndian(block[40..]), BinaryPrimitives.ReadInt64LittleEndian(block[48..]), BinaryPrimitives.ReadInt32LittleEndian(block[56..]));
        if (header.Bytes < 2 * BlockBytes || header.Bytes % BlockBytes != 0 || header.Number < 1 || header.StartPosition < 0 || header.BatchBytesMax < BlockBytes)
            throw new CorruptionException(path, 0, $"segment header: {header} cannot be.");
        return header;
    }

    /// <summary>Writes a record's header around the body that is already in place.</summary>
    public static void SealRecord(Span<byte> record, uint seed, long offset, ReplicaId replica, LogRecordKind kind)
    {
        BinaryPrimitives.WriteInt32LittleEndian(record, record.Length - ReplicaAt);
        BinaryPrimitives.WriteUInt64LittleEndian(record[ReplicaAt..], replica.Value);
        record[KindAt] = (byte)kind;
        BinaryPrimitives.WriteUInt32LittleEndian(record[CrcAt..], RecordCrc(record, seed, offset));
        Invariant.Check(TryReadRecord(record, seed, offset, out _, out _));     // its pair is in LogRecovery and LogSegmentReader
    }

    /// <summary>Reads the record that starts <paramref name="bytes"/>; they may go on behind it.</summary>
    /// <returns>False: there is none, and <paramref name="reason"/> says why.</returns>
    public static bool TryReadRecord(ReadOnlySpan<byte> bytes, uint seed, long offset, out LogRecordView record, out LogRecordFault reason)
    {
        record = default;
        reason = LogRecordFault.Length;
        if (bytes.Length < RecordHeaderBytes)
            return false;
        int length = BinaryPrimitives.ReadInt32LittleEndian(bytes);
        if (length < RecordHeaderBytes - ReplicaAt || length > bytes.Length - ReplicaAt)
            return false;
        bytes = bytes[..(ReplicaAt + length)];
        reason = LogRecordFault.Checksum;
        if (BinaryPrimitives.ReadUInt32LittleEndian(bytes[CrcAt..]) != RecordCrc(bytes, seed, offset))
            return false;
        record = new LogRecordView(new ReplicaId(BinaryPrimitives.ReadUInt64LittleEndian(bytes[ReplicaAt..])), (LogRecordKind)bytes[KindAt], bytes[RecordHeaderBytes..]);
        reason = LogRecordFault.None;
        return true;
    }

    /// <summary>Reads the promise that starts a batch.</summary>
    public static bool TryReadPromise(ReadOnlySpan<byte> bytes, uint seed, long offset, out LogPromise promise)
    {
        promise = default;
        // The length is looked at first, so that a search over many blocks computes a checksum only where a promise may be.
        if (bytes.Length < PromiseBytes || BinaryPrimitives.ReadInt32LittleEndian(bytes) != PromiseBytes - ReplicaAt || bytes[KindAt] != (byte)LogRecordKind.Promise)
            return false;
        if (!TryReadRecord(bytes[..PromiseBytes], seed, offset, out LogRecordView record, out _))
            return false;
        promise = new LogPromise(new LogPoint(BinaryPrimitives.ReadInt64LittleEndian(record.Body), BinaryPrimitives.ReadInt64LittleEndian(record.Body[8..])),
            BinaryPrimitives.ReadInt32LittleEndian(record.Body[16..]));
        return promise.BatchBytes >= PromiseBytes;
    }

    public static void WritePromise(Span<byte> record, uint seed, long offset, in LogPromise promise)
    {
        Span<byte> body = record[RecordHeaderBytes..PromiseBytes];
        BinaryPrimitives.WriteInt64LittleEndian(body, promise.Durable.Segment);
        BinaryPrimitives.WriteInt64LittleEndian(body[8..], promise.Durable.Offset);
        BinaryPrimitives.WriteInt32LittleEndian(body[16..], promise.BatchBytes);
        SealRecord(record[..PromiseBytes], seed, offset, default, LogRecordKind.Promise);
    }

    private static uint RecordCrc(ReadOnlySpan<byte> record, uint seed, long offset) =>
        Crc32C.Append(Crc32C.Append(Crc32C.Append(seed, (ulong)offset), record[..CrcAt]), record[ReplicaAt..]);

    private static uint HeaderCrc(ReadOnlySpan<byte> block) => Crc32C.Append(Crc32C.Compute(block[..HeaderCrcAt]), block[16..HeaderUsedBytes]);
}

/// <summary>What a record is. Stored: a number keeps its meaning for ever, and an unknown one is refused (R42).</summary>
internal enum LogRecordKind : byte
{
    None = 0,

    /// <summary>Starts each batch: everything before the place it names was durable before the batch was written (R29).</summary>
    Promise = 1,
    Entry = 2,

    /// <summary>Part of a record that is too long for one (R36). Parts of one replica follow each other; other replicas' records may lie between.</summary>
    Fragment = 3,
    HardState = 4,

    /// <summary>Entries above an index are gone: a leader of a later term replaced them.</summary>
    Truncation = 5,

    /// <summary>Entries up to an index are in the state machine's durable state.</summary>
    CompactionMark = 6,

    /// <summary>An entry written again further on, to free its old segment: fills its index, never truncates (R30).</summary>
    RewrittenEntry = 7,
    ReplicaCreated = 8,
    ReplicaRemoved = 9,

    /// <summary>A snapshot replaced the state: names the generation that counts from here on (R33).</summary>
    Generation = 10,

    /// <summary>All that a replica is but its entries, written again further on (R30).</summary>
    CarriedState = 11,

    /// <summary>Ids of removed replicas, written again further on (R30). Its replica id is 0.</summary>
    RemovedIds = 12,
}

/// <summary>Why there is no record.</summary>
internal enum LogRecordFault
{
    None,
    Length,
    Checksum,
}

/// <summary>A record, seen in its bytes.</summary>
internal readonly ref struct LogRecordView(ReplicaId replica, LogRecordKind kind, ReadOnlySpan<byte> body)
{
    public ReplicaId Replica { get; } = replica;

    public LogRecordKind Kind { get; } = kind;

    public ReadOnlySpan<byte> Body { get; } = body;

    public int RecordBytes => LogFormat.RecordHeaderBytes + Body.Length;
}

/// <summary>A place in the log: a batch boundary of a segment.</summary>
internal readonly record struct LogPoint(long Segment, long Offset) : IComparable<LogPoint>
{
    public int CompareTo(LogPoint other) => Segment != other.Segment ? Segment.CompareTo(other.Segment) : Offset.CompareTo(other.Offset);

    public static bool operator <(LogPoint left, LogPoint right) => left.CompareTo(right) < 0;

    public static bool operator >(LogPoint left, LogPoint right) => left.CompareTo(right) > 0;

    public static bool operator <=(LogPoint left, LogPoint right) => left.CompareTo(right) <= 0;

    public static bool operator >=(LogPoint left, LogPoint right) => left.CompareTo(right) >= 0;
}

/// <summary>What was durable when a batch was begun, and how long the batch is (without the zeros at its end).</summary>
internal readonly record struct LogPromise(LogPoint Durable, int BatchBytes);

/// <summary>What a segment's first block says.</summary>
internal readonly record struct LogSegmentHeader(Guid LogId, long Number, long Bytes, long StartPosition, int BatchBytesMax);
