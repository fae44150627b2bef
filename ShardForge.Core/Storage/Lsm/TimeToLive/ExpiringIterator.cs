namespace ShardForge.Storage.Lsm.TimeToLive;

/// <summary>An iterator that passes over what had expired at its moment. It needs no hold on that: the tables that it reads stay as they are.</summary>
internal sealed class ExpiringIterator(IStorageIterator inner, long moment) : IStorageIterator
{
    public ReadOnlySpan<byte> Key => inner.Key;

    public ReadOnlySpan<byte> Value => inner.Value[ExpiryClock.HeaderBytes..];

    public bool MoveNext() => SkipForward(inner.MoveNext());

    public bool MovePrevious() => SkipBackward(inner.MovePrevious());

    public bool SeekFirst() => SkipForward(inner.SeekFirst());

    public bool SeekLast() => SkipBackward(inner.SeekLast());

    public bool Seek(ReadOnlySpan<byte> key) => SkipForward(inner.Seek(key));

    public bool SeekForPrevious(ReadOnlySpan<byte> key) => SkipBackward(inner.SeekForPrevious(key));

    public void Dispose() => inner.Dispose();

    private bool SkipForward(bool found)
    {
        while (found && ExpiryClock.IsExpired(inner.Value, moment))
            found = inner.MoveNext();
        return found;
    }

    private bool SkipBackward(bool found)
    {
        while (found && ExpiryClock.IsExpired(inner.Value, moment))
            found = inner.MovePrevious();
        return found;
    }
}
