namespace ShardForge.Metadata;

/// <summary>The physical part of the oracle's timestamps (R01): goes with the monotonic clock and is drawn towards the wall clock at a bounded rate.</summary>
/// <remarks>
/// In one second of monotonic time it moves by at least half a second and at most two. So a wall clock that jumps by an hour, or a new leader whose
/// clock is off by one, makes history neither stand still nor age by an hour: the horizon of ten minutes stays one of at least five. After a night
/// without a running node it catches up in as long again. A clock that is frozen freezes it; the counter goes on.
/// <para>Threads: one at a time (the oracle's lock).</para></remarks>
internal sealed class OracleClock(TimeProvider timeProvider)
{
    /// <summary>What the drawing may add to a span of monotonic time at most: the span itself.</summary>
    private const int ForwardDivisor = 1;

    /// <summary>What the drawing may take from a span of monotonic time at most: half of it.</summary>
    private const int BackwardDivisor = 2;

    private readonly TimeProvider _timeProvider = timeProvider;
    private long _measuredAt = timeProvider.GetTimestamp();
    private long _ticks;

    /// <summary>Goes on from where the cluster's time was last known to be.</summary>
    /// <param name="milliseconds">Since 1970; null: the cluster is new, so it starts with the wall clock.</param>
    public void Restart(long? milliseconds)
    {
        _measuredAt = _timeProvider.GetTimestamp();
        _ticks = milliseconds is { } known ? known * TimeSpan.TicksPerMillisecond : WallTicks();
    }

    /// <summary>Now, in milliseconds since 1970; never lower than the last answer.</summary>
    public long Milliseconds()
    {
        long now = _timeProvider.GetTimestamp();
        long elapsed = _timeProvider.GetElapsedTime(_measuredAt, now).Ticks;
        // Less than a tick since the last look: the time is kept for the next one.
        if (elapsed > 0)
        {
            _measuredAt = now;
            long behind = WallTicks() - (_ticks + elapsed);
            _ticks += elapsed + Math.Clamp(behind, -(elapsed / BackwardDivisor), elapsed / ForwardDivisor);
        }

        return _ticks / TimeSpan.TicksPerMillisecond;
    }

    /// <summary>Since 1970; a wall clock from before is taken for its start.</summary>
    private long WallTicks() => Math.Max(0, (_timeProvider.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks);
}
