using ShardForge.Common;
using ShardForge.Storage.Lsm;
using ShardForge.Storage.Lsm.TimeToLive;

namespace ShardForge.Storage;

public static partial class StorageEngines
{
    /// <summary>The log-structured merge tree: memtables, sorted tables on disk, leveled compaction. The default.</summary>
    /// <param name="options">Null: the defaults.</param>
    /// <exception cref="ConfigurationException">An option has a value that cannot work.</exception>
    public static IStorageEngineFactory Lsm(LsmOptions? options = null)
    {
        LsmOptions chosen = options ?? new LsmOptions();
        chosen.Validate();
        return new LsmEngineFactory(chosen);
    }
}

/// <summary>Opens <see cref="LsmEngine"/>s. Without a directory their files are in memory and end with the engine.</summary>
internal sealed class LsmEngineFactory(LsmOptions options) : IStorageEngineFactory
{
    public string Name => LsmEngine.EngineName;

    public bool UsesFileSystem => true;

    public ValueTask<IStorageEngine> OpenAsync(string? directory, CancellationToken cancellationToken = default) =>
        OpenAsync(new StorageEngineContext { Directory = directory }, cancellationToken);

    public ValueTask<IStorageEngine> OpenAsync(StorageEngineContext context, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(context);
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled<IStorageEngine>(cancellationToken);
        StorageEngineContext chosen = context.Directory is null
            ? context with { Directory = Path.GetFullPath("/lsm"), FileSystem = new InMemoryFileSystem(), WriteAheadLog = false }
            : context;

        if (options.TimeToLive is not null)
        {
            if (context.VersionSuffixBytes > 0)
                throw new ConfigurationException($"{nameof(LsmOptions)}.{nameof(LsmOptions.TimeToLive)}", $"{nameof(LsmOptions)}.{nameof(LsmOptions.TimeToLive)} is for engines that are opened on their own, without versions: the replicas of a node would expire values at different moments.");
            return new(ExpiringEngine.Open(chosen, options, cancellationToken));
        }

        // Blocks the caller only: an open is file reads, and there is nobody else to do them.
        return new(LsmEngine.Open(chosen, options, cancellationToken));
    }
}
