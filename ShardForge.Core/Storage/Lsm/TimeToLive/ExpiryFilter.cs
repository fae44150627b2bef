namespace ShardForge.Storage.Lsm.TimeToLive;

/// <summary>Drops expired values in compactions.</summary>
internal sealed class ExpiryFilter(ExpiryClock clock) : ICompactionFilterSource
{
    public ICompactionFilter? Begin(CompactionScope scope) => new Merge(clock.OldestMoment);

    private sealed class Merge(long moment) : ICompactionFilter
    {
        public CompactionVerdict Decide(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value, bool isBottom) =>
            ExpiryClock.IsExpired(value, moment) ? CompactionVerdict.Drop : CompactionVerdict.Keep;
    }
}
