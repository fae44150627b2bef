using System.Diagnostics;
using HdrHistogram;

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>Latencies of one thread, in nanoseconds, three digits exact. One time stamp an operation: the end of one is the start of the next.</summary>
internal sealed class LatencyRecorder
{
    public const int EntriesPerRecord = 100;
    private const long HighestNanoseconds = 60L * 1_000_000_000;
    private static readonly double s_nanosecondsPerTick = 1e9 / Stopwatch.Frequency;
    private LongHistogram _histogram = new(HighestNanoseconds, 3);
    private long _last;

    public long Operations { get; private set; }

    public LongHistogram Histogram => _histogram;

    /// <summary>Time stamp of the last record.</summary>
    public long Last => _last;

    public void Start() => _last = Stopwatch.GetTimestamp();

    public void Record()
    {
        long now = Stopwatch.GetTimestamp();
        _histogram.RecordValue(Math.Clamp((long)((now - _last) * s_nanosecondsPerTick), 1, HighestNanoseconds));
        _last = now;
        Operations++;
    }

    /// <summary>For several operations that were too short to be stamped one by one: their sum.</summary>
    public void Record(int operations)
    {
        Record();
        Operations += operations - 1;
    }

    public void Reset()
    {
        _histogram = new LongHistogram(HighestNanoseconds, 3);
        Operations = 0;
    }
}
