using System.Buffers;

namespace ShardForge.Storage.Sqlite;

/// <summary>An engine on SQLite: one database file in write-ahead mode.</summary>
/// <remarks><code>
/// write ─▶ queue ─▶ writer thread ─▶ one SQLite transaction for all that waits
/// read  ─▶ a pooled connection; a snapshot or iterator keeps one, with its read transaction open
/// directory | ENGINE | LOCK | data.db (SqliteDatabase) | data.db-wal, data.db-shm | data.promise (SqliteLogPromise) |
/// </code>
/// Invariants: a write is visible to reads that start after its task ended; every row that is read has its checksum verified, every
/// absence its neighbours' (<see cref="SqliteRow"/>); SQLite's own types stay in this folder.
/// While a snapshot or iterator is open, SQLite cannot empty its write-ahead file behind it: the file grows with every write.
/// A full disk fails the writes of one transaction, transiently; any other failed write ends the writing. Reads go on in both.
/// Threads: any; the writer's own for writes, a thread of its own for each checkpoint. Lock order: a session's gate, then the readers'.
/// Parts, in the order of the data: <see cref="SqliteFolder"/>, <see cref="StorageWriter"/>, <see cref="SqliteWriter"/>,
/// <see cref="SqliteLogPromise"/>, <see cref="SqliteDatabase"/>, <see cref="SqliteReaders"/>, <see cref="SqliteReadView"/>, <see cref="SqliteIterator"/>.
/// </remarks>
internal sealed class SqliteEngine : ITransactionalEngine
{
    internal const string EngineName = "sqlite";

    private readonly StorageEngineContext _context;
    private readonly SqliteOptions _options;
    private readonly SqliteFolder _folder;
    private readonly SqliteWriter _database;
    private readonly StorageWriter _writer;
    private readonly SqliteReaders _readers;
    private readonly WriteHistory _history;
    private readonly Lock _disposeGate = new();
    private readonly CancellationTokenSource _disposal = new();
    private readonly StorageThreads _threads = new();
    private Task? _disposing;
    private volatile bool _disposed;
    private long _reads, _flushes, _compactions;

    private SqliteEngine(StorageEngineContext context, SqliteOptions options, SqliteFolder folder, SqliteWriter database, WriteHistory history)
    {
        _context = context;
        _options = options;
        _folder = folder;
        _database = database;
        _history = history;
        _writer = new StorageWriter(context.Name, database);
        _readers = new SqliteReaders(DatabasePath, options);
    }

    private string DatabasePath => Path.Combine(_folder.WorkDirectory, SqliteDatabase.FileName);

    public static SqliteEngine Open(StorageEngineContext context, SqliteOptions options, CancellationToken cancellationToken)
    {
        SqliteFolder folder = SqliteFolder.Open(context, options);
        SqliteWriter? database = null;
        try
        {
            SqliteSession session = SqliteDatabase.Open(folder, options, context.FileSystem, out SqliteLogPromise? promise, cancellationToken);
            WriteHistory history = new();
            database = new SqliteWriter(session, promise, history, flushesCommits: context.WriteAheadLog && folder.IsDurable);
            return new SqliteEngine(context, options, folder, database, history);
        }
        catch
        {
            database?.Dispose();
            folder.Dispose();
            throw;
        }
    }

    public bool TryGet(ReadOnlySpan<byte> key, IBufferWriter<byte> value, IStorageSnapshot? snapshot = null)
    {
        StorageArguments.CheckKey(key);
        return Read(key, suffixBytes: 0, [], value, snapshot);
    }

    public bool TryGetVersion(ReadOnlySpan<byte> key, int suffixBytes, Span<byte> suffix, IBufferWriter<byte> value, IStorageSnapshot? snapshot = null)
    {
        ThrowIfDisposed();
        StorageArguments.CheckVersion(key, suffixBytes, suffix);
        return Read(key, suffixBytes, suffix, value, snapshot);
    }

