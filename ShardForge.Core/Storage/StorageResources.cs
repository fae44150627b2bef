using ShardForge.Storage.Lsm;

namespace ShardForge.Storage;

/// <summary>Memory budgets, workers and rate limit that all engines of one node share (or one engine that is opened alone has).</summary>
/// <remarks>Disposed after the engines that use them. Nothing is allocated and no thread is started before an engine needs it.</remarks>
public sealed class StorageResources : IDisposable
{
    private readonly Lock _gate = new();
    private LsmShared? _lsm;
    private bool _disposed;

    /// <summary>Creates them with the defaults.</summary>
    public StorageResources() : this(new StorageResourceOptions()) { }

    /// <summary>Creates them.</summary>
    /// <exception cref="ConfigurationException">A setting has a value that cannot work.</exception>
    public StorageResources(StorageResourceOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        Check(nameof(options.BlockCacheBytes), options.BlockCacheBytes, 0);
        Check(nameof(options.WriteBufferBytes), options.WriteBufferBytes, 4096);
        Check(nameof(options.BackgroundJobs), options.BackgroundJobs, 1);
        Check(nameof(options.CompactionBytesPerSecond), options.CompactionBytesPerSecond, 0);
        Options = options;
    }

    /// <summary>The settings they were made with.</summary>
    public StorageResourceOptions Options { get; }

    /// <summary>Told, on any thread, each time that a background job of an engine met a full disk.</summary>
    internal Action? DiskIsFull { get; init; }

    /// <summary>What the engines of the kind <c>lsm</c> share.</summary>
    internal LsmShared Lsm
    {
        get
        {
            lock (_gate)
            {
                ObjectDisposedException.ThrowIf(_disposed, this);
                return _lsm ??= new LsmShared(Options) { DiskIsFull = DiskIsFull };
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        LsmShared? lsm;
        lock (_gate)
        {
            lsm = _disposed ? null : _lsm;
            _disposed = true;
        }

        lsm?.Dispose();
    }

    private static void Check(string name, long value, long min)
    {
        if (value < min)
            throw new ConfigurationException($"{nameof(StorageResourceOptions)}.{name}", $"{nameof(StorageResourceOptions)}.{name} is {value:N0}; it must be at least {min:N0}.");
    }
}

/// <summary>Settings of <see cref="StorageResources"/>.</summary>
public sealed record StorageResourceOptions
{
    /// <summary>Block cache, in bytes. Default 256 MiB.</summary>
    public long BlockCacheBytes { get; init; } = 256L * 1024 * 1024;

    /// <summary>Memtables of all engines together, in bytes. Default 256 MiB.</summary>
    public long WriteBufferBytes { get; init; } = 256L * 1024 * 1024;

    /// <summary>Threads for flushes and compactions; of several, one is kept for flushes. Default: half of the processors, but 2 to 8.</summary>
    public int BackgroundJobs { get; init; } = Math.Clamp(Environment.ProcessorCount / 2, 2, 8);

    /// <summary>Bytes a second that compactions may write; 0: no limit.</summary>
    public long CompactionBytesPerSecond { get; init; }
}
