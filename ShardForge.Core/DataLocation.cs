using ShardForge.Common;
using ShardForge.Consensus.NodeLog;
using ShardForge.Metadata;

namespace ShardForge;

/// <summary>Where a node's data is, looked at before anything is taken or changed. A node without a directory has one in memory.</summary>
internal sealed class DataLocation
{
    private readonly ShardForgeConfig _config;

    private DataLocation(ShardForgeConfig config, IFileSystem files, string path)
    {
        _config = config;
        Files = files;
        Path = path;
    }

    public IFileSystem Files { get; }

    public string Path { get; }

    /// <summary>Whether the node is a member of a formed cluster already.</summary>
    public bool IsFormed { get; private init; }

    /// <exception cref="ConfigurationException">It is not this node's. Nothing was changed.</exception>
    /// <exception cref="CorruptionException">It is damaged. Nothing was changed.</exception>
    public static DataLocation Inspect(ShardForgeConfig config, NodeEnvironment environment)
    {
        IFileSystem files = environment.FileSystem ?? (config.DataDirectory is null ? new InMemoryFileSystem() : PhysicalFileSystem.Instance);
        string path = FullPath(config);
        if (files.FileExists(path))
            throw Refused($"{path} is a file", null);

        bool isFormed;
        NodeIdentity? identity;
        try
        {
            isFormed = files.FileExists(System.IO.Path.Combine(path, MetadataFile.FormationName));
            identity = NodeIdentity.Read(files, path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw Refused($"{path} cannot be read: {error.Message}", error);
        }

        if (isFormed && identity is null)
            throw new CorruptionException(System.IO.Path.Combine(path, "node"), 0, "it is missing, and the directory is one of a formed cluster's node.");
        identity?.Check(path, config.NodeId, config.ClusterName, config.StorageEngine.Name);
        return new DataLocation(config, files, path) { IsFormed = isFormed };
    }

    /// <summary>A replica's folder; null: its engine has files of its own and no place for them, so it stays in memory.</summary>
    public string? GetReplicaPath(ReplicaId replica) =>
        _config.DataDirectory is not null || _config.StorageEngine.UsesFileSystem ? System.IO.Path.Combine(Path, "shards", replica.ToString()) : null;

    private static string FullPath(ShardForgeConfig config)
    {
        try
        {
            return System.IO.Path.GetFullPath(config.DataDirectory ?? "/shardforge");
        }
        catch (Exception error) when (error is ArgumentException or NotSupportedException or PathTooLongException)
        {
            throw Refused($"'{config.DataDirectory}' is not a path: {error.Message}", error);
        }
    }

    private static ConfigurationException Refused(string why, Exception? inner) =>
        new(nameof(ShardForgeConfig.DataDirectory), $"DataDirectory {why}. Nothing was changed.", inner);
}