    public ValueTask<byte[]?> GetAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        StorageArguments.CheckKey(key.Span);
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled<byte[]?>(cancellationToken);
        ArrayBufferWriter<byte> value = new();
        return new(Read(key.Span, suffixBytes: 0, [], value, null) ? value.WrittenSpan.ToArray() : null);
    }

    public ValueTask PutAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value, CancellationToken cancellationToken = default)
    {
        StorageBatch batch = new();
        batch.Put(key.Span, value.Span);
        return WriteAsync(batch, StorageDurability.Flushed, cancellationToken);
    }

    public ValueTask DeleteAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default)
    {
        StorageBatch batch = new();
        batch.Delete(key.Span);
        return WriteAsync(batch, StorageDurability.Flushed, cancellationToken);
    }

    public ValueTask WriteAsync(StorageBatch batch, StorageDurability durability = StorageDurability.Flushed, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ThrowIfDisposed();
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled(cancellationToken);
        return batch.Count == 0 ? ValueTask.CompletedTask : _writer.WriteAsync(batch, durability, null, cancellationToken);
    }

    public ValueTask CommitAsync(StorageBatch batch, TransactionStart start, CancellationToken cancellationToken) =>
        _writer.WriteAsync(batch, StorageDurability.Flushed, start, cancellationToken);

    public IStorageIterator Scan(KeyRange range, StorageScanOptions? options = null)
    {
        ThrowIfDisposed();
        StorageArguments.CheckRange(range);
        Interlocked.Increment(ref _reads);
        SqliteReadView view = options?.Snapshot is { } snapshot ? SqliteSnapshot.Hold(snapshot, this) : SqliteReadView.Open(_readers);
        return new SqliteIterator(this, view, range);
    }

    public IStorageSnapshot CreateSnapshot()
    {
        ThrowIfDisposed();
        return new SqliteSnapshot(this, SqliteReadView.Open(_readers));
    }

    public async ValueTask<IStorageTransaction> BeginTransactionAsync(CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        cancellationToken.ThrowIfCancellationRequested();
        TransactionStart? start = null;
        await _writer.RunAsync(() => start = BeginBetweenWrites(), CancellationToken.None).ConfigureAwait(false);
        return new StorageTransaction(this, start!);
    }

    public void EndTransaction(TransactionStart start)
    {
        _history.End(start.Sequence);
        start.Snapshot.Dispose();
    }

    public ValueTask FlushAsync(CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        return _writer.RunAsync(Flush, cancellationToken);
    }

    public ValueTask CompactAsync(KeyRange range = default, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        StorageArguments.CheckRange(range);
        return _writer.RunAsync(Compact, cancellationToken);
    }

    public ValueTask CheckpointAsync(string directory, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        ThrowIfDisposed();
        return cancellationToken.IsCancellationRequested
            ? ValueTask.FromCanceled(cancellationToken)
            : new(_threads.RunAsync($"{_context.Name} checkpoint", () => WriteCheckpoint(directory, cancellationToken)));
    }

    public StorageStatistics GetStatistics()
    {
        ThrowIfDisposed();
        FileInfo database = new(DatabasePath), log = new(DatabasePath + "-wal");
        long diskBytes = (database.Exists ? database.Length : 0) + (log.Exists ? log.Length : 0);
        return new StorageStatistics
        {
            Engine = EngineName,
            Reads = Interlocked.Read(ref _reads),
            Writes = _database.Operations,
            UserBytesWritten = _database.UserBytes,
            DiskBytesWritten = _database.DiskBytes,
            DiskBytes = diskBytes,
            KeyCountEstimate = EstimateKeyCount(diskBytes),
            Flushes = Interlocked.Read(ref _flushes),
            Compactions = Interlocked.Read(ref _compactions),
        };
    }

    /// <summary>From the first rows: their number if there are few, else the size of the database by theirs.</summary>
    private long EstimateKeyCount(long diskBytes)
    {
        const int SampleRows = 64, RowOverheadBytes = 16;
        long rows = 0, bytes = 0;
        using IStorageIterator iterator = Scan(KeyRange.All);
        for (; rows < SampleRows && iterator.MoveNext(); rows++)
            bytes += iterator.Key.Length + iterator.Value.Length + RowOverheadBytes;
        return rows < SampleRows ? rows : Math.Max(rows, diskBytes / (bytes / rows));
    }

    public void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(_disposed, typeof(IStorageEngine));

    public ValueTask DisposeAsync()
    {
        lock (_disposeGate)
            _disposing ??= CloseAsync();
        return new(_disposing);
    }

    private async Task CloseAsync()
    {
        _disposed = true;
        await _disposal.CancelAsync().ConfigureAwait(false);
        await _threads.DisposeAsync().ConfigureAwait(false);
        await _writer.DisposeAsync().ConfigureAwait(false);
        _readers.Dispose();

        // The last connection to close empties the write-ahead file into the database.
        _database.Dispose();
        _folder.Dispose();
        _disposal.Dispose();
    }

    private bool Read(ReadOnlySpan<byte> key, int suffixBytes, Span<byte> suffix, IBufferWriter<byte> value, IStorageSnapshot? snapshot)
    {
        ThrowIfDisposed();
        Interlocked.Increment(ref _reads);
        if (snapshot is not null)
        {
            SqliteReadView view = SqliteSnapshot.Hold(snapshot, this);
            try
            {
                return Read(view.Session, key, suffixBytes, suffix, value);
            }
            finally
            {
                view.LetGo();
            }
        }

        SqliteSession session = _readers.Rent();
        try
        {
            return Read(session, key, suffixBytes, suffix, value);
        }
        finally
        {
            _readers.Return(session);
        }
    }

    private static bool Read(SqliteSession session, ReadOnlySpan<byte> key, int suffixBytes, Span<byte> suffix, IBufferWriter<byte> value)
    {
        lock (session.Gate)
        {
            ObjectDisposedException.ThrowIf(session.IsClosed, typeof(IStorageEngine));
            SqliteStatement statement = session.Rent(SqliteSearch.AtOrAfter).Bind(1, key);
            try
            {
                ReadOnlySpan<byte> found = statement.Step() ? statement.Blob(SqliteSession.KeyColumn) : default;
                if (statement.IsOnRow)
                    SqliteRow.CheckKey(session.Path, found, statement.Integer(SqliteSession.ChecksumColumn));
                if (!statement.IsOnRow || !found.SequenceEqual(key))
                    session.CheckNeighbour(SqliteSearch.Before, key);
                if (!statement.IsOnRow || found.Length != key.Length || !found.StartsWith(key[..^suffixBytes]))
                    return false;
                ReadOnlySpan<byte> bytes = statement.Blob(SqliteSession.ValueColumn);
                SqliteRow.Check(session.Path, found, bytes, statement.Integer(SqliteSession.ChecksumColumn));
                found[^suffixBytes..].CopyTo(suffix);
                value.Write(bytes);
                return true;
            }
            finally
            {
                session.Return(SqliteSearch.AtOrAfter, statement);
            }
        }
    }

    private TransactionStart BeginBetweenWrites()
    {
        // On the writer's thread: no write is between the number and the snapshot.
        long sequence = _database.Sequence;
        SqliteSnapshot snapshot = new(this, SqliteReadView.Open(_readers));
        _history.Begin(sequence);
        return new TransactionStart(snapshot, sequence);
    }

    private void Flush()
    {
        try
        {
            if (_folder.IsDurable)
                _database.Flush();
            else if (_folder.IsCopied)
                CopyBack();
            Interlocked.Increment(ref _flushes);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or ShardForgeException { IsTransient: false })
        {
            // What a failed flush should have made durable may be lost, and a second one would not say so (R35).
            _writer.Fail(error);
            throw new ShardForgeException($"The flush of {_context.Name} failed: {error.Message} What was written since the last one may not survive a power cut; no more writes are taken.",
                isTransient: false, error);
        }
    }

    private void CopyBack()
    {
        using SqliteSession session = SqliteSession.Open(DatabasePath, _options, SqliteAccess.Write);
        _folder.CopyBack(session);
    }

    private void Compact()
    {
        _database.Compact();
        Interlocked.Increment(ref _compactions);
    }

    private void WriteCheckpoint(string directory, CancellationToken cancellationToken)
    {
        using SqliteSession session = SqliteSession.Open(DatabasePath, _options, SqliteAccess.Write);
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _disposal.Token);
        using CancellationTokenRegistration interrupt = stop.Token.Register(session.Interrupt);
        try
        {
            StorageFiles.FillCheckpoint(_context.FileSystem, directory, () =>
            {
                stop.Token.ThrowIfCancellationRequested();
                _folder.CopyTo(session, directory);
                EngineMarker.Write(_context.FileSystem, directory, EngineName, SqliteDatabase.Version);
            });
        }
        catch (OperationCanceledException error) when (_disposed)
        {
            throw new ObjectDisposedException($"The engine {_context.Name} was disposed during the checkpoint; what was written of it is removed.", error);
        }
    }
}
