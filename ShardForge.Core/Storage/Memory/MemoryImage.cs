using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Storage.Memory;

/// <summary>The file that holds all of a <see cref="MemoryEngine"/> as of one write.</summary>
/// <remarks><code>
/// image  | header 40 | block | block | ...                                 ends with the last block, exactly
/// header | magic "SFMEMIMG" 8 | version 4 | crc 4 | sequence 8 | entries 8 | flags 4 | zeros 4 |      little-endian
///   crc      CRC-32C of the header without the crc
///   sequence number of the last write that is in the image
///   flags    1: a redo log goes on from it, so one that is missing is damage
/// block  | length 4 | crc 4 | operations |
///   length   of the operations, in bytes: puts in key order, encoded as a StorageBatch; about 64 KiB, more for one large entry
///   crc      CRC-32C of the file's header crc, the block's offset, the length and the operations
/// </code>
/// Written under another name, flushed, renamed: it is whole or not there.
/// Versions of the format: 1.</remarks>
internal static class MemoryImage
{
    public const string FileName = "image";
    public const uint Version = 1;
    private const uint FlagHasLog = 1;
    private const int HeaderBytes = 40, BlockHeaderBytes = 8, BlockBytes = 64 * 1024;

    private static ReadOnlySpan<byte> Magic => "SFMEMIMG"u8;

    /// <returns>Bytes written.</returns>
    public static long Write(IFileSystem files, string directory, MemoryState state, bool hasLog, CancellationToken cancellationToken) =>
        StorageFiles.WriteWhole(files, Path.Combine(directory, FileName), file => WriteTo(file, state, hasLog, cancellationToken));

    /// <exception cref="CorruptionException">It is damaged or missing.</exception>
    public static MemoryState Read(IFileSystem files, string directory, CancellationToken cancellationToken, out bool hasLog, out long bytes)
    {
        string path = Path.Combine(directory, FileName);
        if (!files.FileExists(path))
            throw new CorruptionException(path, 0, "The image is missing; the engine wrote one when it created the directory.");
        using IFile file = files.Open(path, FileOpenMode.Read);
        bytes = file.Length;
        (long sequence, long entryCount, uint headerCrc) = ReadHeader(file, out hasLog);
        SortedMapEditor editor = new(SortedMap.Empty);
        byte[] buffer = [];
        for (long offset = HeaderBytes; offset < file.Length;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int blockBytes = ReadBlock(file, offset, headerCrc, ref buffer);
            StorageBatchReader reader = new(buffer.AsSpan(BlockHeaderBytes, blockBytes));
            while (reader.MoveNext())
                editor.Put(reader.Key.ToArray(), reader.Value.ToArray());
            offset += BlockHeaderBytes + blockBytes;
        }

        return editor.Count == entryCount
            ? new MemoryState(editor.ToMap(), sequence)
            : throw new CorruptionException(path, file.Length, $"The image ends after {editor.Count:N0} of {entryCount:N0} entries.");
    }

    private static void WriteTo(IFile file, MemoryState state, bool hasLog, CancellationToken cancellationToken)
    {
        byte[] header = new byte[HeaderBytes];
        Magic.CopyTo(header);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(8), Version);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(16), state.Sequence);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(24), state.Map.Count);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(32), hasLog ? FlagHasLog : 0);
        uint headerCrc = HeaderCrc(header);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(12), headerCrc);
        file.Write(header, 0);

        long offset = HeaderBytes;
        StorageBatch block = new();
        SortedMapCursor cursor = state.Map.GetCursor();
        for (bool found = cursor.ToFirst(); found; found = cursor.ToNext())
        {
            block.Put(cursor.Key, cursor.Value);
            if (block.Encoded.Length >= BlockBytes)
            {
                cancellationToken.ThrowIfCancellationRequested();
                offset = WriteBlock(file, offset, headerCrc, block);
            }
        }

        if (block.Count > 0)
            _ = WriteBlock(file, offset, headerCrc, block);
    }

    private static long WriteBlock(IFile file, long offset, uint headerCrc, StorageBatch block)
    {
        byte[] bytes = new byte[BlockHeaderBytes + block.Encoded.Length];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, block.Encoded.Length);
        block.Encoded.CopyTo(bytes.AsSpan(BlockHeaderBytes));
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(4), BlockCrc(bytes, offset, headerCrc));
        file.Write(bytes, offset);
        block.Clear();
        return offset + bytes.Length;
    }

    private static (long Sequence, long EntryCount, uint Crc) ReadHeader(IFile file, out bool hasLog)
    {
        byte[] header = new byte[HeaderBytes];
        if (file.Read(header, 0) < HeaderBytes || !header.AsSpan().StartsWith(Magic))
            throw new CorruptionException(file.Path, 0, "It does not start as an image.");
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(12)), computed = HeaderCrc(header);
        if (stored != computed)
            throw new CorruptionException(file.Path, 0, $"CRC-32C of the header stored {stored:x8}, computed {computed:x8}.");
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(8));
        if (version > Version)
            throw new ConfigurationException("DataDirectory", $"{file.Path} has version {version} of the image format; this library knows versions up to {Version}. Nothing was changed.");
        hasLog = (BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(32)) & FlagHasLog) != 0;
        return (BinaryPrimitives.ReadInt64LittleEndian(header.AsSpan(16)), BinaryPrimitives.ReadInt64LittleEndian(header.AsSpan(24)), stored);
    }

    /// <returns>Bytes of the block's operations, which are in the buffer behind the block's header.</returns>
    private static int ReadBlock(IFile file, long offset, uint headerCrc, ref byte[] buffer)
    {
        Span<byte> header = stackalloc byte[BlockHeaderBytes];
        int read = file.Read(header, offset);
        int bytes = BinaryPrimitives.ReadInt32LittleEndian(header);
        if (read < BlockHeaderBytes || bytes <= 0 || bytes > file.Length - offset - BlockHeaderBytes)
            throw new CorruptionException(file.Path, offset, $"A block of {bytes:N0} bytes, and the file ends at {file.Length:N0}.");
        if (buffer.Length < BlockHeaderBytes + bytes)
            buffer = new byte[BlockHeaderBytes + bytes];
        Span<byte> block = buffer.AsSpan(0, BlockHeaderBytes + bytes);
        file.Read(block, offset);
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(block[4..]), computed = BlockCrc(block, offset, headerCrc);
        return stored == computed ? bytes : throw new CorruptionException(file.Path, offset, $"CRC-32C of the block stored {stored:x8}, computed {computed:x8}.");
    }

    private static uint HeaderCrc(ReadOnlySpan<byte> header) => Crc32C.Append(Crc32C.Compute(header[..12]), header[16..]);

    private static uint BlockCrc(ReadOnlySpan<byte> block, long offset, uint headerCrc) =>
        Crc32C.Append(Crc32C.Append(Crc32C.Append(headerCrc, (ulong)offset), block[..4]), block[BlockHeaderBytes..]);
}
