namespace ShardForge.Storage.Lsm.TimeToLive;

/// <summary>A snapshot of the engine with the moment that it looks at.</summary>
internal sealed class ExpiringSnapshot(ExpiringEngine owner, IStorageSnapshot inner, ExpiryClock clock, long moment) : IStorageSnapshot
{
    private int _disposed;

    public ExpiringEngine Owner => owner;

    public IStorageSnapshot Inner => inner;

    public long Moment => moment;

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        inner.Dispose();
        clock.Release(moment);
    }
}
