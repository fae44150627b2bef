using ShardForge.Storage.Lsm.Compaction;
using ShardForge.Storage.Lsm.Memtables;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm;

/// <summary>What the engines of one node share: cache, memory for memtables, workers, rate limit.</summary>
internal sealed class LsmShared : IDisposable
{
    /// <summary>Below this a memtable is not worth its table, however many engines share the budget.</summary>
    private const long MemtableBytesMin = 64 * 1024;

    private readonly long _writeBufferBytes;
    private int _engineCount;

    public LsmShared(StorageResourceOptions options)
    {
        _writeBufferBytes = options.WriteBufferBytes;
        Cache = new BlockCache(options.BlockCacheBytes);
        Chunks = new NativeChunkPool((int)Math.Min(1024, options.WriteBufferBytes / NativeChunkPool.ChunkBytes));
        Workers = new BackgroundWorkers(options.BackgroundJobs);
        TableBuffers = new TableBufferPool(options.BackgroundJobs);
        RateLimit = new RateLimit(options.CompactionBytesPerSecond);
    }

    public BlockCache Cache { get; }

    public NativeChunkPool Chunks { get; }

    public BackgroundWorkers Workers { get; }

    public TableBufferPool TableBuffers { get; }

    public RateLimit RateLimit { get; }

    /// <summary>Told when a job met a full disk.</summary>
    public Action? DiskIsFull { get; init; }

    public void AddEngine() => Interlocked.Increment(ref _engineCount);

    public void RemoveEngine() => Interlocked.Decrement(ref _engineCount);

    /// <summary>At which size an engine starts a new memtable, so that those of all engines, written and waiting, stay within the budget.</summary>
    public long MemtableBytes(LsmOptions options)
    {
        long share = _writeBufferBytes / (Math.Max(1, Volatile.Read(ref _engineCount)) * (1L + options.ImmutableMemtablesMax));
        return Math.Min(options.MemtableBytes, Math.Max(share, MemtableBytesMin));
    }

    public void Dispose()
    {
        Workers.Dispose();
        Cache.Dispose();
        Chunks.Dispose();
    }
}
