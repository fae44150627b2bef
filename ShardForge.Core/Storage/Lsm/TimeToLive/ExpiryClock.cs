using System.Buffers.Binary;

namespace ShardForge.Storage.Lsm.TimeToLive;

/// <summary>When values expire, and which moments are still looked at.</summary>
/// <remarks><code>
/// stored value | expiry 8, milliseconds since 1970, little-endian | the user's bytes |
/// </code>
/// A read judges by the moment that it looks at: now, or when its snapshot or iterator was made. A compaction drops what had expired at the oldest of
/// these moments. Times are the wall clock's: one that is set back lets values live longer, never shorter than their snapshot.</remarks>
internal sealed class ExpiryClock(TimeProvider timeProvider, TimeSpan timeToLive)
{
    public const int HeaderBytes = sizeof(long);

    private readonly Lock _gate = new();
    private readonly SortedDictionary<long, int> _moments = [];    // of open snapshots

    public long Now => timeProvider.GetUtcNow().ToUnixTimeMilliseconds();

    /// <summary>What a compaction may judge by.</summary>
    public long OldestMoment
    {
        get
        {
            long now = Now;
            lock (_gate)
            {
                foreach (long moment in _moments.Keys)
                    return Math.Min(moment, now);
            }

            return now;
        }
    }

    public static bool IsExpired(ReadOnlySpan<byte> stored, long moment) => BinaryPrimitives.ReadInt64LittleEndian(stored) <= moment;

    /// <summary>Writes the expiry of a value that is put now; rounded up, so that it never lives too short.</summary>
    public void WriteExpiry(Span<byte> target) =>
        BinaryPrimitives.WriteInt64LittleEndian(target, Now + (long)Math.Min(Math.Ceiling(timeToLive.TotalMilliseconds), long.MaxValue / 4));

    /// <summary>A moment that stays looked at until <see cref="Release"/>. Taken before the engine's snapshot is.</summary>
    public long Hold()
    {
        lock (_gate)
        {
            long now = Now;
            _moments[now] = _moments.GetValueOrDefault(now) + 1;
            return now;
        }
    }

    public void Release(long moment)
    {
        lock (_gate)
        {
            int left = _moments[moment] - 1;
            if (left == 0)
                _moments.Remove(moment);
            else
                _moments[moment] = left;
        }
    }
}
