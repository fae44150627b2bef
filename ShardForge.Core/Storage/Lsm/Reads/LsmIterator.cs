namespace ShardForge.Storage.Lsm.Reads;

/// <summary>The user's iterator: of each key the newest entry at a sequence number, if that is a value.</summary>
/// <remarks>
/// Forward it stands on the merge's entry; what is older of the same key is skipped at the next move. Backward a key's entries come oldest first, so
/// the merge runs on to the key before, and key and value are copied. Holds the read state: memory and files stay until it is disposed, whatever
/// becomes of the engine. One thread. The step forward and the look at an entry are short cuts around <see cref="RangeIterator"/>, with the same rules.
/// </remarks>
internal sealed class LsmIterator : RangeIterator
{
    /// <summary>After so many entries that are not wanted, a seek is cheaper.</summary>
    private const int SkipsBeforeSeek = 16;

    private readonly LsmEngine _engine;
    private readonly ReadState _state;
    private readonly ulong _sequence;
    private readonly byte[] _start;
    private readonly byte[]? _end;
    private readonly RangeTombstoneSet[] _tombstones;
    private readonly ScanCursors _cursors;
    private readonly MergeCursor _merge;
    private bool _copied;

    /// <param name="engine">Whose entries.</param>
    /// <param name="range">What is iterated over.</param>
    /// <param name="state">Taken over: released by dispose.</param>
    /// <param name="sequence">What is seen.</param>
    public LsmIterator(LsmEngine engine, KeyRange range, ReadState state, ulong sequence)
        : base(range)
    {
        _engine = engine;
        _state = state;
        _sequence = sequence;
        _start = range.Start.ToArray();
        _end = range.HasEnd ? range.End.ToArray() : null;
        _tombstones = state.TombstoneSets();
        _cursors = engine.RentCursors();
        _merge = state.OpenCursors(_cursors);
    }

    public override ReadOnlySpan<byte> Key => CanStep ? CurrentKey : base.Key;

    public override ReadOnlySpan<byte> Value => CanStep ? CurrentValue : base.Value;

    protected override ReadOnlySpan<byte> CurrentKey => _copied ? _cursors.SavedKey : _merge.Key;

    protected override ReadOnlySpan<byte> CurrentValue => _copied ? _cursors.SavedValue : _merge.Value;

    private bool CanStep => IsOnEntry && !_engine.IsDisposed;

    public override bool MoveNext()
    {
        if (!CanStep || _copied)
            return base.MoveNext();
        LeaveEntry();
        return Settle(ToNext());
    }

    protected override void ThrowIfUnusable()
    {
        base.ThrowIfUnusable();
        _engine.ThrowIfDisposed();
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
            _merge.Seek(_cursors.SavedKey, EntryTrailer.Oldest);
            return FindForward(skipsKey: false);
        }

        _cursors.SaveKey(_merge.Key);
        _merge.MoveNext();
        return FindForward(skipsKey: true);
    }

    protected override bool ToPrevious()
    {
        if (!_copied)
        {
            _cursors.SaveKey(_merge.Key);
            _merge.SeekBefore(_cursors.SavedKey, EntryTrailer.Newest);
        }

        return FindBackward();
    }

    protected override void Release()
    {
        _cursors.Close();
        _engine.ReturnCursors(_cursors);
        _state.Release();
    }

    /// <param name="skipsKey">Entries of the saved key are not wanted.</param>
    private bool FindForward(bool skipsKey)
    {
        _copied = false;
        int skips = 0;
        while (_merge.IsValid)
        {
            ReadOnlySpan<byte> key = _merge.Key;
            if (_end is not null && key.SequenceCompareTo(_end) >= 0)
                return false;
            ulong trailer = _merge.Trailer;
            ulong sequence = EntryTrailer.Sequence(trailer);
            if (skipsKey && key.SequenceEqual(_cursors.SavedKey))
            {
                if (++skips < SkipsBeforeSeek)
                {
                    _merge.MoveNext();
                }
                else
                {
                    skips = 0;
                    _merge.Seek(_cursors.SavedKey, EntryTrailer.Oldest);
                }

                continue;
            }

            if (sequence <= _sequence)
            {
                if (EntryTrailer.Kind(trailer) == EntryKind.Put && !IsCovered(key, sequence))
                    return true;
                _cursors.SaveKey(key);
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
            if (found && !key.SequenceEqual(_cursors.SavedKey))
                break;
            if (key.SequenceCompareTo(_start) < 0)
                break;
            ulong trailer = _merge.Trailer;
            ulong sequence = EntryTrailer.Sequence(trailer);
            if (sequence <= _sequence)
            {
                found = EntryTrailer.Kind(trailer) == EntryKind.Put && !IsCovered(key, sequence);
                if (found)
                {
                    _cursors.SaveKey(key);
                    _cursors.SaveValue(_merge.Value);
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
}
