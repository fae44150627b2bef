namespace ShardForge.Storage;

/// <summary>Memory budgets, workers and rate limit that all engines of one node share (or one engine that is opened alone has).</summary>
public sealed class StorageResources : IDisposable
{
    /// <summary>Creates them with the defaults.</summary>
    public StorageResources() : this(new StorageResourceOptions()) { }

    /// <summary>Creates them.</summary>
    public StorageResources(StorageResourceOptions options) => Options = options ?? throw new ArgumentNullException(nameof(options));

    /// <summary>The settings they were made with.</summary>
    public StorageResourceOptions Options { get; }

    /// <inheritdoc/>
    public void Dispose() { }
}

/// <summary>Settings of <see cref="StorageResources"/>.</summary>
public sealed record StorageResourceOptions
{
    /// <summary>Block cache, in bytes. Default 256 MiB.</summary>
    public long BlockCacheBytes { get; init; } = 256L * 1024 * 1024;

    /// <summary>Memtables of all engines together, in bytes. Default 256 MiB.</summary>
    public long WriteBufferBytes { get; init; } = 256L * 1024 * 1024;

    /// <summary>Flushes and compactions that run at once. Default 2.</summary>
    public int BackgroundJobs { get; init; } = 2;

    /// <summary>Bytes a second that compactions may write; 0: no limit.</summary>
    public long CompactionBytesPerSecond { get; init; }
}
