namespace ShardForge.Storage.Lsm.Table;

/// <summary>Walks a table, block by block; the block that it is in stays pinned. An heir goes on in other tables.</summary>
internal unsafe class TableCursor(bool fillCache) : EntryCursor
{
    private readonly BlockCursor _data = new();
    private readonly ReadBuffer _buffer = new();
    private TableReader? _table;
    private BlockPin _pin;
    private int _block = -1;    // pinned; -1: none

    /// <summary>Takes a table, of which the caller holds the version; stands nowhere.</summary>
    public void Open(TableReader table)
    {
        Unpin();
        _table = table;
    }

    public override void SeekFirst() => ToFirstFrom(0);

    public override void SeekLast() => ToLastFrom(LastBlock);

    public override void Seek(ReadOnlySpan<byte> key, ulong trailer)
    {
        int block = _table!.FindBlock(key, trailer);
        if (OpenBlock(block))
        {
            if (_table.TryBuildTags(_pin.Block))
                _data.Seek(_pin.Block, key, trailer);
            else
                _data.Seek(key, trailer);
            if (_data.IsValid)
            {
                Stand();
                return;
            }

            block++;
        }

        ToFirstFrom(block);
    }

    public override void PrepareSeek(ReadOnlySpan<byte> key, ulong trailer) => _table!.PrefetchBlock(_table.FindBlock(key, trailer));

    public override void SeekBefore(ReadOnlySpan<byte> key, ulong trailer)
    {
        // The block that could hold (key, trailer) has the entry before it, or that is the last of the block before.
        int block = _table!.FindBlock(key, trailer);
        if (block == _table.BlockCount)
        {
            ToLastFrom(LastBlock);
            return;
        }

        OpenBlock(block);
        _data.SeekBefore(key, trailer);
        if (_data.IsValid)
            Stand();
        else
            ToLastFrom(block - 1);
    }

    public override void MoveNext()
    {
        if (_data.MoveNext())
            Stand();
        else
            ToFirstFrom(_block + 1);
    }

    public override void MovePrevious()
    {
        _data.MovePrevious();
        if (_data.IsValid)
            Stand();
        else
            ToLastFrom(_block - 1);
    }

    /// <summary>Lets go of its block; stands nowhere.</summary>
    protected void Close() => Unpin();

    public override void Dispose()
    {
        Unpin();
        _buffer.Dispose();
        _table = null;
    }

    /// <summary>Opens the table behind this one.</summary>
    protected virtual bool TryOpenNextTable() => false;

    /// <summary>Opens the table before this one.</summary>
    protected virtual bool TryOpenPreviousTable() => false;

    private int LastBlock => _table!.BlockCount - 1;

    private void Stand() => StandOn(_data.KeyAt, _data.KeyBytes, _data.Trailer, _data.ValueAt, _data.ValueBytes);

    private void ToFirstFrom(int block)
    {
        do
        {
            for (; OpenBlock(block); block++)
            {
                _data.SeekFirst();
                if (!_data.IsValid)
                    continue;
                Stand();
                return;
            }

            block = 0;
        }
        while (TryOpenNextTable());
    }

    private void ToLastFrom(int block)
    {
        do
        {
            for (; OpenBlock(block); block--)
            {
                _data.SeekLast();
                if (!_data.IsValid)
                    continue;
                Stand();
                return;
            }

            if (!TryOpenPreviousTable())
                return;
            block = LastBlock;
        }
        while (true);
    }

    /// <returns>False: there is no such block; it stands nowhere.</returns>
    private bool OpenBlock(int block)
    {
        if ((uint)block >= (uint)_table!.BlockCount)
        {
            Unpin();
            return false;
        }

        if (block == _block)
            return true;
        Unpin();
        _pin = _table.Pin(block, fillCache, _buffer);
        _block = block;
        _data.Open(BlockView.Of(_pin.Block));
        return true;
    }

    private void Unpin()
    {
        StandNowhere();
        _data.Close();
        _pin.Release();
        _pin = default;
        _block = -1;
    }
}
