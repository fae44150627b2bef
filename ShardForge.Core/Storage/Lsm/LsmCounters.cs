using System.Runtime.InteropServices;

namespace ShardForge.Storage.Lsm;

/// <summary>What an engine counts. On the read path each thread has a line of its own, and those that came late share the last one.</summary>
internal sealed class LsmCounters
{
    private const int OwnLines = 32;
    private long _logBytesWritten;
    private long _writes, _userBytesWritten, _diskBytesWritten, _flushes, _compactions, _compactionBytesWritten, _stallTicks;

    private readonly ReadLine[] _reads = new ReadLine[OwnLines + 1];

    public long Reads => Sum(static (in line) => line.Reads);

    public long BlockCacheHits => Sum(static (in line) => line.Hits);

    public long BlockCacheMisses => Sum(static (in line) => line.Misses);

    public long Writes => Volatile.Read(ref _writes);

    public long UserBytesWritten => Volatile.Read(ref _userBytesWritten);

    public long DiskBytesWritten => Volatile.Read(ref _diskBytesWritten) + Volatile.Read(ref _logBytesWritten);

    public long Flushes => Volatile.Read(ref _flushes);

    public long Compactions => Volatile.Read(ref _compactions);

    public long CompactionBytesWritten => Volatile.Read(ref _compactionBytesWritten);

    public TimeSpan StallTime => TimeSpan.FromTicks(Volatile.Read(ref _stallTicks));

    /// <summary>Under the write latch.</summary>
    public void AddWrite(int operations, int bytes)
    {
        Volatile.Write(ref _writes, _writes + operations);
        Volatile.Write(ref _userBytesWritten, _userBytesWritten + bytes);
    }

    /// <summary>Under the write latch.</summary>
    public void AddLogBytes(int bytes) => Volatile.Write(ref _logBytesWritten, _logBytesWritten + bytes);

    public void AddDiskBytes(long bytes) => Interlocked.Add(ref _diskBytesWritten, bytes);

    public void AddDiskBytesOf(int bytes) => AddDiskBytes(bytes);

    public void AddFlush() => Interlocked.Increment(ref _flushes);

    public void AddCompaction(long bytes)
    {
        Interlocked.Increment(ref _compactions);
        Interlocked.Add(ref _compactionBytesWritten, bytes);
    }

    public void AddStall(TimeSpan time) => Interlocked.Add(ref _stallTicks, time.Ticks);

    public void CountRead() => Count(ref Line(out bool isOwn).Reads, isOwn);

    public void CountHit() => Count(ref Line(out bool isOwn).Hits, isOwn);

    public void CountMiss() => Count(ref Line(out bool isOwn).Misses, isOwn);

    private static void Count(ref long counter, bool isOwn)
    {
        // Only this thread writes its line.
        if (isOwn)
            Volatile.Write(ref counter, counter + 1);
        else
            Interlocked.Increment(ref counter);
    }

    private ref ReadLine Line(out bool isOwn)
    {
        int thread = ReadEpoch.ThreadNumber;
        isOwn = thread < OwnLines;
        return ref _reads[isOwn ? thread : OwnLines];
    }

    private long Sum(Counter counter)
    {
        long sum = 0;
        foreach (ref readonly ReadLine line in _reads.AsSpan())
            sum += counter(line);
        return sum;
    }

    private delegate long Counter(in ReadLine line);

    /// <summary>What one thread counted.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 64)]
    private struct ReadLine
    {
        public long Reads, Hits, Misses;
    }
}
