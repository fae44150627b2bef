namespace ShardForge.Storage.Lsm;

/// <summary>Decides when writers pause, so that they slow down before they have to stop.</summary>
/// <remarks>
/// <code>
/// tables in level 0    below the slowdown: no pause | up to the stop: 4 ms per 1 MiB written, per less the closer the stop is | at the stop: writers wait
/// memtables            one more may wait for its flush: no pause | none: 20 ms at each half and three quarters of the one written | it is full, too: writers wait
/// </code>
/// Few long pauses, not many short ones: one write in thousands waits, and no percentile that anybody looks at moves. A pause ends early when a flush or a compaction ends.
/// Pure: no clock and no thread of its own; called under the write latch.</remarks>
internal sealed class WritePace(int slowdownTables, int stopTables)
{
    public static readonly TimeSpan LevelZeroPause = TimeSpan.FromMilliseconds(4), MemtablePause = TimeSpan.FromMilliseconds(20);

    private const long BurstBytesMax = 1024 * 1024, BurstBytesMin = 32 * 1024;

    private long _burstBytes;
    private int _quartersSeen;

    /// <summary>A memtable begins.</summary>
    public void StartMemtable() => _quartersSeen = 0;

    /// <summary>After a write: how long the next one waits; zero: not at all.</summary>
    /// <param name="bytes">Written.</param>
    /// <param name="levelZeroTables">How long level 0 is.</param>
    /// <param name="canRotate">Whether another memtable may wait for its flush.</param>
    /// <param name="memtableBytes">In the memtable that is written.</param>
    /// <param name="memtableBytesMax">At which it is full.</param>
    public TimeSpan After(int bytes, int levelZeroTables, bool canRotate, long memtableBytes, long memtableBytesMax)
    {
        if (levelZeroTables >= slowdownTables)
        {
            _burstBytes += bytes;
            if (_burstBytes >= BurstBytes(levelZeroTables))
            {
                _burstBytes = 0;
                return LevelZeroPause;
            }
        }

        if (canRotate)
            return TimeSpan.Zero;
        int quarters = (int)(memtableBytes * 4 / memtableBytesMax);
        if (quarters < 2 || quarters <= _quartersSeen)
            return TimeSpan.Zero;
        _quartersSeen = quarters;
        return MemtablePause;
    }

    private long BurstBytes(int levelZeroTables)
    {
        int left = Math.Max(0, stopTables - levelZeroTables), all = Math.Max(1, stopTables - slowdownTables);
        return Math.Max(BurstBytesMin, BurstBytesMax * left / all);
    }
}
