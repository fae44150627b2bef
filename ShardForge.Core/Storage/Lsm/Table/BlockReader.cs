using System.Buffers;
using System.Runtime.InteropServices;
using K4os.Compression.LZ4;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>Reads stored blocks of one table file: one read, its checksum, and its decompression into native memory.</summary>
internal static unsafe class BlockReader
{
    /// <summary>Reads a block into memory of its own.</summary>
    /// <exception cref="CorruptionException">The bytes are not what was written.</exception>
    public static byte* Read(IFile file, ulong tableId, BlockHandle handle, out int bytes)
    {
        int storedBytes = handle.Bytes + TableFormat.BlockTrailerBytes;
        byte[] rented = ArrayPool<byte>.Shared.Rent(storedBytes);
        try
        {
            Span<byte> stored = rented.AsSpan(0, storedBytes);
            int read = file.Read(stored, handle.Offset);
            if (read != storedBytes)
                throw new CorruptionException(file.Path, handle.Offset, $"a block of {storedBytes:N0} bytes was expected, the file has {read:N0} there.");
            uint crc = BitConverter.ToUInt32(stored[^4..]);
            uint computed = Crc32C.Append(TableFormat.BlockSeed(tableId, handle.Offset), stored[..^4]);
            if (crc != computed)
                throw new CorruptionException(file.Path, handle.Offset, $"CRC-32C of a block stored {crc:x8}, computed {computed:x8}.");
            ReadOnlySpan<byte> content = stored[..handle.Bytes];
            return (BlockCompression)stored[handle.Bytes] switch
            {
                BlockCompression.None => Copy(content, out bytes),
                BlockCompression.Lz4 => Decompress(file.Path, handle.Offset, content, out bytes),
                _ => throw new ConfigurationException("DataDirectory", $"The block at {handle.Offset:N0} of {file.Path} is compressed in way {stored[handle.Bytes]}, which this version of the library does not know."),
            };
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    private static byte* Copy(ReadOnlySpan<byte> content, out int bytes)
    {
        bytes = content.Length;
        byte* block = (byte*)NativeMemory.Alloc((nuint)Math.Max(1, bytes));
        content.CopyTo(new Span<byte>(block, bytes));
        return block;
    }

    private static byte* Decompress(string path, long offset, ReadOnlySpan<byte> content, out int bytes)
    {
        if (!Varint.TryRead(content, out uint length, out int lengthBytes) || length > Array.MaxLength)
            throw new CorruptionException(path, offset, "a compressed block does not start with its length.");
        bytes = (int)length;
        byte* block = (byte*)NativeMemory.Alloc((nuint)Math.Max(1, bytes));
        int decoded = LZ4Codec.Decode(content[lengthBytes..], new Span<byte>(block, bytes));
        if (decoded == bytes)
            return block;
        NativeMemory.Free(block);
        throw new CorruptionException(path, offset, $"a compressed block gave {decoded:N0} bytes instead of {length:N0}.");
    }
}
