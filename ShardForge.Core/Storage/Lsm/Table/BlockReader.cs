using System.Runtime.InteropServices;
using K4os.Compression.LZ4;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>Reads stored blocks of one table file: the bytes, their checksum, their decompression.</summary>
internal static unsafe class BlockReader
{
    /// <summary>Reads a block into memory of its own (<see cref="NativeMemory"/>): filters, properties, indexes, and whatever passes by the cache.</summary>
    /// <exception cref="CorruptionException">The bytes are not what was written.</exception>
    public static byte* Read(IFile file, ulong tableId, BlockHandle handle, out int bytes)
    {
        using ReadBuffer buffer = new();
        StoredBlock stored = buffer.Read(file, tableId, handle, endOffset: 0);
        bytes = stored.ContentBytes;
        byte* block = (byte*)NativeMemory.Alloc((nuint)Math.Max(1, bytes));
        try
        {
            stored.Decode(new Span<byte>(block, bytes));
            return block;
        }
        catch
        {
            NativeMemory.Free(block);
            throw;
        }
    }

    /// <summary>Checks a stored block.</summary>
    /// <param name="file">For errors.</param>
    /// <param name="tableId">Its table.</param>
    /// <param name="handle">Where it is.</param>
    /// <param name="stored">Its bytes with its trailer; shorter where the file ends.</param>
    public static StoredBlock Check(IFile file, ulong tableId, BlockHandle handle, ReadOnlySpan<byte> stored)
    {
        int storedBytes = handle.Bytes + TableFormat.BlockTrailerBytes;
        if (stored.Length < storedBytes)
            throw new CorruptionException(file.Path, handle.Offset, $"a block of {storedBytes:N0} bytes was expected, the file has {stored.Length:N0} there.");
        uint crc = BitConverter.ToUInt32(stored[(storedBytes - sizeof(uint))..]);
        uint computed = Crc32C.Append(TableFormat.BlockSeed(tableId, handle.Offset), stored[..(storedBytes - sizeof(uint))]);
        if (crc != computed)
            throw new CorruptionException(file.Path, handle.Offset, $"CRC-32C of a block stored {crc:x8}, computed {computed:x8}.");
        ReadOnlySpan<byte> content = stored[..handle.Bytes];
        switch ((BlockCompression)stored[handle.Bytes])
        {
            case BlockCompression.None:
                return new(file.Path, handle.Offset, content, content.Length, isCompressed: false);
            case BlockCompression.Lz4:
                if (!Varint.TryRead(content, out uint length, out int lengthBytes) || length > Array.MaxLength)
                    throw new CorruptionException(file.Path, handle.Offset, "a compressed block does not start with its length.");
                return new(file.Path, handle.Offset, content[lengthBytes..], (int)length, isCompressed: true);
            default:
                throw new ConfigurationException("DataDirectory", $"The block at {handle.Offset:N0} of {file.Path} is compressed in way {stored[handle.Bytes]}, which this version of the library does not know.");
        }
    }
}

/// <summary>A block as it is stored, its checksum found right. Borrows the bytes of a <see cref="ReadBuffer"/>.</summary>
internal readonly ref struct StoredBlock(string path, long offset, ReadOnlySpan<byte> content, int contentBytes, bool isCompressed)
{
    private readonly ReadOnlySpan<byte> _content = content;

    /// <summary>Bytes it has when decoded.</summary>
    public int ContentBytes => contentBytes;

    /// <param name="target">Of <see cref="ContentBytes"/>.</param>
    public void Decode(Span<byte> target)
    {
        if (!isCompressed)
        {
            _content.CopyTo(target);
            return;
        }

        int decoded = LZ4Codec.Decode(_content, target);
        if (decoded != contentBytes)
            throw new CorruptionException(path, offset, $"a compressed block gave {decoded:N0} bytes instead of {contentBytes:N0}.");
    }
}
