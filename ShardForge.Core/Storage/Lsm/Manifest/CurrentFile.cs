using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Manifest;

/// <summary>Small files that name where to start: <c>CURRENT</c> (which manifest counts) and <c>CLOSED</c> (where the files ended at a clean close).</summary>
/// <remarks><code>
/// CURRENT | magic 8 | format version 4 | zero 4 | manifest number 8 | zero 4 | CRC-32C 4 of the 28 before |
/// CLOSED  | magic 8 | format version 4 | zero 4 | manifest number 8 | manifest end 8 | log number 8 | log end 8 | zero 4 | CRC-32C 4 of the 52 before |
/// </code>
/// CURRENT is replaced by write, flush, rename, flush of the directory. CLOSED is a help against files that were cut short while nobody had them open: it is
/// written without a flush, ignored where it is not valid, and true for ever, since what it names only grows or goes. Versions of the formats: 1.</remarks>
internal static class CurrentFile
{
    public const string Name = "CURRENT", TemporaryName = "CURRENT.tmp", ClosedName = "CLOSED";
    private const ulong CurrentMagic = 0x314E52435F464453, ClosedMagic = 0x31534C435F464453;    // "SDF_CRN1", "SDF_CLS1"
    private const uint Version = 1;
    private const int CurrentBytes = 32, ClosedBytes = 56;

    public static void Write(IFileSystem files, string directory, ulong manifestNumber)
    {
        byte[] bytes = new byte[CurrentBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, CurrentMagic);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(8), Version);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(16), manifestNumber);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(28), Crc32C.Compute(bytes.AsSpan(0, 28)));
        string temporary = Path.Combine(directory, TemporaryName);
        using (IFile file = files.Open(temporary, FileOpenMode.CreateOrTruncate))
        {
            file.Write(bytes, 0);
            file.Flush();
        }

        // The names of manifest and tables first: a disk may keep the rename and forget an older name.
        files.FlushDirectory(directory);
        files.Rename(temporary, Path.Combine(directory, Name));
        files.FlushDirectory(directory);
    }

    public static ulong Read(IFileSystem files, string directory)
    {
        string path = Path.Combine(directory, Name);
        byte[] bytes = ReadAll(files, path, CurrentBytes);
        if (bytes.Length != CurrentBytes || BinaryPrimitives.ReadUInt64LittleEndian(bytes) != CurrentMagic)
            throw new CorruptionException(path, 0, $"{bytes.Length:N0} bytes that do not name a manifest.");
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(28)), computed = Crc32C.Compute(bytes.AsSpan(0, 28));
        if (stored != computed)
            throw new CorruptionException(path, 0, $"CRC-32C stored {stored:x8}, computed {computed:x8}.");
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(8));
        if (version != Version)
            throw new ConfigurationException("DataDirectory", $"{path} has format {version}; this version of the library reads {Version}. Nothing was changed.");
        return BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(16));
    }

    public static void WriteClosed(IFileSystem files, string directory, CleanEnd end)
    {
        byte[] bytes = new byte[ClosedBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, ClosedMagic);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(8), Version);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(16), end.ManifestNumber);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(24), end.ManifestEnd);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(32), end.LogNumber);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(40), end.LogEnd);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(52), Crc32C.Compute(bytes.AsSpan(0, 52)));
        using IFile file = files.Open(Path.Combine(directory, ClosedName), FileOpenMode.CreateOrTruncate);
        file.Write(bytes, 0);
    }

    /// <summary>Where the files ended when they were closed last; null: unknown.</summary>
    public static CleanEnd? ReadClosed(IFileSystem files, string directory)
    {
        string path = Path.Combine(directory, ClosedName);
        if (!files.FileExists(path))
            return null;
        byte[] bytes = ReadAll(files, path, ClosedBytes);
        if (bytes.Length != ClosedBytes || BinaryPrimitives.ReadUInt64LittleEndian(bytes) != ClosedMagic ||
            BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(52)) != Crc32C.Compute(bytes.AsSpan(0, 52)) ||
            BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(8)) != Version)
        {
            return null;
        }

        return new(BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(16)), BinaryPrimitives.ReadInt64LittleEndian(bytes.AsSpan(24)),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(32)), BinaryPrimitives.ReadInt64LittleEndian(bytes.AsSpan(40)));
    }

    private static byte[] ReadAll(IFileSystem files, string path, int bytesMax)
    {
        using IFile file = files.Open(path, FileOpenMode.Read);
        byte[] bytes = new byte[Math.Min(file.Length, bytesMax + 1)];
        return bytes[..file.Read(bytes, 0)];
    }
}

/// <summary>Ends of the files at a clean close; log number 0: there was no log.</summary>
internal readonly record struct CleanEnd(ulong ManifestNumber, long ManifestEnd, ulong LogNumber, long LogEnd);
