using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Metadata;

/// <summary>A small file that is replaced as a whole: written beside, flushed, renamed, the directory flushed. Before and after any crash one whole content is there.</summary>
/// <remarks><code>
/// file | magic 8 | format version 4 | content bytes 4 | crc 4 | content |        little-endian
///   crc   CRC-32C of all before it and of the content
/// </code>
/// The magic tells the kinds apart: <see cref="FormationMagic"/>, <see cref="TopologyMagic"/> (content of both: <see cref="ClusterStateCodec"/>) and
/// <see cref="ImageMagic"/> (content: <see cref="MetadataImage"/>).
/// <para>Threads: a save runs on a thread of its own, since it waits for the disk. One save of a path at a time. Format versions: 1 (this one).</para></remarks>
internal static class MetadataFile
{
    /// <summary>"SFFORMED": the formation record (R37). That it is there is what makes a node a member; it is never written again.</summary>
    public const ulong FormationMagic = 0x44454D524F464653;

    /// <summary>"SFTOPOLO": the last known cluster state, so that a restarted node finds its peers. A cache: losing it loses nothing.</summary>
    public const ulong TopologyMagic = 0x4F4C4F504F544653;

    /// <summary>"SFMETAIM": the applied state of a replica of group 0.</summary>
    public const ulong ImageMagic = 0x4D494154454D4653;

    public const string FormationName = "formation", TopologyName = "topology", ImageName = "meta";

    private const uint FormatVersion = 1;
    private const int VersionAt = 8, LengthAt = 12, CrcAt = 16, HeaderBytes = 20;

    /// <summary>The content; null where the file is missing.</summary>
    /// <exception cref="CorruptionException">The file is not what was written.</exception>
    /// <exception cref="ConfigurationException">The file has a newer format.</exception>
    public static byte[]? TryLoad(IFileSystem fileSystem, string path, ulong magic)
    {
        if (!fileSystem.FileExists(path))
            return null;
        using IFile file = fileSystem.Open(path, FileOpenMode.Read);
        long length = file.Length;
        byte[] bytes = new byte[length is >= HeaderBytes and <= int.MaxValue ? length : throw new CorruptionException(path, 0, $"{length:N0} bytes are no file of the metadata.")];
        if (file.Read(bytes, 0) != bytes.Length)
            throw new CorruptionException(path, 0, $"fewer than its {length:N0} bytes could be read.");

        ulong storedMagic = BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        if (storedMagic != magic)
            throw new CorruptionException(path, 0, $"starts with {storedMagic:x16}, not with {magic:x16}.");
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(VersionAt));
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(CrcAt));
        uint computed = Checksum(bytes);
        if (stored != computed)
            throw new CorruptionException(path, 0, $"CRC-32C stored {stored:x8}, computed {computed:x8}.");
        if (version != FormatVersion)
            throw new ConfigurationException("DataDirectory", $"{path} has format {version}; this build reads format {FormatVersion}. Nothing was changed.");
        return BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(LengthAt)) == bytes.Length - HeaderBytes
            ? bytes[HeaderBytes..]
            : throw new CorruptionException(path, LengthAt, $"the content has {bytes.Length - HeaderBytes:N0} bytes, not those that the header names.");
    }

    /// <summary>Replaces the file by one with this content; durable when the call returns. Blocks.</summary>
    public static void Save(IFileSystem fileSystem, string path, ulong magic, ReadOnlySpan<byte> content)
    {
        byte[] bytes = new byte[HeaderBytes + content.Length];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, magic);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(VersionAt), FormatVersion);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(LengthAt), (uint)content.Length);
        content.CopyTo(bytes.AsSpan(HeaderBytes));
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(CrcAt), Checksum(bytes));

        string directory = Path.GetDirectoryName(path)!;
        string beside = path + ".new";
        using (IFile file = fileSystem.Open(beside, FileOpenMode.CreateOrTruncate))
        {
            file.Write(bytes, 0);
            file.Flush();
        }

        // A crash before the rename leaves the old content and a file that the next save overwrites; after it, one of the two.
        fileSystem.Rename(beside, path);
        fileSystem.FlushDirectory(directory);
    }

    /// <summary><see cref="Save"/> on a thread of its own.</summary>
    public static Task SaveAsync(IFileSystem fileSystem, string path, ulong magic, byte[] content, string threadName)
    {
        TaskCompletionSource saved = new(TaskCreationOptions.RunContinuationsAsynchronously);
        Thread thread = new(() =>
        {
            try
            {
                Save(fileSystem, path, magic, content);
                saved.SetResult();
            }
            catch (Exception error)
            {
                saved.SetException(error);
            }
        })
        { IsBackground = true, Name = threadName };
        thread.Start();
        return saved.Task;
    }

    private static uint Checksum(ReadOnlySpan<byte> bytes) => Crc32C.Append(Crc32C.Compute(bytes[..CrcAt]), bytes[HeaderBytes..]);
}
