namespace ShardForge.Storage.Sqlite;

/// <summary>The connections that read: idle ones to use again, and those in use, so that dispose can close them.</summary>
/// <remarks>Lock order: a session's gate, then <c>_gate</c>. No connection is opened or closed under <c>_gate</c>.</remarks>
internal sealed class SqliteReaders(string path, SqliteOptions options) : IDisposable
{
    private const int IdleMax = 16;

    private readonly Lock _gate = new();
    private readonly Stack<SqliteSession> _idle = new();
    private readonly HashSet<SqliteSession> _all = [];
    private int _opening;
    private bool _closed;

    /// <summary>A connection for one reader. Hand it back with <see cref="Return"/>.</summary>
    /// <exception cref="OverloadedException">All that may be are in use.</exception>
    public SqliteSession Rent()
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_closed, typeof(IStorageEngine));
            if (_idle.TryPop(out SqliteSession? idle))
                return idle;
            if (_all.Count + _opening >= options.ReadersMax)
            {
                throw new OverloadedException(
                    $"{path} has {_all.Count:N0} reads, snapshots and iterators at once; the limit is {options.ReadersMax:N0} ({nameof(SqliteOptions)}.{nameof(SqliteOptions.ReadersMax)}).");
            }

            _opening++;
        }

        SqliteSession? session = null;
        bool added = false;
        try
        {
            session = SqliteSession.Open(path, options, SqliteAccess.Read);
        }
        finally
        {
            added = TryAdd(session);
        }

        if (!added)
            session.Dispose();
        ObjectDisposedException.ThrowIf(!added, typeof(IStorageEngine));
        return session;
    }

    public void Return(SqliteSession session)
    {
        lock (_gate)
        {
            if (_closed)
                return;
            if (_idle.Count < IdleMax)
            {
                _idle.Push(session);
                return;
            }

            _all.Remove(session);
        }

        lock (session.Gate)
            session.Dispose();
    }

    /// <summary>Closes all connections; waits for the read that runs on one.</summary>
    public void Dispose()
    {
        SqliteSession[] all;
        lock (_gate)
        {
            _closed = true;
            all = [.. _all];
            _all.Clear();
            _idle.Clear();
        }

        foreach (SqliteSession session in all)
        {
            lock (session.Gate)
                session.Dispose();
        }
    }

    /// <param name="session">Null: it could not be opened.</param>
    private bool TryAdd(SqliteSession? session)
    {
        lock (_gate)
        {
            _opening--;
            return session is not null && !_closed && _all.Add(session);
        }
    }
}
