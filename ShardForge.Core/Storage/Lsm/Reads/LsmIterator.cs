namespace ShardForge.Storage.Lsm.Reads;

/// <summary>The user's iterator: of each key the newest entry at a sequence number, if that is a value.</summary>
/// <remarks>
/// Forward it stands on the merge's entry; what is older of the same key is skipped at the next move. Backward a key's entries come oldest first, so
/// the merge runs on to the key before, and key and value are copied. Holds the read state: memory and files stay until it is disposed, whatever
/// becomes of the engine. One thread.
/// </remarks>
internal sealed class LsmIterator : RangeIterator
{
    /// <summary>After so many entries that are not wanted, a seek is cheaper.</summary>
    private const int SkipsBeforeSeek = 16;

    private readonly KeyRange _range;
    private readonly ReadState _state;
    private readonly ulong _sequence;
    private readonly Action _throwIfEngineDisposed;
    private readonly RangeTombstoneSet[] _tombstones;
    private readonly MergeCursor _merge;
    private readonly IStorageSnapshot? _ownSnapshot;
    private byte[] _key = new byte[64], _value = [];
    private int _keyBytes, _valueBytes;
    private bool _copied;

    /// <param name="range">What is iterated over.</param>
    /// <param name="state">Taken over: released by dispose, also if this fails.</param>
    /// <param name="sequence">What is seen.</param>
    /// <param name="throwIfEngineDisposed">Called before each use.</param>
    /// <param name="ownSnapshot">Disposed with it; null: none.</param>
    public LsmIterator(KeyRange range, ReadState state, ulong sequence, Action throwIfEngineDisposed, IStorageSnapshot? ownSnapshot = null)
        : base(range)
    {
        _range = range;
        _state = state;
        _sequence = sequence;
        _throwIfEngineDisposed = throwIfEngineDisposed;
        _ownSnapshot = ownSnapshot;
        _tombstones = state.TombstoneSets();
        _merge = state.NewCursor();
    }

    protected override ReadOnlySpan<byte> CurrentKey => _copied ? _key.AsSpan(0, _keyBytes) : _merge.Key;

    protected override ReadOnlySpan<byte> CurrentValue => _copied ? _value.AsSpan(0, _valueBytes) : _merge.Value;

    protected override void ThrowIfUnusable()
    {
        base.ThrowIfUnusable();
        _throwIfEngineDisposed();
    }

    protected override bool ToFirstAtOrAfter(ReadOnlySpan<byte> key)
    {
        _merge.Seek(key, EntryTrailer.Visible(_sequence));
        return FindForward(skipsKey: false);
    }

    protected override bool ToLastAtOrBefore(ReadOnlySpan<byte> key)
    {
        _merge.SeekBefore(key, EntryTrailer.Oldest);
        return FindBackward();
    }

    protected override bool ToLastBefore(ReadOnlySpan<byte> key)
    {
        _merge.SeekBefore(key, EntryTrailer.Newest);
        return FindBackward();
    }

    protected override bool ToLast()
    {
        _merge.SeekLast();
        return FindBackward();
    }

    protected override bool ToNext()
    {
        if (_copied)
        {
            // The merge ran backward: turn around behind all entries of the key.
            _merge.Seek(_key.AsSpan(0, _keyBytes), EntryTrailer.Oldest);
            return FindForward(skipsKey: false);
        }

        SaveKey(_merge.Key);
        _merge.MoveNext();
        return FindForward(skipsKey: true);
    }

    protected override bool ToPrevious()
    {
        if (!_copied)
        {
            SaveKey(_merge.Key);
            _merge.SeekBefore(_key.AsSpan(0, _keyBytes), EntryTrailer.Newest);
        }

        return FindBackward();
    }

    protected override void Release()
    {
        _merge.Dispose();
        _state.Release();
        _ownSnapshot?.Dispose();
    }

    /// <param name="skipsKey">Entries of the saved key are not wanted.</param>
    private bool FindForward(bool skipsKey)
    {
        _copied = false;
        int skips = 0;
        while (_merge.IsValid)
        {
            ReadOnlySpan<byte> key = _merge.Key;
            if (_range.HasEnd && key.SequenceCompareTo(_range.End.Span) >= 0)
                return false;
            ulong trailer = _merge.Trailer;
            ulong sequence = EntryTrailer.Sequence(trailer);
            if (skipsKey && key.SequenceEqual(_key.AsSpan(0, _keyBytes)))
            {
                if (++skips < SkipsBeforeSeek)
                {
                    _merge.MoveNext();
                }
                else
                {
                    skips = 0;
                    _merge.Seek(_key.AsSpan(0, _keyBytes), EntryTrailer.Oldest);
                }

                continue;
            }

            if (sequence <= _sequence)
            {
                if (EntryTrailer.Kind(trailer) == EntryKind.Put && !IsCovered(key, sequence))
                    return true;
                SaveKey(key);
                skipsKey = true;
                skips = 0;
            }

            _merge.MoveNext();
        }

        return false;
    }

    private bool FindBackward()
    {
        bool found = false;
        _copied = true;
        while (_merge.IsValid)
        {
            ReadOnlySpan<byte> key = _merge.Key;
            if (found && !key.SequenceEqual(_key.AsSpan(0, _keyBytes)))
                break;
            if (key.SequenceCompareTo(_range.Start.Span) < 0)
                break;
            ulong trailer = _merge.Trailer;
            ulong sequence = EntryTrailer.Sequence(trailer);
            if (sequence <= _sequence)
            {
                found = EntryTrailer.Kind(trailer) == EntryKind.Put && !IsCovered(key, sequence);
                if (found)
                {
                    SaveKey(key);
                    SaveValue(_merge.Value);
                }
            }

            _merge.MovePrevious();
        }

        return found;
    }

    private bool IsCovered(ReadOnlySpan<byte> key, ulong sequence)
    {
        foreach (RangeTombstoneSet tombstones in _tombstones)
        {
            if (tombstones.NewestOver(key, _sequence) > sequence)
                return true;
        }

        return false;
    }

    private void SaveKey(ReadOnlySpan<byte> key)
    {
        if (_key.Length < key.Length)
            _key = new byte[Math.Max(key.Length, 2 * _key.Length)];
        key.CopyTo(_key);
        _keyBytes = key.Length;
    }

    private void SaveValue(ReadOnlySpan<byte> value)
    {
        if (_value.Length < value.Length)
            _value = new byte[Math.Max(value.Length, 2 * _value.Length)];
        value.CopyTo(_value);
        _valueBytes = value.Length;
    }
}
