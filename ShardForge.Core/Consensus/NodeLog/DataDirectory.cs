using ShardForge.Common;

namespace ShardForge.Consensus.NodeLog;

/// <summary>The data directory of a node, opened: locked, known to be its own, with its log.</summary>
/// <remarks><code>
/// LOCK      held while open; a second opener is refused
/// node      <see cref="NodeIdentity"/>
/// log/      <see cref="NodeLog"/>
/// shards/   <see cref="ShardsDirectory"/>: one directory per replica and generation, owned by the layer above
/// reserve   room for a full disk: <see cref="DiskReserve"/>
/// tmp/      emptied at open
/// </code>
/// Order at open: lock, identity checked, log recovered, log repaired, open count raised. All that can refuse comes before the first change, but for
/// the lock file and the directory itself. The log is there before the identity is, so an identity without a log has lost it.</remarks>
internal sealed class DataDirectory : IAsyncDisposable
{
    private readonly IDisposable _lock;

    private DataDirectory(IFileSystem files, string path, IDisposable held, NodeIdentity identity, NodeLog log, DiskReserve? reserve)
    {
        Reserve = reserve;
        Files = files;
        Path = path;
        _lock = held;
        Identity = identity;
        Log = log;
    }

    public IFileSystem Files { get; }

    public string Path { get; }

    public NodeIdentity Identity { get; private set; }

    public NodeLog Log { get; }

    /// <summary>Null: there is none, as for files in memory.</summary>
    public DiskReserve? Reserve { get; }

    /// <summary>Whether what takes room is admitted (R34).</summary>
    public bool HasRoom => Log.HasRoom && Reserve is null or { HasRoom: true };

    public string ShardsDirectory => System.IO.Path.Combine(Path, "shards");

    public string TemporaryDirectory => System.IO.Path.Combine(Path, "tmp");

    /// <summary>Opens a directory, creating it where missing. Its file work is the caller's.</summary>
    /// <param name="files">Where it lies; one in memory for a node without a data directory.</param>
    /// <param name="path">The directory.</param>
    /// <param name="nodeId">Whose it must be.</param>
    /// <param name="clusterName">Which cluster's it must be.</param>
    /// <param name="engine">Name of the storage engine it must be of.</param>
    /// <param name="options">Of the log; whether it must exist is decided here.</param>
    /// <exception cref="ConfigurationException">In use, somebody else's, of another engine, or of a newer format.</exception>
    /// <exception cref="CorruptionException">Damaged. Nothing was changed.</exception>
    public static async Task<DataDirectory> OpenAsync(IFileSystem files, string path, string nodeId, string clusterName, string engine, NodeLogOptions? options = null)
    {
        IDisposable held = TakeLock(files, path);
        try
        {
            NodeIdentity? found = NodeIdentity.Read(files, path);
            found?.Check(path, nodeId, clusterName, engine);
            NodeIdentity identity = (found ?? new NodeIdentity { NodeId = nodeId, ClusterName = clusterName, Engine = engine, InstanceId = Guid.NewGuid() });
            identity = identity with { OpenCount = identity.OpenCount + 1 };
            options ??= new();
            DiskReserve? reserve = options.DiskReserveBytes > 0 ? new(files, path, options.DiskReserveBytes, nodeId, options.Logger) : null;
            NodeLog log = NodeLog.Open(files, System.IO.Path.Combine(path, "log"),
                options with { NodeName = nodeId, MustExist = found is not null, MustBeFresh = found is null, DiskIsFull = reserve is null ? null : reserve.ReportFull });
            DataDirectory directory = new(files, path, held, identity, log, reserve);
            await directory.BeginAsync().ConfigureAwait(false);
            reserve?.Start();
            return directory;
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>The node is a member of a formed cluster from now on (R37); durable when it returns. Blocks.</summary>
    public void SetClusterId(Guid clusterId)
    {
        NodeIdentity identity = Identity with { ClusterId = clusterId };
        identity.Write(Files, Path);
        Identity = identity;
    }

    /// <summary>Ends as a killed process would.</summary>
    public async ValueTask KillAsync()
    {
        if (Reserve is not null)
            await Reserve.DisposeAsync().ConfigureAwait(false);
        await Log.KillAsync().ConfigureAwait(false);
        _lock.Dispose();
    }

    public async ValueTask DisposeAsync()
    {
        if (Reserve is not null)
            await Reserve.DisposeAsync().ConfigureAwait(false);
        await Log.DisposeAsync().ConfigureAwait(false);
        _lock.Dispose();
    }

    private static IDisposable TakeLock(IFileSystem files, string path)
    {
        try
        {
            DurableDirectory.Create(files, path);
            return files.TryLock(System.IO.Path.Combine(path, "LOCK"))
                ?? throw new ConfigurationException("DataDirectory", $"{path} is in use: another node, of this process or another one, holds its LOCK.");
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException("DataDirectory", $"{path} cannot be used: {error.Message}", error);
        }
    }

    // If this fails, the log is stopped as by a crash: its end file is still there, and nothing was appended.
    private async ValueTask BeginAsync()
    {
        try
        {
            Files.DeleteDirectory(TemporaryDirectory);
            DurableDirectory.Create(Files, ShardsDirectory);    // before the replicas, which create theirs at the same time
            try
            {
                Identity.Write(Files, Path);
            }
            catch (IOException error) when (DiskErrors.IsDiskFull(error) && Reserve is not null && Reserve.TryRelease())
            {
                Identity.Write(Files, Path);
            }
        }
        catch
        {
            await Log.KillAsync().ConfigureAwait(false);
            throw;
        }
    }
}
