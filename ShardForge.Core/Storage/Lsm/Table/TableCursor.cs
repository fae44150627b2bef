namespace ShardForge.Storage.Lsm.Table;

/// <summary>Walks a table: a cursor in the index and one in the block that it names, which stays pinned while it is there.</summary>
internal sealed class TableCursor(bool fillCache) : EntryCursor
{
    private readonly BlockCursor _index = new(), _data = new();
    private TableReader? _table;
    private BlockPin _pin;
    private long _pinOffset = -1;

    public override bool IsValid => _data.IsValid;

    public override ReadOnlySpan<byte> Key => _data.Key;

    public override ulong Trailer => _data.Trailer;

    public override ReadOnlySpan<byte> Value => _data.Value;

    /// <summary>Takes a table, of which the caller holds the version; stands nowhere.</summary>
    public void Open(TableReader table)
    {
        Unpin();
        _table = table;
        _index.Open(table.Index);
    }

    public override void SeekFirst()
    {
        _index.SeekFirst();
        OpenBlock();
        _data.SeekFirst();
        SkipForward();
    }

    public override void SeekLast()
    {
        _index.SeekLast();
        OpenBlock();
        _data.SeekLast();
    }

    public override void Seek(ReadOnlySpan<byte> key, ulong trailer)
    {
        _index.Seek(key, trailer);
        OpenBlock();
        _data.Seek(key, trailer);
        SkipForward();
    }

    public override void SeekBefore(ReadOnlySpan<byte> key, ulong trailer)
    {
        // The block that could hold (key, trailer) has the entry before it, or that is the last of the block before.
        _index.Seek(key, trailer);
        if (!_index.IsValid)
        {
            SeekLast();
            return;
        }

        OpenBlock();
        _data.SeekBefore(key, trailer);
        if (!_data.IsValid)
            PreviousBlock();
    }

    public override void MoveNext()
    {
        _data.MoveNext();
        SkipForward();
    }

    public override void MovePrevious()
    {
        _data.MovePrevious();
        if (!_data.IsValid)
            PreviousBlock();
    }

    public override void Dispose()
    {
        Unpin();
        _index.Close();
        _table = null;
    }

    private void SkipForward()
    {
        if (_data.IsValid || !_index.IsValid)
            return;
        _index.MoveNext();
        OpenBlock();
        _data.SeekFirst();
    }

    private void PreviousBlock()
    {
        _index.MovePrevious();
        OpenBlock();
        _data.SeekLast();
    }

    private void OpenBlock()
    {
        if (!_index.IsValid)
        {
            Unpin();
            return;
        }

        BlockHandle handle = _table!.ReadHandle(_index.Value);
        if (handle.Offset == _pinOffset)
            return;
        Unpin();
        BlockPin pin = _table.Pin(handle, fillCache);
        _data.Open(_table.View(pin, handle));
        _pin = pin;
        _pinOffset = handle.Offset;
    }

    private void Unpin()
    {
        _data.Close();
        if (!_pin.IsNone)
            _pin.Release();
        _pin = default;
        _pinOffset = -1;
    }
}
