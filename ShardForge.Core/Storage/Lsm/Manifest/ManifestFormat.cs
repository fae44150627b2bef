using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Manifest;

/// <summary>The manifest file: every change of the set of tables, in order.</summary>
/// <remarks><code>
/// manifest | header 32 | record | record | ...                                          little-endian
/// header   | magic 8 | format version 4 | zero 4 | manifest number 8 | zero 4 | CRC-32C 4 of the 28 before |
/// record   | payload bytes 4 | CRC-32C 4 | kind 1 | promised offset 8 | payload |
///   CRC      seeded with manifest number and offset; over length, kind, promise, payload
///   kind     1 edit, 2 promise (no payload)
///   promised all bytes below it were durable when the record was written
/// </code>
/// An edit counts once its flush ended; after it a promise is written (not flushed), which says so.
/// <b>Torn tail or damage.</b> Reading stops at the first record that is not valid. If any later record is valid and promises an offset above that
/// place, something that was durable is gone: damage. Else it is the tail of a write that no flush covered: it is cut off.
/// Versions of the format: 1 (this one).</remarks>
internal static class ManifestFormat
{
    public const ulong Magic = 0x314E414D5F464453;    // "SDF_MAN1"
    public const uint Version = 1;
    public const int HeaderBytes = 32, RecordHeaderBytes = 17;
    private const int CrcAt = 4, KindAt = 8, PromiseAt = 9;

    public static string FileName(ulong number) => $"MANIFEST-{number:D6}";

    public static byte[] Header(ulong number)
    {
        byte[] header = new byte[HeaderBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(header, Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(8), Version);
        BinaryPrimitives.WriteUInt64LittleEndian(header.AsSpan(16), number);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(28), Crc32C.Compute(header.AsSpan(0, 28)));
        return header;
    }

    public static void CheckHeader(string path, ulong number, ReadOnlySpan<byte> file)
    {
        if (file.Length < HeaderBytes)
            throw new CorruptionException(path, 0, $"{file.Length:N0} bytes are too short for a manifest.");
        if (BinaryPrimitives.ReadUInt64LittleEndian(file) != Magic)
            throw new CorruptionException(path, 0, $"no manifest starts with {Convert.ToHexStringLower(file[..8])}.");
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(file[28..]), computed = Crc32C.Compute(file[..28]);
        if (stored != computed)
            throw new CorruptionException(path, 0, $"CRC-32C of the header stored {stored:x8}, computed {computed:x8}.");
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(file[8..]);
        if (version != Version)
            throw new ConfigurationException("DataDirectory", $"{path} has manifest format {version}; this version of the library reads {Version}. Nothing was changed.");
        if (BinaryPrimitives.ReadUInt64LittleEndian(file[16..]) != number)
            throw new CorruptionException(path, 0, $"the header names manifest {BinaryPrimitives.ReadUInt64LittleEndian(file[16..])}.");
    }

    public static byte[] Record(ulong manifest, long offset, ManifestRecordKind kind, long promise, ReadOnlySpan<byte> payload)
    {
        byte[] record = new byte[RecordHeaderBytes + payload.Length];
        BinaryPrimitives.WriteInt32LittleEndian(record, payload.Length);
        record[KindAt] = (byte)kind;
        BinaryPrimitives.WriteInt64LittleEndian(record.AsSpan(PromiseAt), promise);
        payload.CopyTo(record.AsSpan(RecordHeaderBytes));
        BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(CrcAt), Checksum(manifest, offset, record));
        return record;
    }

    /// <summary>The record at an offset, if it is valid there.</summary>
    public static bool TryReadRecord(ReadOnlySpan<byte> file, ulong manifest, long offset, out ManifestRecordKind kind, out long promise, out ReadOnlySpan<byte> payload)
    {
        kind = default;
        promise = 0;
        payload = default;
        ReadOnlySpan<byte> rest = file[(int)offset..];
        if (rest.Length < RecordHeaderBytes)
            return false;
        int payloadBytes = BinaryPrimitives.ReadInt32LittleEndian(rest);
        if (payloadBytes < 0 || payloadBytes > rest.Length - RecordHeaderBytes || rest[KindAt] is not (1 or 2))
            return false;
        rest = rest[..(RecordHeaderBytes + payloadBytes)];
        promise = BinaryPrimitives.ReadInt64LittleEndian(rest[PromiseAt..]);
        if (promise < 0 || promise > offset || BinaryPrimitives.ReadUInt32LittleEndian(rest[CrcAt..]) != Checksum(manifest, offset, rest))
            return false;
        kind = (ManifestRecordKind)rest[KindAt];
        payload = rest[RecordHeaderBytes..];
        return true;
    }

    private static uint Checksum(ulong manifest, long offset, ReadOnlySpan<byte> record)
    {
        uint crc = Crc32C.Append(Crc32C.Append(0, manifest), (ulong)offset);
        return Crc32C.Append(Crc32C.Append(crc, record[..CrcAt]), record[KindAt..]);
    }
}

/// <summary>What a record of the manifest is. Numbers are on disk.</summary>
internal enum ManifestRecordKind : byte
{
    Edit = 1,
    Promise = 2,
}
