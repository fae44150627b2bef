using System.Runtime.InteropServices;

namespace ShardForge.Storage.Lsm;

/// <summary>What an engine counts. Those of the read path are striped, so that readers share no cache line.</summary>
internal sealed class LsmCounters
{
    private long _logBytesWritten;
    private long _writes, _userBytesWritten, _diskBytesWritten, _flushes, _compactions, _compactionBytesWritten, _stallTicks;

    public StripedCounter Reads { get; } = new();

    public StripedCounter BlockCacheHits { get; } = new();

    public StripedCounter BlockCacheMisses { get; } = new();

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
}

/// <summary>A counter with a cache line per processor.</summary>
internal sealed class StripedCounter
{
    private readonly Line[] _lines = new Line[(int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Min(64, Environment.ProcessorCount))];

    public long Value
    {
        get
        {
            long sum = 0;
            for (int index = 0; index < _lines.Length; index++)
                sum += Volatile.Read(ref _lines[index].Count);
            return sum;
        }
    }

    public void Increment() => Interlocked.Increment(ref _lines[Thread.GetCurrentProcessorId() & (_lines.Length - 1)].Count);

    [StructLayout(LayoutKind.Explicit, Size = 128)]
    private struct Line
    {
        [FieldOffset(64)]
        public long Count;
    }
}
