namespace ShardForge.Tests.Metadata;

/// <summary>A wall clock and a monotonic clock that are moved apart by hand.</summary>
internal sealed class ScriptedTime : TimeProvider
{
    private long _monotonicTicks = 1_000;

    public DateTimeOffset Wall { get; set; } = new(2030, 1, 1, 0, 0, 0, TimeSpan.Zero);

    public long WallMilliseconds => Wall.ToUnixTimeMilliseconds();

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override DateTimeOffset GetUtcNow() => Wall;

    public override long GetTimestamp() => _monotonicTicks;

    /// <summary>Both clocks go on.</summary>
    public void Advance(TimeSpan span)
    {
        _monotonicTicks += span.Ticks;
        Wall += span;
    }
}
