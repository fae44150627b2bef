using System.Diagnostics;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>Holds background writers to so many bytes a second, over all engines of a node.</summary>
/// <remarks>It sleeps on the worker's own thread, at most 20 ms at a time. Real time by <see cref="Stopwatch"/>: a disk does not follow a test's clock.</remarks>
internal sealed class RateLimit(long bytesPerSecond)
{
    private static readonly TimeSpan s_sleepMax = TimeSpan.FromMilliseconds(20);
    private readonly Lock _gate = new();
    private long _freeAt = Stopwatch.GetTimestamp();

    /// <summary>Waits until the bytes may be written; less than a burst is never waited for.</summary>
    /// <param name="bytes">About to be, or just, written.</param>
    /// <param name="meanwhile">Called now and then while it waits.</param>
    /// <param name="stop">Ends the wait.</param>
    public void Acquire(long bytes, Action meanwhile, CancellationToken stop)
    {
        if (bytesPerSecond == 0)
            return;
        long until;
        lock (_gate)
        {
            long now = Stopwatch.GetTimestamp();
            _freeAt = Math.Max(_freeAt, now - (Stopwatch.Frequency / 10)) + (long)((double)bytes / bytesPerSecond * Stopwatch.Frequency);
            until = _freeAt;
        }

        while (!stop.IsCancellationRequested)
        {
            TimeSpan left = Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), until);
            if (left <= TimeSpan.Zero)
                return;
            stop.WaitHandle.WaitOne(left < s_sleepMax ? left : s_sleepMax);
            meanwhile();
        }
    }
}
