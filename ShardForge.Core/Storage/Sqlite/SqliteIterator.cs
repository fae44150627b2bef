namespace ShardForge.Storage.Sqlite;

/// <summary>Walks a read view with one statement at a time: forwards or backwards, and a new search to turn round.</summary>
/// <remarks>
/// Key and value are copied out of SQLite's memory, so that they stay readable when the engine is disposed beside the reader; every row's
/// checksum is checked, that its key lies on the right side of the one before, and, where a search ends between two keys, both of them.
/// </remarks>
internal sealed class SqliteIterator(SqliteEngine engine, SqliteReadView view, KeyRange range) : RangeIterator(range)
{
    private readonly SqliteReadView _view = view;     // held once for the iterator
    private byte[] _key = [], _value = [];
    private int _keyBytes, _valueBytes;
    private SqliteStatement? _statement;
    private SqliteSearch _search;

    protected override ReadOnlySpan<byte> CurrentKey => _key.AsSpan(0, _keyBytes);

    protected override ReadOnlySpan<byte> CurrentValue => _value.AsSpan(0, _valueBytes);

    private bool IsForward => _search is SqliteSearch.AtOrAfter or SqliteSearch.After;

    protected override void ThrowIfUnusable()
    {
        base.ThrowIfUnusable();
        engine.ThrowIfDisposed();
    }

    protected override bool ToFirstAtOrAfter(ReadOnlySpan<byte> key) => Search(SqliteSearch.AtOrAfter, key);

    protected override bool ToLastAtOrBefore(ReadOnlySpan<byte> key) => Search(SqliteSearch.AtOrBefore, key);

    protected override bool ToLastBefore(ReadOnlySpan<byte> key) => Search(SqliteSearch.Before, key);

    protected override bool ToLast() => Search(SqliteSearch.Last, []);

    protected override bool ToNext() => _statement is not null && IsForward ? GoOn() : Search(SqliteSearch.After, _key.AsSpan(0, _keyBytes).ToArray());

    protected override bool ToPrevious() => _statement is not null && !IsForward ? GoOn() : Search(SqliteSearch.Before, _key.AsSpan(0, _keyBytes).ToArray());

    protected override void Release()
    {
        lock (_view.Session.Gate)
            EndSearch();
        _view.LetGo();
    }

    private bool Search(SqliteSearch search, ReadOnlySpan<byte> place)
    {
        SqliteSession session = _view.Session;
        lock (session.Gate)
        {
            ObjectDisposedException.ThrowIf(session.IsClosed, typeof(IStorageEngine));
            EndSearch();
            _search = search;
            _statement = session.Rent(search);
            if (search != SqliteSearch.Last)
                _statement.Bind(1, place);
            _statement.Step();
            bool found = Take(session);
            if (search is SqliteSearch.AtOrAfter && !(found && CurrentKey.SequenceEqual(place)))
                session.CheckNeighbour(SqliteSearch.Before, place);
            else if (search is SqliteSearch.AtOrBefore && !(found && CurrentKey.SequenceEqual(place)))
                session.CheckNeighbour(SqliteSearch.After, place);
            else if (search is SqliteSearch.Before)
                session.CheckNeighbour(SqliteSearch.AtOrAfter, place);
            return found;
        }
    }

    private bool GoOn()
    {
        SqliteSession session = _view.Session;
        lock (session.Gate)
        {
            ObjectDisposedException.ThrowIf(session.IsClosed, typeof(IStorageEngine));
            if (_statement!.Step())
                CheckOrder(session, _statement.Blob(SqliteSession.KeyColumn));
            return Take(session);
        }
    }

    private void CheckOrder(SqliteSession session, ReadOnlySpan<byte> next)
    {
        int order = next.SequenceCompareTo(CurrentKey);
        if (IsForward ? order <= 0 : order >= 0)
        {
            throw new CorruptionException(session.Path, 0,
                $"Key {Convert.ToHexString(next[..Math.Min(next.Length, 16)])} is on the wrong side of key {Convert.ToHexString(CurrentKey[..Math.Min(_keyBytes, 16)])}.");
        }
    }

    private bool Take(SqliteSession session)
    {
        if (!_statement!.IsOnRow)
        {
            EndSearch();
            return false;
        }

        ReadOnlySpan<byte> key = _statement.Blob(SqliteSession.KeyColumn), value = _statement.Blob(SqliteSession.ValueColumn);
        SqliteRow.Check(session.Path, key, value, _statement.Integer(SqliteSession.ChecksumColumn));
        Copy(key, ref _key, out _keyBytes);
        Copy(value, ref _value, out _valueBytes);
        return true;
    }

    private void EndSearch()
    {
        if (_statement is null)
            return;
        if (!_view.Session.IsClosed)
            _view.Session.Return(_search, _statement);
        _statement = null;
    }

    private static void Copy(ReadOnlySpan<byte> source, ref byte[] target, out int bytes)
    {
        if (target.Length < source.Length)
            target = new byte[Math.Max(source.Length, 2 * target.Length)];
        source.CopyTo(target);
        bytes = source.Length;
    }
}
