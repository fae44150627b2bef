using System.Buffers.Binary;
using System.Text;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>What a table says about itself: a block of names and numbers (eight bytes each, little-endian), and two handles.</summary>
/// <remarks>Names are never given another meaning; a reader skips those it does not know. <c>shardforge.</c> is left out of the names.</remarks>
internal sealed record TableProperties
{
    public long Entries { get; init; }

    public long Deletes { get; init; }

    public long RangeDeletes { get; init; }

    public long DataBlocks { get; init; }

    public long KeyBytes { get; init; }

    public long ValueBytes { get; init; }

    /// <summary>Bytes at the end of a key that the filter leaves out.</summary>
    public int VersionSuffixBytes { get; init; }

    /// <summary>Levels of the index; this version writes and reads 1.</summary>
    public int IndexLevels { get; init; } = 1;

    public ulong SmallestSequence { get; init; }

    public ulong LargestSequence { get; init; }

    public BlockHandle Filter { get; init; }

    public BlockHandle Tombstones { get; init; }

    public void Write(BlockBuilder block)
    {
        // In the order of their names: it is a block like any other.
        WriteNumber(block, "data.blocks", (ulong)DataBlocks);
        WriteNumber(block, "deletes", (ulong)Deletes);
        WriteNumber(block, "entries", (ulong)Entries);
        WriteHandle(block, "filter", Filter);
        WriteNumber(block, "index.levels", (ulong)IndexLevels);
        WriteNumber(block, "key.bytes", (ulong)KeyBytes);
        WriteNumber(block, "range.deletes", (ulong)RangeDeletes);
        WriteNumber(block, "sequence.largest", LargestSequence);
        WriteNumber(block, "sequence.smallest", SmallestSequence);
        WriteHandle(block, "tombstones", Tombstones);
        WriteNumber(block, "value.bytes", (ulong)ValueBytes);
        WriteNumber(block, "version.suffix.bytes", (ulong)VersionSuffixBytes);
    }

    public static TableProperties Read(in BlockView block)
    {
        Dictionary<string, byte[]> values = new(StringComparer.Ordinal);
        BlockCursor cursor = new();
        cursor.Open(block);
        for (cursor.SeekFirst(); cursor.IsValid; cursor.MoveNext())
            values[Encoding.UTF8.GetString(cursor.Key)] = cursor.Value.ToArray();
        return new()
        {
            Entries = (long)Number(values, "entries"),
            Deletes = (long)Number(values, "deletes"),
            RangeDeletes = (long)Number(values, "range.deletes"),
            DataBlocks = (long)Number(values, "data.blocks"),
            KeyBytes = (long)Number(values, "key.bytes"),
            ValueBytes = (long)Number(values, "value.bytes"),
            VersionSuffixBytes = (int)Number(values, "version.suffix.bytes"),
            IndexLevels = (int)Number(values, "index.levels"),
            SmallestSequence = Number(values, "sequence.smallest"),
            LargestSequence = Number(values, "sequence.largest"),
            Filter = Handle(values, "filter"),
            Tombstones = Handle(values, "tombstones"),
        };
    }

    private static void WriteNumber(BlockBuilder block, string name, ulong number)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, number);
        block.Add(Encoding.UTF8.GetBytes(name), EntryTrailer.Of(0, EntryKind.Put), bytes);
    }

    private static void WriteHandle(BlockBuilder block, string name, BlockHandle handle)
    {
        if (handle.IsNone)
            return;
        Span<byte> bytes = stackalloc byte[BlockHandle.EncodedBytesMax];
        block.Add(Encoding.UTF8.GetBytes(name), EntryTrailer.Of(0, EntryKind.Put), bytes[..handle.Write(bytes)]);
    }

    private static ulong Number(Dictionary<string, byte[]> values, string name) =>
        values.TryGetValue(name, out byte[]? bytes) && bytes.Length == sizeof(ulong) ? BinaryPrimitives.ReadUInt64LittleEndian(bytes) : 0;

    private static BlockHandle Handle(Dictionary<string, byte[]> values, string name)
    {
        if (!values.TryGetValue(name, out byte[]? bytes))
            return default;
        if (!BlockHandle.TryRead(bytes, out BlockHandle handle))
            BlockView.ThrowMalformed();
        return handle;
    }
}
