using System.Buffers.Binary;
using System.Text;
using ShardForge.Common;

namespace ShardForge.Consensus.NodeLog;

/// <summary>Whose data directory it is (R38): the file <c>node</c>.</summary>
/// <remarks><code>
/// node | magic 8 | version 4 | crc 4 | instance id 16 | cluster id 16 | open count 8 | node id | cluster name | engine |
/// text | length 2 | UTF-8 |                            little-endian; crc: CRC-32C of all but itself; ids big-endian
/// </code>
/// Replaced as a whole: written beside, flushed, renamed, directory flushed. Versions of the format: 1 (this one).
/// <para>The instance id is random and as old as the directory; the open count rises durably with each open, before the node says anything to
/// others. So peers notice a directory that is a copy, or older than one they knew.</para></remarks>
internal sealed record NodeIdentity
{
    private const string Name = "node", NewName = "node.new";
    private const ulong Magic = 0x0145_444F_4E4B_4853;                      // "SHKNODE" 1
    private const int Version = 1, HeadBytes = 56, CrcAt = 12, TextBytesMax = 1024;

    public required string NodeId { get; init; }

    public required string ClusterName { get; init; }

    /// <summary>Name of the storage engine that the shards' files are of.</summary>
    public required string Engine { get; init; }

    public required Guid InstanceId { get; init; }

    /// <summary>Empty until the node is a member of a formed cluster (R37).</summary>
    public Guid ClusterId { get; init; }

    public long OpenCount { get; init; }

    /// <summary>Null: the directory has no identity yet.</summary>
    /// <exception cref="CorruptionException">The file is damaged.</exception>
    /// <exception cref="ConfigurationException">The file has a newer format.</exception>
    public static NodeIdentity? Read(IFileSystem files, string dataDirectory)
    {
        string path = Path.Combine(dataDirectory, Name);
        if (!files.FileExists(path))
            return null;
        byte[] bytes = new byte[HeadBytes + (3 * (2 + TextBytesMax)) + 1];
        int length;
        using (IFile file = files.Open(path, FileOpenMode.Read))
            length = file.Read(bytes, 0);
        if (length < HeadBytes || length == bytes.Length || BinaryPrimitives.ReadUInt64LittleEndian(bytes) != Magic)
            throw new CorruptionException(path, 0, "this is not the identity of a node.");
        ReadOnlySpan<byte> all = bytes.AsSpan(0, length);
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(all[CrcAt..]), computed = Crc(all);
        if (stored != computed)
            throw new CorruptionException(path, 0, $"CRC-32C stored {stored:x8}, computed {computed:x8}.");
        int version = BinaryPrimitives.ReadInt32LittleEndian(all[8..]);
        if (version != Version)
            throw new ConfigurationException("DataDirectory", $"{path} has format {version}; this build reads {Version}. Nothing was changed.");
        ReadOnlySpan<byte> rest = all[HeadBytes..];
        return new NodeIdentity
        {
            InstanceId = new Guid(all.Slice(16, 16), bigEndian: true),
            ClusterId = new Guid(all.Slice(32, 16), bigEndian: true),
            OpenCount = BinaryPrimitives.ReadInt64LittleEndian(all[48..]),
            NodeId = ReadText(ref rest, path),
            ClusterName = ReadText(ref rest, path),
            Engine = ReadText(ref rest, path),
        };
    }

    /// <summary>Refuses a directory that is somebody else's. Nothing is changed.</summary>
    public void Check(string dataDirectory, string nodeId, string clusterName, string engine)
    {
        if (!string.Equals(NodeId, nodeId, StringComparison.Ordinal))
            throw new ConfigurationException("DataDirectory", $"{dataDirectory} belongs to node {NodeId}, not to {nodeId}. Nothing was changed.");
        if (!string.Equals(ClusterName, clusterName, StringComparison.Ordinal))
            throw new ConfigurationException("DataDirectory", $"{dataDirectory} belongs to cluster {ClusterName}, not to {clusterName}. Nothing was changed.");
        if (!string.Equals(Engine, engine, StringComparison.Ordinal))
            throw new ConfigurationException("StorageEngine", $"{dataDirectory} was written by engine {Engine}; the setting is {engine}. Nothing was changed.");
    }

    /// <summary>Makes this the directory's identity; durable when it returns.</summary>
    public void Write(IFileSystem files, string dataDirectory)
    {
        byte[] nodeId = Text(NodeId), clusterName = Text(ClusterName), engine = Text(Engine);
        byte[] bytes = new byte[HeadBytes + 6 + nodeId.Length + clusterName.Length + engine.Length];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, Magic);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(8), Version);
        InstanceId.TryWriteBytes(bytes.AsSpan(16), bigEndian: true, out _);
        ClusterId.TryWriteBytes(bytes.AsSpan(32), bigEndian: true, out _);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(48), OpenCount);
        int at = HeadBytes;
        foreach (byte[] text in new[] { nodeId, clusterName, engine })
        {
            BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(at), (ushort)text.Length);
            text.CopyTo(bytes.AsSpan(at + 2));
            at += 2 + text.Length;
        }

        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(CrcAt), Crc(bytes));
        string newPath = Path.Combine(dataDirectory, NewName);
        using (IFile file = files.Open(newPath, FileOpenMode.CreateOrTruncate))
        {
            file.Write(bytes, 0);
            file.Flush();
        }

        files.Rename(newPath, Path.Combine(dataDirectory, Name));
        files.FlushDirectory(dataDirectory);
    }

    private static byte[] Text(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        return bytes.Length <= TextBytesMax ? bytes : throw new ConfigurationException("NodeId", $"{text[..40]}… has {bytes.Length:N0} bytes; allowed are {TextBytesMax:N0}.");
    }

    private static string ReadText(ref ReadOnlySpan<byte> rest, string path)
    {
        int bytes = rest.Length >= 2 ? BinaryPrimitives.ReadUInt16LittleEndian(rest) : int.MaxValue - 2;
        if (rest.Length < 2 + bytes)
            throw new CorruptionException(path, HeadBytes, "the file ends inside a text.");
        string text = Encoding.UTF8.GetString(rest.Slice(2, bytes));
        rest = rest[(2 + bytes)..];
        return text;
    }

    private static uint Crc(ReadOnlySpan<byte> bytes) => Crc32C.Append(Crc32C.Compute(bytes[..CrcAt]), bytes[16..]);
}
