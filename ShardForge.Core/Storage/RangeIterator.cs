namespace ShardForge.Storage;

/// <summary>The rules of <see cref="IStorageIterator"/> that do not depend on the engine: bounds, the start, the ends, and who may not read any more.</summary>
/// <remarks><code>
/// before the first ──MoveNext, Seek…──▶ on an entry ──a move or seek that finds nothing──▶ past an end
///                                            ▲──────────────────── Seek… ─────────────────────┘
/// </code>
/// Past an end every move is false. An heir moves over all keys of the engine and knows nothing of the range.</remarks>
internal abstract class RangeIterator : IStorageIterator
{
    private readonly KeyRange _range;
    private Place _place;

    protected RangeIterator(KeyRange range)
    {
        StorageArguments.CheckRange(range);
        _range = range;
    }

    private enum Place
    {
        BeforeFirst,
        OnEntry,
        PastEnd,
    }

    public virtual ReadOnlySpan<byte> Key
    {
        get
        {
            RequireEntry();
            return CurrentKey;
        }
    }

    public virtual ReadOnlySpan<byte> Value
    {
        get
        {
            RequireEntry();
            return CurrentValue;
        }
    }

    /// <summary>Key of the entry that the heir stands on.</summary>
    protected abstract ReadOnlySpan<byte> CurrentKey { get; }

    /// <summary>Value of the entry that the heir stands on.</summary>
    protected abstract ReadOnlySpan<byte> CurrentValue { get; }

    protected bool IsDisposed { get; private set; }

    /// <summary>Whether there is an entry to look at or to move from; false when it is disposed.</summary>
    protected bool IsOnEntry => _place == Place.OnEntry;

    public virtual bool MoveNext()
    {
        Place from = BeginMove();
        return from switch
        {
            Place.BeforeFirst => First(),
            Place.OnEntry => SettleForward(ToNext()),
            _ => false,
        };
    }

    public bool MovePrevious()
    {
        Place from = BeginMove();
        return from == Place.OnEntry && SettleBackward(ToPrevious());
    }

    public bool SeekFirst()
    {
        _ = BeginMove();
        return First();
    }

    public bool SeekLast()
    {
        _ = BeginMove();
        return Last();
    }

    public bool Seek(ReadOnlySpan<byte> key)
    {
        _ = BeginMove();
        StorageArguments.CheckBound(key);
        if (key.SequenceCompareTo(_range.Start.Span) <= 0)
            return First();
        return !_range.IsEmpty && SettleForward(ToFirstAtOrAfter(key));
    }

    public bool SeekForPrevious(ReadOnlySpan<byte> key)
    {
        _ = BeginMove();
        StorageArguments.CheckBound(key);
        if (_range.HasEnd && key.SequenceCompareTo(_range.End.Span) >= 0)
            return Last();
        return !_range.IsEmpty && SettleBackward(ToLastAtOrBefore(key));
    }

    public void Dispose()
    {
        if (IsDisposed)
            return;
        IsDisposed = true;
        _place = Place.PastEnd;
        Release();
    }

    /// <summary>Throws if the iterator, or what it reads, has been disposed.</summary>
    protected virtual void ThrowIfUnusable() => ObjectDisposedException.ThrowIf(IsDisposed, typeof(IStorageIterator));

    protected abstract bool ToFirstAtOrAfter(ReadOnlySpan<byte> key);

    protected abstract bool ToLastAtOrBefore(ReadOnlySpan<byte> key);

    protected abstract bool ToLastBefore(ReadOnlySpan<byte> key);

    protected abstract bool ToLast();

    /// <summary>From the entry it stands on to the next one.</summary>
    protected abstract bool ToNext();

    /// <summary>From the entry it stands on to the one before.</summary>
    protected abstract bool ToPrevious();

    /// <summary>Lets go of what is read. Called once.</summary>
    protected abstract void Release();

    /// <summary>Past an end until the move has worked: one that throws must not leave a half-moved cursor behind.</summary>
    /// <returns>Where it stood.</returns>
    private Place BeginMove()
    {
        ThrowIfUnusable();
        Place from = _place;
        _place = Place.PastEnd;
        return from;
    }

    /// <summary>For an heir that moves by itself: past an end until <see cref="Settle"/>.</summary>
    protected void LeaveEntry() => _place = Place.PastEnd;

    private bool First() => !_range.IsEmpty && SettleForward(ToFirstAtOrAfter(_range.Start.Span));

    private bool Last() => !_range.IsEmpty && SettleBackward(_range.HasEnd ? ToLastBefore(_range.End.Span) : ToLast());

    private bool SettleForward(bool found) => Settle(found && (!_range.HasEnd || CurrentKey.SequenceCompareTo(_range.End.Span) < 0));

    private bool SettleBackward(bool found) => Settle(found && CurrentKey.SequenceCompareTo(_range.Start.Span) >= 0);

    /// <summary>Ends a move.</summary>
    protected bool Settle(bool onEntry)
    {
        _place = onEntry ? Place.OnEntry : Place.PastEnd;
        return onEntry;
    }

    private void RequireEntry()
    {
        ThrowIfUnusable();
        if (_place != Place.OnEntry)
            throw new InvalidOperationException("The iterator is on no entry: it has not been moved yet, or its last move returned false.");
    }
}
