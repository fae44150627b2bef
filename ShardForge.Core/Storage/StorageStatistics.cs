namespace ShardForge.Storage;

/// <summary>What an engine did since it was opened, and what it holds now. What an engine does not know is 0.</summary>
public sealed record StorageStatistics
{
    /// <summary>Name of the engine's kind.</summary>
    public string Engine { get; init; } = "";

    /// <summary>Point reads.</summary>
    public long Reads { get; init; }

    /// <summary>Operations written (puts, deletes, range deletes).</summary>
    public long Writes { get; init; }

    /// <summary>Bytes of keys and values written by callers.</summary>
    public long UserBytesWritten { get; init; }

    /// <summary>Bytes written to files: logs, tables, manifests.</summary>
    public long DiskBytesWritten { get; init; }

    /// <summary>Bytes of files now.</summary>
    public long DiskBytes { get; init; }

    /// <summary>About how many bytes of files would be left if everything were compacted.</summary>
    public long LiveBytesEstimate { get; init; }

    /// <summary>Bytes of memtables now.</summary>
    public long MemtableBytes { get; init; }

    /// <summary>Estimated number of keys now.</summary>
    public long KeyCountEstimate { get; init; }

    /// <summary>Range deletes that are still kept, in pieces that do not overlap.</summary>
    public long RangeDeletes { get; init; }

    /// <summary>Snapshots and transactions that are open: they keep what they see.</summary>
    public int OpenSnapshots { get; init; }

    /// <summary>Block reads served from the cache.</summary>
    public long BlockCacheHits { get; init; }

    /// <summary>Block reads that went to a file.</summary>
    public long BlockCacheMisses { get; init; }

    /// <summary>Bytes of blocks in the cache now, of all engines that share it.</summary>
    public long BlockCacheBytes { get; init; }

    /// <summary>Flushes of memtables.</summary>
    public long Flushes { get; init; }

    /// <summary>Compactions.</summary>
    public long Compactions { get; init; }

    /// <summary>Compactions that run now.</summary>
    public int CompactionsRunning { get; init; }

    /// <summary>Compactions that only gave tables another level, without reading them.</summary>
    public long TableMoves { get; init; }

    /// <summary>Bytes of tables that compactions read.</summary>
    public long CompactionBytesRead { get; init; }

    /// <summary>Bytes of tables that were taken in from outside.</summary>
    public long IngestedBytes { get; init; }

    /// <summary>Bytes that compactions wrote.</summary>
    public long CompactionBytesWritten { get; init; }

    /// <summary>Time that writers were held back.</summary>
    public TimeSpan WriteStallTime { get; init; }

    /// <summary>Levels from the top; empty for engines without levels.</summary>
    public IReadOnlyList<StorageLevelStatistics> Levels { get; init; } = [];

    /// <summary>Bytes written to files per byte written by callers; 0 before the first write.</summary>
    public double WriteAmplification => UserBytesWritten == 0 ? 0 : (double)DiskBytesWritten / UserBytesWritten;

    /// <summary>Blocks looked into (in the cache or in files) per point read; scans and version reads count their blocks, too. 0 before the first read.</summary>
    public double ReadAmplification => Reads == 0 ? 0 : (double)(BlockCacheHits + BlockCacheMisses) / Reads;

    /// <summary>Bytes of files per byte that would be left if everything were compacted; 0 where nothing is.</summary>
    public double SpaceAmplification => LiveBytesEstimate == 0 ? 0 : (double)DiskBytes / LiveBytesEstimate;

    /// <summary>Share of block reads that the cache served, 0 to 1.</summary>
    public double BlockCacheHitRatio => BlockCacheHits + BlockCacheMisses == 0 ? 0 : (double)BlockCacheHits / (BlockCacheHits + BlockCacheMisses);
}

/// <summary>One level of an LSM tree.</summary>
/// <param name="Level">Number, 0 is the youngest.</param>
/// <param name="Files">Tables.</param>
/// <param name="Bytes">Their bytes.</param>
public sealed record StorageLevelStatistics(int Level, int Files, long Bytes)
{
    /// <summary>Values and deletes in it.</summary>
    public long Entries { get; init; }

    /// <summary>Deletes in it.</summary>
    public long Deletes { get; init; }

    /// <summary>Range deletes in it, in pieces that do not overlap.</summary>
    public long RangeDeletes { get; init; }

    /// <summary>Bytes of tables that compactions into this level have read.</summary>
    public long BytesRead { get; init; }

    /// <summary>Bytes that flushes and compactions have written into it.</summary>
    public long BytesWritten { get; init; }
}
