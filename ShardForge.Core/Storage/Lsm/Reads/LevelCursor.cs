using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Reads;

/// <summary>Walks the disjoint tables of one level, one after the other, with one table cursor. The caller holds the version.</summary>
internal sealed class LevelCursor(TableFile[] tables, bool fillCache) : EntryCursor
{
    private readonly TableCursor _cursor = new(fillCache);
    private int _open = -1;

    public override bool IsValid => _cursor.IsValid;

    public override ReadOnlySpan<byte> Key => _cursor.Key;

    public override ulong Trailer => _cursor.Trailer;

    public override ReadOnlySpan<byte> Value => _cursor.Value;

    public override void SeekFirst()
    {
        if (!OpenTable(0))
            return;
        _cursor.SeekFirst();
        SkipForward();
    }

    public override void SeekLast()
    {
        if (!OpenTable(tables.Length - 1))
            return;
        _cursor.SeekLast();
        SkipBackward();
    }

    public override void Seek(ReadOnlySpan<byte> key, ulong trailer)
    {
        if (!OpenTable(TableFile.FindEndingAfter(tables, key)))
            return;
        _cursor.Seek(key, trailer);
        SkipForward();
    }

    public override void SeekBefore(ReadOnlySpan<byte> key, ulong trailer)
    {
        int index = TableFile.FindEndingAfter(tables, key);
        if (index == tables.Length)
        {
            SeekLast();
            return;
        }

        OpenTable(index);
        _cursor.SeekBefore(key, trailer);
        SkipBackward();
    }

    public override void MoveNext()
    {
        _cursor.MoveNext();
        SkipForward();
    }

    public override void MovePrevious()
    {
        _cursor.MovePrevious();
        SkipBackward();
    }

    public override void Dispose() => _cursor.Dispose();

    private void SkipForward()
    {
        while (!_cursor.IsValid && OpenTable(_open + 1))
            _cursor.SeekFirst();
    }

    private void SkipBackward()
    {
        while (!_cursor.IsValid && OpenTable(_open - 1))
            _cursor.SeekLast();
    }

    private bool OpenTable(int index)
    {
        if ((uint)index >= (uint)tables.Length)
        {
            _cursor.Dispose();
            _open = -1;
            return false;
        }

        if (index != _open)
        {
            _cursor.Open(tables[index].Reader);
            _open = index;
        }

        return true;
    }
}
