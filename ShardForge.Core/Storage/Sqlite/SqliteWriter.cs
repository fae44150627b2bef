namespace ShardForge.Storage.Sqlite;

/// <summary>The connection that writes: a group of batches is one SQLite transaction.</summary>
/// <remarks>
/// Durability: in write-ahead mode a commit under <c>synchronous=FULL</c> is flushed with all before it; under NORMAL it is not, survives
/// the end of the process, and comes back after a power cut as a prefix. A group with a flushed write commits under FULL. Without a log of its
/// own (inside a node) every group commits under NORMAL, and <see cref="Flush"/> makes them durable.
/// Threads: the engine's writer thread alone.
/// </remarks>
internal sealed class SqliteWriter : IStorageCommitter, IDisposable
{
    private const int PagesWritten = 9;            // SQLITE_DBSTATUS_CACHE_WRITE
    private const int FrameHeaderBytes = 24;       // before each page in the write-ahead file

    private readonly SqliteSession _session;
    private readonly SqliteLogPromise? _promise;
    private readonly WriteHistory _history;
    private readonly bool _flushesCommits;
    private readonly SqliteStatement _begin, _commit, _put, _delete, _deleteRange, _flushMark;
    private readonly long _frameBytes;
    private bool? _isFull;
    private long _sequence, _operations, _userBytes, _diskBytes;

    /// <param name="session">Taken over.</param>
    /// <param name="promise">Taken over; null: nothing is durable.</param>
    /// <param name="history">Gets the keys of every write.</param>
    /// <param name="flushesCommits">Whether a flushed write is flushed: not where a node's log does it.</param>
    public SqliteWriter(SqliteSession session, SqliteLogPromise? promise, WriteHistory history, bool flushesCommits)
    {
        _session = session;
        _promise = promise;
        _history = history;
        _flushesCommits = flushesCommits;
        _begin = session.Prepare("BEGIN IMMEDIATE");
        _commit = session.Prepare("COMMIT");
        _put = session.Prepare("INSERT INTO kv (k, c, v) VALUES (?1, ?2, ?3) ON CONFLICT (k) DO UPDATE SET c = excluded.c, v = excluded.v");
        _delete = session.Prepare("DELETE FROM kv WHERE k = ?1");
        _deleteRange = session.Prepare("DELETE FROM kv WHERE k >= ?1 AND k < ?2");
        _flushMark = session.Prepare("UPDATE meta SET flushes = flushes + 1 WHERE id = 1");
        _frameBytes = session.Ask("PRAGMA page_size") + FrameHeaderBytes;
    }

    /// <summary>Number of the last write that is visible.</summary>
    public long Sequence => _sequence;

    public long Operations => Interlocked.Read(ref _operations);

    public long UserBytes => Interlocked.Read(ref _userBytes);

    /// <summary>Bytes written to the write-ahead file, without what SQLite copies from there into the database.</summary>
    public long DiskBytes => Interlocked.Read(ref _diskBytes);

    public void Commit(IReadOnlyList<StorageWrite> group)
    {
        StorageDurability durability = StorageDurability.Buffered;
        long sequence = _sequence;
        lock (_session.Gate)
        {
            foreach (StorageWrite write in group)
            {
                if (write.Durability == StorageDurability.Flushed)
                    durability = StorageDurability.Flushed;
            }

            Synchronize(full: _flushesCommits && durability == StorageDurability.Flushed);
            _begin.Run();
            try
            {
                foreach (StorageWrite write in group)
                    sequence += Apply(write, sequence + 1);
                _commit.Run();
            }
            catch
            {
                RollBack();
                throw;
            }

            if (_isFull == true)
                _promise?.Promise();
            CountPages();
        }

        _sequence = sequence;
    }

    /// <summary>Makes everything that was committed durable.</summary>
    public void Flush()
    {
        lock (_session.Gate)
        {
            Synchronize(full: true);
            _begin.Run();
            try
            {
                // Any page will do: the flush of the write-ahead file takes along what was committed before.
                _flushMark.Run();
                _commit.Run();
            }
            catch
            {
                RollBack();
                throw;
            }

            _promise?.Promise();
            CountPages();
        }
    }

    /// <summary>Gives free pages back to the file system, and empties the write-ahead file as far as readers let it.</summary>
    public void Compact()
    {
        lock (_session.Gate)
        {
            Synchronize(full: true);
            using (SqliteStatement vacuum = new(_session, "PRAGMA incremental_vacuum"))
                vacuum.Run();
            _promise?.TakeBack();

            // Without waiting: an open snapshot may need what is in the file for long.
            _ = SQLitePCL.raw.sqlite3_busy_timeout(_session.Handle, 0);
            try
            {
                using SqliteStatement checkpoint = new(_session, "PRAGMA wal_checkpoint(TRUNCATE)");
                checkpoint.Run();
                _promise?.Promise();
            }
            finally
            {
                _ = SQLitePCL.raw.sqlite3_busy_timeout(_session.Handle, SqliteSession.BusyMilliseconds);
            }
        }
    }

    public void Dispose()
    {
        lock (_session.Gate)
            SqliteLogPromise.Close(_promise, _session);
    }

    /// <returns>1: it was written; 0: it was refused.</returns>
    private int Apply(StorageWrite write, long sequence)
    {
        ReadOnlySpan<byte> encoded = write.Encoded.Span;
        if (write.Start is { } start && _history.TryFindConflict(encoded, start.Sequence, out TransactionConflictException? conflict))
        {
            write.Refusal = conflict;
            return 0;
        }

        _history.Record(encoded, sequence);
        StorageBatchReader reader = new(encoded);
        while (reader.MoveNext())
        {
            switch (reader.Kind)
            {
                case StorageOperationKind.Put:
                    _put.Bind(1, reader.Key).Bind(2, SqliteRow.Checksum(reader.Key, reader.Value)).Bind(3, reader.Value).Run();
                    break;
                case StorageOperationKind.Delete:
                    _delete.Bind(1, reader.Key).Run();
                    break;
                default:
                    _deleteRange.Bind(1, reader.Key).Bind(2, reader.Value).Run();
                    break;
            }
        }

        Interlocked.Add(ref _operations, write.OperationCount);
        Interlocked.Add(ref _userBytes, encoded.Length);
        return 1;
    }

    private void CountPages()
    {
        if (SQLitePCL.raw.sqlite3_db_status(_session.Handle, PagesWritten, out int pages, out _, resetFlg: 1) == SQLitePCL.raw.SQLITE_OK)
            Interlocked.Add(ref _diskBytes, pages * _frameBytes);
    }

    private void Synchronize(bool full)
    {
        if (_isFull == full)
            return;
        _isFull = null;
        _session.Execute(full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
        _isFull = full;
    }

    private void RollBack()
    {
        // SQLite has rolled back by itself after some errors; asking again would be an error that hides the first.
        if (SQLitePCL.raw.sqlite3_get_autocommit(_session.Handle) == 0)
            _ = SQLitePCL.raw.sqlite3_exec(_session.Handle, "ROLLBACK");
    }
}
