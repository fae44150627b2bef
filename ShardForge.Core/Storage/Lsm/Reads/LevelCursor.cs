using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Reads;

/// <summary>Walks a run of tables, one after the other. Reusable for another run; the caller holds the version.</summary>
internal sealed class LevelCursor(bool fillCache) : TableCursor(fillCache)
{
    private TableRun? _tables;
    private int _open = -1;

    public LevelCursor(TableRun tables, bool fillCache)
        : this(fillCache) => _tables = tables;

    /// <summary>Takes a run; stands nowhere.</summary>
    public void Open(TableRun tables)
    {
        Dispose();
        _tables = tables;
    }

    public override void SeekFirst()
    {
        if (TryOpen(0))
            base.SeekFirst();
    }

    public override void SeekLast()
    {
        if (TryOpen(_tables!.Count - 1))
            base.SeekLast();
    }

    public override void PrepareSeek(ReadOnlySpan<byte> key, ulong trailer)
    {
        if (TryOpen(_tables!.FindEndingAfter(key)))
            base.PrepareSeek(key, trailer);
    }

    public override void Seek(ReadOnlySpan<byte> key, ulong trailer)
    {
        if (TryOpen(_tables!.FindEndingAfter(key)))
            base.Seek(key, trailer);
    }

    public override void SeekBefore(ReadOnlySpan<byte> key, ulong trailer)
    {
        int table = _tables!.FindEndingAfter(key);
        if (table == _tables.Count)
            SeekLast();
        else if (TryOpen(table))
            base.SeekBefore(key, trailer);
    }

    public override void Dispose()
    {
        base.Dispose();
        _tables = null;
        _open = -1;
    }

    protected override bool TryOpenNextTable() => _open >= 0 && TryOpen(_open + 1);

    protected override bool TryOpenPreviousTable() => _open >= 0 && TryOpen(_open - 1);

    private bool TryOpen(int table)
    {
        if ((uint)table >= (uint)_tables!.Count)
        {
            Close();
            _open = -1;
            return false;
        }

        if (table != _open)
            Open(_tables[table].Reader);
        _open = table;
        return true;
    }
}
