using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>How a block is stored.</summary>
internal enum BlockCompression : byte
{
    None = 0,
    Lz4 = 1,
}

/// <summary>The frame of a table file.</summary>
/// <remarks><code>
/// table   | header 16 | data block ... | filter | range tombstones | properties | index | footer 64 |      little-endian
/// header  | magic 8 | format version 4 | CRC-32C 4 of the 12 before |
/// stored  | content | compression 1 | CRC-32C 4 |                                       every block is stored like this
///   content  the block; with LZ4: varint length of the block, then one LZ4 block (no frame)
///   CRC      seeded with table id and offset, over content and compression: a block that lies in the wrong place fails it
///   table id the file's number; of a table that was written outside of an engine any with the highest bit set: its entries have sequence 0, and
///            get that under which the manifest names the table
/// footer  | index offset 8 | properties offset 8 | index bytes 4 | properties bytes 4 | table id 8 | zero 16 | format version 4 | CRC-32C 4 of the 52 before | magic 8 |
/// index   a block: key = a separator at or above all of the data block and below the next one's, value = the block's handle (two varints)
/// properties  a block of names and values (<see cref="TableProperties"/>), with the handles of filter and range tombstones
/// range tombstones  a block: key = start, value = end (exclusive), trailer with the sequence number
/// </code>
/// Versions of the format: 2 (this one; in 1, never released, entries shared bytes with the entry before). Another one is refused with <see cref="ConfigurationException"/>.</remarks>
internal static class TableFormat
{
    public const ulong Magic = 0x315453535F464453;    // "SDF_SST1"
    public const uint Version = 2;
    public const int HeaderBytes = 16, FooterBytes = 64, BlockTrailerBytes = 5;
    private const int CrcAt = 52;

    public static uint BlockSeed(ulong tableId, long offset) => Crc32C.Append(Crc32C.Append(0, tableId), (ulong)offset);

    public static void WriteHeader(Span<byte> target)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(target, Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(target[8..], Version);
        BinaryPrimitives.WriteUInt32LittleEndian(target[12..], Crc32C.Compute(target[..12]));
    }

    public static void WriteFooter(Span<byte> target, in TableFooter footer)
    {
        target[..FooterBytes].Clear();
        BinaryPrimitives.WriteInt64LittleEndian(target, footer.Index.Offset);
        BinaryPrimitives.WriteInt64LittleEndian(target[8..], footer.Properties.Offset);
        BinaryPrimitives.WriteInt32LittleEndian(target[16..], footer.Index.Bytes);
        BinaryPrimitives.WriteInt32LittleEndian(target[20..], footer.Properties.Bytes);
        BinaryPrimitives.WriteUInt64LittleEndian(target[24..], footer.TableId);
        BinaryPrimitives.WriteUInt32LittleEndian(target[48..], Version);
        BinaryPrimitives.WriteUInt32LittleEndian(target[CrcAt..], Crc32C.Compute(target[..CrcAt]));
        BinaryPrimitives.WriteUInt64LittleEndian(target[56..], Magic);
    }

    /// <summary>Reads and checks header and footer.</summary>
    public static TableFooter ReadFooter(IFile file, long fileBytes)
    {
        Span<byte> header = stackalloc byte[HeaderBytes];
        Span<byte> footer = stackalloc byte[FooterBytes];
        if (fileBytes < HeaderBytes + FooterBytes || file.Read(header, 0) != HeaderBytes || file.Read(footer, fileBytes - FooterBytes) != FooterBytes)
            throw new CorruptionException(file.Path, 0, $"a table of {fileBytes:N0} bytes is too short for header and footer.");
        CheckVersion(file.Path, 0, header, BinaryPrimitives.ReadUInt64LittleEndian(header), header[8..12], BinaryPrimitives.ReadUInt32LittleEndian(header[12..]), Crc32C.Compute(header[..12]));
        CheckVersion(file.Path, fileBytes - FooterBytes, footer, BinaryPrimitives.ReadUInt64LittleEndian(footer[56..]), footer[48..52], BinaryPrimitives.ReadUInt32LittleEndian(footer[CrcAt..]), Crc32C.Compute(footer[..CrcAt]));
        TableFooter result = new(new(BinaryPrimitives.ReadInt64LittleEndian(footer), BinaryPrimitives.ReadInt32LittleEndian(footer[16..])),
            new(BinaryPrimitives.ReadInt64LittleEndian(footer[8..]), BinaryPrimitives.ReadInt32LittleEndian(footer[20..])),
            BinaryPrimitives.ReadUInt64LittleEndian(footer[24..]));
        CheckHandle(file.Path, fileBytes, result.Index);
        CheckHandle(file.Path, fileBytes, result.Properties);
        return result;
    }

    public static void CheckHandle(string path, long fileBytes, BlockHandle handle)
    {
        if (handle.Bytes < 0 || handle.Offset < HeaderBytes || handle.Offset > fileBytes - FooterBytes - BlockTrailerBytes - handle.Bytes)
            throw new CorruptionException(path, fileBytes - FooterBytes, $"a handle names {handle.Bytes:N0} bytes at {handle.Offset:N0}, outside the table's {fileBytes:N0} bytes.");
    }

    private static void CheckVersion(string path, long offset, ReadOnlySpan<byte> frame, ulong magic, ReadOnlySpan<byte> version, uint stored, uint computed)
    {
        if (magic != Magic)
            throw new CorruptionException(path, offset, $"no table starts or ends with {Convert.ToHexStringLower(frame[..8])}.");
        if (stored != computed)
            throw new CorruptionException(path, offset, $"CRC-32C stored {stored:x8}, computed {computed:x8}.");
        uint number = BinaryPrimitives.ReadUInt32LittleEndian(version);
        if (number != Version)
            throw new ConfigurationException("DataDirectory", $"{path} has table format {number}; this version of the library reads {Version}. Nothing was changed.");
    }
}

/// <summary>The end of a table: where its other parts are.</summary>
internal readonly record struct TableFooter(BlockHandle Index, BlockHandle Properties, ulong TableId);
