namespace ShardForge.Storage.Lsm.Table;

/// <summary>Walks a block, building each key in its own buffer. Reusable for one block after another; the caller keeps the block pinned.</summary>
/// <remarks>One thread. Backwards it walks again from the restart before: a block is short.</remarks>
internal sealed unsafe class BlockCursor
{
    private BlockView _block;
    private byte[] _key = new byte[64];
    private int _keyBytes, _sharedMax, _entry;    // the key buffer starts with that many bytes of the restart's key
    private byte* _value, _next;
    private int _valueBytes;

    public bool IsValid => (uint)_entry < (uint)_block.EntryCount;

    public ReadOnlySpan<byte> Key => _key.AsSpan(0, _keyBytes);

    public ReadOnlySpan<byte> Value => new(_value, _valueBytes);

    public ulong Trailer => _block.Trailer(_entry);

    /// <summary>Takes a block; stands nowhere.</summary>
    public void Open(in BlockView block)
    {
        _block = block;
        _entry = block.EntryCount;
        Invariant.Poison(_key);
    }

    /// <summary>Lets go of the block.</summary>
    public void Close()
    {
        _block = default;
        _entry = 0;
    }

    public void SeekFirst()
    {
        _entry = 0;
        if (_block.EntryCount == 0)
            return;
        _next = _block.Start;
        Decode();
    }

    public void SeekLast() => SeekEntry(_block.EntryCount - 1);

    public void Seek(ReadOnlySpan<byte> key, ulong trailer)
    {
        if (_block.EntryCount == 0)
            return;
        int restart = _block.FindRestart(key, trailer);
        _entry = restart * _block.RestartInterval;
        _next = _block.Restart(restart);
        Decode();
        while (EntryTrailer.Compare(Key, Trailer, key, trailer) < 0)
        {
            MoveNext();
            if (!IsValid)
                return;
        }
    }

    public void SeekBefore(ReadOnlySpan<byte> key, ulong trailer)
    {
        Seek(key, trailer);
        SeekEntry((IsValid ? _entry : _block.EntryCount) - 1);
    }

    public void MoveNext()
    {
        if (++_entry < _block.EntryCount)
            Decode();
    }

    public void MovePrevious() => SeekEntry(_entry - 1);

    private void SeekEntry(int entry)
    {
        if (entry < 0)
        {
            _entry = _block.EntryCount;
            return;
        }

        int restart = entry / _block.RestartInterval;
        _entry = restart * _block.RestartInterval;
        _next = _block.Restart(restart);
        Decode();
        while (_entry < entry)
            MoveNext();
    }

    private void Decode()
    {
        byte* at = _next;
        _block.DecodeEntry(ref at, out int shared, out int own, out int valueBytes);
        int keyBytes = shared + own;
        bool isRestart = _entry % _block.RestartInterval == 0;
        if (shared > (isRestart ? 0 : _sharedMax))
            BlockView.ThrowMalformed();
        _sharedMax = isRestart ? own : shared;
        if (_key.Length < keyBytes)
            Array.Resize(ref _key, Math.Max(keyBytes, 2 * _key.Length));
        new ReadOnlySpan<byte>(at, own).CopyTo(_key.AsSpan(shared));
        _keyBytes = keyBytes;
        _value = at + own;
        _valueBytes = valueBytes;
        _next = _value + valueBytes;
    }
}
