namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>What flushes, compactions and ingestions did, by level. Background threads count, any thread reads.</summary>
internal sealed class CompactionCounters
{
    private readonly long[] _bytesRead = new long[LsmOptions.LevelCount], _bytesWritten = new long[LsmOptions.LevelCount];
    private long _moves, _ingestedBytes;

    public long Moves => Volatile.Read(ref _moves);

    public long IngestedBytes => Volatile.Read(ref _ingestedBytes);

    /// <summary>Bytes of tables that merges into a level read.</summary>
    public long BytesRead(int level) => Volatile.Read(ref _bytesRead[level]);

    /// <summary>Bytes of tables that flushes and merges wrote into a level.</summary>
    public long BytesWritten(int level) => Volatile.Read(ref _bytesWritten[level]);

    public void AddMerge(int level, long bytesRead, long bytesWritten)
    {
        Interlocked.Add(ref _bytesRead[level], bytesRead);
        Interlocked.Add(ref _bytesWritten[level], bytesWritten);
    }

    public void AddMove() => Interlocked.Increment(ref _moves);

    public void AddIngested(long bytes) => Interlocked.Add(ref _ingestedBytes, bytes);
}
