namespace ShardForge.Storage;

/// <summary>What is stored, with a transaction's own writes laid over it: own values win, own deletes hide.</summary>
/// <remarks><code>
/// stored   a   c d   f         both cursors stand at or behind the current entry, in the direction of travel;
/// own        b c ✗   g         the current entry is the nearer of the two, the own one where both have the key
/// result   a b c   f g         ✗ = own delete
/// </code>
/// Turning round seeks both cursors to the current key.</remarks>
internal sealed class OverlayIterator(IStorageIterator stored, SortedMapCursor own, KeyRange range, Action throwIfUnusable) : RangeIterator(range)
{
    private readonly IStorageIterator _stored = stored;     // taken over
    private bool _onStored, _onOwn, _currentIsOwn, _forward;

    protected override ReadOnlySpan<byte> CurrentKey => _currentIsOwn ? own.Key : _stored.Key;

    protected override ReadOnlySpan<byte> CurrentValue => _currentIsOwn ? own.Value : _stored.Value;

    protected override void ThrowIfUnusable()
    {
        base.ThrowIfUnusable();
        throwIfUnusable();
    }

    protected override bool ToFirstAtOrAfter(ReadOnlySpan<byte> key)
    {
        _forward = true;
        _onStored = _stored.Seek(key);
        _onOwn = own.ToFirstAtOrAfter(key);
        return Settle();
    }

    protected override bool ToLastAtOrBefore(ReadOnlySpan<byte> key)
    {
        _forward = false;
        _onStored = _stored.SeekForPrevious(key);
        _onOwn = own.ToLastAtOrBefore(key);
        return Settle();
    }

    protected override bool ToLastBefore(ReadOnlySpan<byte> key)
    {
        _forward = false;
        _onStored = _stored.SeekForPrevious(key) && (!_stored.Key.SequenceEqual(key) || _stored.MovePrevious());
        _onOwn = own.ToLastBefore(key);
        return Settle();
    }

    protected override bool ToLast()
    {
        _forward = false;
        _onStored = _stored.SeekLast();
        _onOwn = own.ToLast();
        return Settle();
    }

    protected override bool ToNext() => Move(forward: true);

    protected override bool ToPrevious() => Move(forward: false);

    protected override void Release() => _stored.Dispose();

    private bool Move(bool forward)
    {
        if (_forward != forward)
            Turn(forward, CurrentKey.ToArray());
        Pass();
        return Settle();
    }

    private void Turn(bool forward, byte[] key)
    {
        _forward = forward;
        _onStored = forward ? _stored.Seek(key) : _stored.SeekForPrevious(key);
        _onOwn = forward ? own.ToFirstAtOrAfter(key) : own.ToLastAtOrBefore(key);
        _currentIsOwn = _onOwn && own.Key.AsSpan().SequenceEqual(key);
    }

    /// <summary>Goes on from the nearer key, with both cursors where both stand on it.</summary>
    private void Pass()
    {
        int order = Compare();
        if (order <= 0)
            _onOwn = _forward ? own.ToNext() : own.ToPrevious();
        if (order >= 0)
            _onStored = _forward ? _stored.MoveNext() : _stored.MovePrevious();
    }

    /// <summary>Finds the nearer entry that is not an own delete.</summary>
    private bool Settle()
    {
        while (_onStored || _onOwn)
        {
            _currentIsOwn = Compare() <= 0;
            if (!_currentIsOwn || own.Value is not null)
                return true;
            Pass();
        }

        return false;
    }

    /// <returns>Negative: the own cursor is nearer; 0: both are on one key; positive: the stored one is nearer.</returns>
    private int Compare()
    {
        if (!_onStored || !_onOwn)
            return _onOwn ? -1 : 1;
        int order = own.Key.AsSpan().SequenceCompareTo(_stored.Key);
        return _forward ? order : -order;
    }
}
