namespace ShardForge.Storage.Sqlite;

/// <summary>A read transaction on a connection of its own: one state of the database, held by a snapshot and by every iterator on it.</summary>
/// <remarks>Counted: the last holder ends the transaction and hands the connection back.</remarks>
internal sealed class SqliteReadView
{
    private readonly SqliteReaders _readers;
    private int _holders = 1;

    private SqliteReadView(SqliteReaders readers, SqliteSession session)
    {
        _readers = readers;
        Session = session;
    }

    public SqliteSession Session { get; }

    /// <summary>Holds the state of now.</summary>
    public static SqliteReadView Open(SqliteReaders readers)
    {
        SqliteSession session = readers.Rent();
        try
        {
            lock (session.Gate)
            {
                ObjectDisposedException.ThrowIf(session.IsClosed, typeof(IStorageEngine));
                session.Execute("BEGIN");

                // BEGIN alone holds nothing: the first read does.
                SqliteStatement first = session.Rent(SqliteSearch.Last);
                first.Step();
                session.Return(SqliteSearch.Last, first);
            }

            return new SqliteReadView(readers, session);
        }
        catch
        {
            EndTransaction(readers, session);
            throw;
        }
    }

    /// <returns>False: its last holder is gone.</returns>
    public bool TryHold()
    {
        int holders = Volatile.Read(ref _holders);
        while (holders > 0)
        {
            int seen = Interlocked.CompareExchange(ref _holders, holders + 1, holders);
            if (seen == holders)
                return true;
            holders = seen;
        }

        return false;
    }

    public void LetGo()
    {
        if (Interlocked.Decrement(ref _holders) == 0)
            EndTransaction(_readers, Session);
    }

    private static void EndTransaction(SqliteReaders readers, SqliteSession session)
    {
        lock (session.Gate)
        {
            if (session.IsClosed)
                return;
            try
            {
                if (SQLitePCL.raw.sqlite3_get_autocommit(session.Handle) == 0)
                    session.Execute("ROLLBACK");
            }
            catch (ShardForgeException)
            {
                // A connection that cannot even end a read is of no use to the next reader. Dispose of the engine closes it.
                return;
            }
        }

        readers.Return(session);
    }
}

/// <summary>A hold on one state.</summary>
internal sealed class SqliteSnapshot(SqliteEngine engine, SqliteReadView view) : IStorageSnapshot
{
    private SqliteReadView? _view = view;

    private SqliteEngine Engine { get; } = engine;

    /// <summary>The snapshot's view, held once more: let go of it.</summary>
    /// <exception cref="ArgumentException">The snapshot is another engine's.</exception>
    /// <exception cref="ObjectDisposedException">It is disposed.</exception>
    public static SqliteReadView Hold(IStorageSnapshot snapshot, SqliteEngine engine)
    {
        if (snapshot is not SqliteSnapshot own || own.Engine != engine)
            throw new ArgumentException("The snapshot was taken of another engine.", nameof(snapshot));
        SqliteReadView? view = Volatile.Read(ref own._view);
        ObjectDisposedException.ThrowIf(view is null || !view.TryHold(), typeof(IStorageSnapshot));
        return view;
    }

    public void Dispose() => Interlocked.Exchange(ref _view, null)?.LetGo();
}
