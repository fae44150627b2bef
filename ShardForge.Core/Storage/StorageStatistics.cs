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

    /// <summary>Bytes of memtables now.</summary>
    public long MemtableBytes { get; init; }

    /// <summary>Estimated number of keys now.</summary>
    public long KeyCountEstimate { get; init; }

    /// <summary>Block reads served from the cache.</summary>
    public long BlockCacheHits { get; init; }

    /// <summary>Block reads that went to a file.</summary>
    public long BlockCacheMisses { get; init; }

    /// <summary>Flushes of memtables.</summary>
    public long Flushes { get; init; }

    /// <summary>Compactions.</summary>
    public long Compactions { get; init; }

    /// <summary>Bytes that compactions wrote.</summary>
    public long CompactionBytesWritten { get; init; }

    /// <summary>Time that writers were held back.</summary>
    public TimeSpan WriteStallTime { get; init; }

    /// <summary>Levels from the top; empty for engines without levels.</summary>
    public IReadOnlyList<StorageLevelStatistics> Levels { get; init; } = [];

    /// <summary>Bytes written to files per byte written by callers; 0 before the first write.</summary>
    public double WriteAmplification => UserBytesWritten == 0 ? 0 : (double)DiskBytesWritten / UserBytesWritten;
}

/// <summary>One level of an LSM tree.</summary>
/// <param name="Level">Number, 0 is the youngest.</param>
/// <param name="Files">Tables.</param>
/// <param name="Bytes">Their bytes.</param>
public sealed record StorageLevelStatistics(int Level, int Files, long Bytes);
