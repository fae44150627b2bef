using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Wal;

/// <summary>A write-ahead log file: batches of one memtable, which has one or several such files.</summary>
/// <remarks><code>
/// log    | header 32 | record | record | ... | zeros, what is left of a former life, or end of file |                     little-endian
/// header | magic 8 | format version 4 | zero 4 | log number 8 | zero 4 | CRC-32C 4 of the 28 before |
/// record | payload bytes 4 | CRC-32C 4 | sequence &lt;&lt; 8 | kind 8 | promised offset 8 | payload | zeros to a multiple of 8 |
///   CRC      seeded with log number and offset, over all but itself and the zeros: a record of the file's former life, or in another place, fails it
///   kind     1 batch (payload: <see cref="StorageBatch"/>; its operations get sequence, sequence + 1, ...), 2 promise (no payload; sequence of the next batch)
///   promised all bytes of this log below it were durable when the record was written, and, where it is above 0, all earlier logs to their ends
/// </code>
/// A flush is followed, once the log falls idle, by a promise (not flushed itself), so that also the last flushed record has a witness.
/// <para><b>Torn tail or damage.</b> Reading a log stops at the first record that is not valid; the next log goes on only with exactly the next sequence number (a
/// record that a full disk cut off leaves half of itself at the end of a log, and nothing is missing behind it). If a later record of the same log is valid and promises an
/// offset above that place, or the sequence numbers have a gap and any record from there on promises anything, then something that was durable is gone: that is
/// damage and reported. Else it is what no flush covered when the power went: it is dropped with everything behind it, later logs included. What survives is always a
/// prefix of what was written. Not told apart: damage of bytes that were flushed and that no promise reached before the power went.</para>
/// <para>Nothing dropped can come back: the next open writes what it kept into tables, and the edit that names them makes all these logs obsolete.</para>
/// Versions of the format: 1 (this one).</remarks>
internal static class LogFormat
{
    public const ulong Magic = 0x3147_4F4C_5F46_4453;    // "SDF_LOG1"
    public const uint Version = 1;
    public const int HeaderBytes = 32, RecordHeaderBytes = 24;
    private const int CrcAt = 4, SequenceAt = 8, PromiseAt = 16;

    public static string FileName(ulong number) => $"{number:D6}.log";

    public static byte[] Header(ulong number)
    {
        byte[] header = new byte[HeaderBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(header, Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(8), Version);
        BinaryPrimitives.WriteUInt64LittleEndian(header.AsSpan(16), number);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(28), Crc32C.Compute(header.AsSpan(0, 28)));
        return header;
    }

    /// <summary>False: no header of this log; where the file was never flushed, that is a torn one.</summary>
    public static bool TryReadHeader(string path, ReadOnlySpan<byte> file, ulong number)
    {
        if (file.Length < HeaderBytes || BinaryPrimitives.ReadUInt64LittleEndian(file) != Magic || BinaryPrimitives.ReadUInt32LittleEndian(file[28..]) != Crc32C.Compute(file[..28]))
            return false;
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(file[8..]);
        if (version != Version)
            throw new ConfigurationException("DataDirectory", $"{path} has log format {version}; this version of the library reads {Version}. Nothing was changed.");
        return BinaryPrimitives.ReadUInt64LittleEndian(file[16..]) == number;
    }

    public static int RecordBytes(int payloadBytes) => checked((RecordHeaderBytes + payloadBytes + 7) & ~7);

    public static void WriteRecord(Span<byte> target, ulong log, long offset, LogRecordKind kind, ulong sequence, long promise, ReadOnlySpan<byte> payload)
    {
        BinaryPrimitives.WriteInt32LittleEndian(target, payload.Length);
        BinaryPrimitives.WriteUInt64LittleEndian(target[SequenceAt..], (sequence << 8) | (byte)kind);
        BinaryPrimitives.WriteInt64LittleEndian(target[PromiseAt..], promise);
        payload.CopyTo(target[RecordHeaderBytes..]);
        target[(RecordHeaderBytes + payload.Length)..RecordBytes(payload.Length)].Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(target[CrcAt..], Checksum(log, offset, target[..(RecordHeaderBytes + payload.Length)]));
    }

    /// <summary>The record at an offset, if it is valid there.</summary>
    public static bool TryReadRecord(ReadOnlySpan<byte> file, ulong log, long offset, out LogRecord record)
    {
        record = default;
        if (offset < 0 || offset > file.Length - RecordHeaderBytes)
            return false;
        ReadOnlySpan<byte> rest = file[(int)offset..];
        int payloadBytes = BinaryPrimitives.ReadInt32LittleEndian(rest);
        ulong sequenceAndKind = BinaryPrimitives.ReadUInt64LittleEndian(rest[SequenceAt..]);
        long promise = BinaryPrimitives.ReadInt64LittleEndian(rest[PromiseAt..]);
        if (payloadBytes < 0 || payloadBytes > rest.Length - RecordHeaderBytes || (byte)sequenceAndKind is not (1 or 2) || promise < 0 || promise > offset)
            return false;
        if (BinaryPrimitives.ReadUInt32LittleEndian(rest[CrcAt..]) != Checksum(log, offset, rest[..(RecordHeaderBytes + payloadBytes)]))
            return false;
        record = new LogRecord((LogRecordKind)(byte)sequenceAndKind, sequenceAndKind >> 8, promise, rest.Slice(RecordHeaderBytes, payloadBytes));
        return true;
    }

    private static uint Checksum(ulong log, long offset, ReadOnlySpan<byte> record)
    {
        uint crc = Crc32C.Append(Crc32C.Append(0, log), (ulong)offset);
        return Crc32C.Append(Crc32C.Append(crc, record[..CrcAt]), record[SequenceAt..]);
    }
}

/// <summary>What a record of the log is. Numbers are on disk.</summary>
internal enum LogRecordKind : byte
{
    Batch = 1,
    Promise = 2,
}

/// <summary>A record in a log's bytes.</summary>
internal readonly ref struct LogRecord(LogRecordKind kind, ulong sequence, long promise, ReadOnlySpan<byte> payload)
{
    public LogRecordKind Kind => kind;

    public ulong Sequence => sequence;

    public long Promise => promise;

    public ReadOnlySpan<byte> Payload { get; } = payload;
}
