using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Consensus.NodeLog;

/// <summary>Where the log ended when it was closed cleanly (R31): with it, even a missing last batch is noticed.</summary>
/// <remarks><code>
/// end | magic 8 | version 4 | crc 4 | log id 16 | segment 8 | offset 8 |           little-endian; crc: CRC-32C of all but itself
/// </code>
/// Written beside and renamed, so it is there whole or not at all. The next open removes it before its first append.
/// Versions of the format: 1 (this one).</remarks>
internal static class LogEndFile
{
    private const string Name = "end", NewName = "end.new";
    private const ulong Magic = 0x0144_4E45_4B52_4853;                      // "SHRKEND" 1
    private const int Version = 1, FileBytes = 48, CrcAt = 12;

    public static void Write(IFileSystem files, string directory, Guid logId, LogPoint end)
    {
        Span<byte> bytes = stackalloc byte[FileBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, Magic);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[8..], Version);
        logId.TryWriteBytes(bytes[16..], bigEndian: true, out _);
        BinaryPrimitives.WriteInt64LittleEndian(bytes[32..], end.Segment);
        BinaryPrimitives.WriteInt64LittleEndian(bytes[40..], end.Offset);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[CrcAt..], Crc(bytes));
        string newPath = Path.Combine(directory, NewName);
        using (IFile file = files.Open(newPath, FileOpenMode.CreateOrTruncate))
        {
            file.Write(bytes, 0);
            file.Flush();
        }

        files.Rename(newPath, Path.Combine(directory, Name));
        files.FlushDirectory(directory);
    }

    /// <summary>Null: the log was not closed cleanly.</summary>
    public static LogPoint? Read(IFileSystem files, string directory, Guid logId)
    {
        string path = Path.Combine(directory, Name);
        if (!files.FileExists(path))
            return null;
        Span<byte> bytes = stackalloc byte[FileBytes];
        using (IFile file = files.Open(path, FileOpenMode.Read))
        {
            if (file.Read(bytes, 0) < FileBytes || BinaryPrimitives.ReadUInt64LittleEndian(bytes) != Magic)
                throw new CorruptionException(path, 0, "this does not tell the end of a node log.");
        }

        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(bytes[CrcAt..]), computed = Crc(bytes);
        if (stored != computed)
            throw new CorruptionException(path, 0, $"CRC-32C stored {stored:x8}, computed {computed:x8}.");
        if (BinaryPrimitives.ReadInt32LittleEndian(bytes[8..]) != Version)
            throw new ConfigurationException("DataDirectory", $"{path} has format {BinaryPrimitives.ReadInt32LittleEndian(bytes[8..])}; this build reads {Version}. Nothing was changed.");
        Guid id = new(bytes.Slice(16, 16), bigEndian: true);
        if (id != logId)
            throw new CorruptionException(path, 16, $"it is of log {id}; the segments are of {logId}.");
        return new LogPoint(BinaryPrimitives.ReadInt64LittleEndian(bytes[32..]), BinaryPrimitives.ReadInt64LittleEndian(bytes[40..]));
    }

    public static bool Exists(IFileSystem files, string directory) => files.FileExists(Path.Combine(directory, Name));

    public static void Remove(IFileSystem files, string directory)
    {
        files.Delete(Path.Combine(directory, Name));
        files.FlushDirectory(directory);
    }

    private static uint Crc(ReadOnlySpan<byte> bytes) => Crc32C.Append(Crc32C.Compute(bytes[..CrcAt]), bytes[16..FileBytes]);
}
