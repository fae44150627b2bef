using ShardForge.Storage.Lsm.Compaction;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Reads;

namespace ShardForge.Storage.Lsm;

/// <summary>What the engine did and holds.</summary>
internal sealed partial class LsmEngine
{
    private readonly CompactionCounters _compactionCounters = new();

    public StorageStatistics GetStatistics()
    {
        ReadState state = AcquireState();
        try
        {
            LsmVersion version = state.Version;
            long entries = state.MemtableEntries, deletes = 0, rangeDeletes = 0;
            StorageLevelStatistics[] levels = new StorageLevelStatistics[version.Levels.Length];
            for (int level = 0; level < levels.Length; level++)
            {
                levels[level] = OfLevel(version, level);
                entries += levels[level].Entries;
                deletes += levels[level].Deletes;
                rangeDeletes += levels[level].RangeDeletes;
            }

            int running;
            lock (_gate)
                running = _running.Count;
            return new StorageStatistics
            {
                Engine = EngineName,
                Reads = _counters.Reads,
                Writes = _counters.Writes,
                UserBytesWritten = _counters.UserBytesWritten,
                DiskBytesWritten = _counters.DiskBytesWritten,
                DiskBytes = version.Bytes + _versions.ManifestEndOffset + (_log?.DiskBytes ?? 0),
                LiveBytesEstimate = SortedRun.EstimateLiveBytes(version),
                MemtableBytes = state.MemtableBytes,
                KeyCountEstimate = Math.Max(0, entries - (2 * deletes)),
                RangeDeletes = rangeDeletes,
                OpenSnapshots = _snapshots.Count,
                BlockCacheHits = _counters.BlockCacheHits,
                BlockCacheMisses = _counters.BlockCacheMisses,
                BlockCacheBytes = _shared.Cache.UsedBytes,
                Flushes = _counters.Flushes,
                Compactions = _counters.Compactions,
                CompactionsRunning = running,
                TableMoves = _compactionCounters.Moves,
                CompactionBytesRead = levels.Sum(static level => level.BytesRead),
                CompactionBytesWritten = _counters.CompactionBytesWritten,
                IngestedBytes = _compactionCounters.IngestedBytes,
                WriteStallTime = _counters.StallTime,
                Levels = levels,
            };
        }
        finally
        {
            state.Release();
        }
    }

    private StorageLevelStatistics OfLevel(LsmVersion version, int level)
    {
        long entries = 0, deletes = 0, rangeDeletes = 0;
        foreach (TableFile table in version.Levels[level])
        {
            entries += table.Summary.Entries;
            deletes += table.Summary.Deletes;
            rangeDeletes += table.Summary.Tombstones;
        }

        return new(level, version.Levels[level].Length, version.LevelBytes(level))
        {
            Entries = entries,
            Deletes = deletes,
            RangeDeletes = rangeDeletes,
            BytesRead = _compactionCounters.BytesRead(level),
            BytesWritten = _compactionCounters.BytesWritten(level),
        };
    }
}
