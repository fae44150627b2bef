using System.Buffers;
using ShardForge.Common;

namespace ShardForge.Storage.Memory;

/// <summary>An engine that keeps all entries in memory, in an immutable ordered map that each write replaces.</summary>
/// <remarks><code>
/// no directory      write ─▶ lock ─▶ next state                                      nothing is durable
/// opened alone      write ─▶ queue ─▶ writer thread ─▶ redo log ─▶ next state        flush, or a long log: image, new log
/// inside a node     write ─▶ lock ─▶ next state                                      flush: image
/// directory | ENGINE | LOCK | image (MemoryImage) | redo (MemoryRedoLog) |
/// </code>
/// Readers take the present state with one read of a field: they never wait for a writer, and what they hold never changes.
/// Invariants: states have rising sequence numbers; a state is published after its writes are as durable as was asked; image and
/// log together always give a prefix of the writes.
/// Threads: any; the writer's own for the log, images and checkpoints. Lock order: <c>_gate</c>, then that of the write history.
/// Parts, in the order of the data: <see cref="StorageWriter"/>, <see cref="MemoryRedoLog"/>, <see cref="MemoryState"/>,
/// <see cref="MemoryImage"/>; <see cref="MemorySnapshot"/>, <see cref="MemoryIterator"/>.
/// </remarks>
internal sealed class MemoryEngine : ITransactionalEngine, IStorageCommitter
{
    internal const string EngineName = "memory";

    /// <summary>Newest version of the files: that of the image or of the log, whichever is higher.</summary>
    internal const uint FormatVersion = 1;

    private static readonly string[] s_firstFiles = [MemoryImage.FileName, MemoryImage.FileName + StorageFiles.TemporarySuffix];

    private readonly StorageEngineContext _context;
    private readonly MemoryOptions _options;
    private readonly StorageWriter _writer;
    private readonly WriteHistory _history = new();
    private readonly Lock _gate = new();                // orders the writes where there is no log
    private readonly SortedMapEditor _editor;           // of whoever orders the writes
    private readonly IDisposable? _directoryLock;
    private readonly bool _hasLog;
    private MemoryRedoLog? _log;                        // the writer thread's
    private volatile MemoryState _state;
    private volatile bool _disposed;
    private long _reads, _writes, _userBytes, _diskBytes, _flushes, _imageBytes;

    private MemoryEngine(StorageEngineContext context, MemoryOptions options, IDisposable? directoryLock, MemoryState state, MemoryRedoLog? log, long imageBytes)
    {
        _context = context;
        _options = options;
        _directoryLock = directoryLock;
        _state = state;
        _editor = new SortedMapEditor(state.Map);
        _log = log;
        _hasLog = log is not null;
        _imageBytes = imageBytes;
        _writer = new StorageWriter(context.Name, this);
    }

    private IFileSystem Files => _context.FileSystem;

    public static MemoryEngine Open(StorageEngineContext context, MemoryOptions options, CancellationToken cancellationToken)
    {
        if (context.Directory is not { } directory)
            return new MemoryEngine(context, options, null, MemoryState.Empty, null, imageBytes: 0);
        IFileSystem files = context.FileSystem;
        IDisposable directoryLock = EngineMarker.Acquire(files, directory, EngineName, FormatVersion, s_firstFiles,
            () => MemoryImage.Write(files, directory, MemoryState.Empty, hasLog: false, cancellationToken));
        MemoryRedoLog? log = null;
        try
        {
            MemoryState state = MemoryImage.Read(files, directory, cancellationToken, out bool imageHasLog, out long imageBytes);
            string logPath = Path.Combine(directory, MemoryRedoLog.FileName);
            if (files.FileExists(logPath))
                log = MemoryRedoLog.Recover(files, directory, state, out state);
            else if (imageHasLog)
                throw new CorruptionException(logPath, 0, "The redo log is missing; the image says that there is one.");
            if (log is not null && (!context.WriteAheadLog || log.LastSequence != state.Sequence))
            {
                log.Dispose();
                log = null;
            }

            if (context.WriteAheadLog)
            {
                log ??= MemoryRedoLog.Create(files, directory, state.Sequence);
                if (!imageHasLog)
                    imageBytes = MemoryImage.Write(files, directory, state, hasLog: true, cancellationToken);
            }

            return new MemoryEngine(context, options, directoryLock, state, log, imageBytes);
        }
        catch
        {
            log?.Dispose();
            directoryLock.Dispose();
            throw;
        }
    }

    public bool TryGet(ReadOnlySpan<byte> key, IBufferWriter<byte> value, IStorageSnapshot? snapshot = null)
    {
        MemoryState state = StateFor(snapshot);
        StorageArguments.CheckKey(key);
        Interlocked.Increment(ref _reads);
        if (!state.Map.TryGet(key, out byte[]? found))
            return false;
        value.Write(found);
        return true;
    }

    public bool TryGetVersion(ReadOnlySpan<byte> key, int suffixBytes, Span<byte> suffix, IBufferWriter<byte> value, IStorageSnapshot? snapshot = null)
    {
        MemoryState state = StateFor(snapshot);
        StorageArguments.CheckVersion(key, suffixBytes, suffix);
        Interlocked.Increment(ref _reads);
        SortedMapCursor cursor = state.Map.GetCursor();
        if (!cursor.ToFirstAtOrAfter(key) || cursor.Key.Length != key.Length || !cursor.Key.AsSpan().StartsWith(key[..^suffixBytes]))
            return false;
        cursor.Key.AsSpan(key.Length - suffixBytes).CopyTo(suffix);
        value.Write(cursor.Value);
        return true;
    }

    public ValueTask<byte[]?> GetAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default)
    {
        MemoryState state = StateFor(null);
        StorageArguments.CheckKey(key.Span);
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled<byte[]?>(cancellationToken);
        Interlocked.Increment(ref _reads);
        return new(state.Map.TryGet(key.Span, out byte[]? found) ? found!.ToArray() : null);
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
        return WriteAsync(batch, durability, null, cancellationToken);
    }

    public ValueTask CommitAsync(StorageBatch batch, TransactionStart start, CancellationToken cancellationToken) =>
        WriteAsync(batch, StorageDurability.Flushed, start, cancellationToken);

    public IStorageIterator Scan(KeyRange range, StorageScanOptions? options = null) => new MemoryIterator(this, StateFor(options?.Snapshot), range);

    public IStorageSnapshot CreateSnapshot() => new MemorySnapshot(this, StateFor(null));

    public async ValueTask<IStorageTransaction> BeginTransactionAsync(CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        cancellationToken.ThrowIfCancellationRequested();
        if (!_hasLog)
        {
            lock (_gate)
                return new StorageTransaction(this, BeginLocked());
        }

        TransactionStart? start = null;
        await _writer.RunAsync(() => start = BeginLocked(), CancellationToken.None).ConfigureAwait(false);
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
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled(cancellationToken);
        return _context.Directory is null ? ValueTask.CompletedTask : _writer.RunAsync(FlushToImage, cancellationToken);
    }

    public ValueTask CompactAsync(KeyRange range = default, CancellationToken cancellationToken = default)
    {
        // Nothing deleted or overwritten is kept once no snapshot needs it: there is nothing to rewrite.
        ThrowIfDisposed();
        StorageArguments.CheckRange(range);
        return cancellationToken.IsCancellationRequested ? ValueTask.FromCanceled(cancellationToken) : ValueTask.CompletedTask;
    }

    public ValueTask CheckpointAsync(string directory, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        ThrowIfDisposed();
        return _writer.RunAsync(() => WriteCheckpoint(directory, cancellationToken), cancellationToken);
    }

    public StorageStatistics GetStatistics()
    {
        MemoryState state = StateFor(null);
        return new StorageStatistics
        {
            Engine = EngineName,
            Reads = Interlocked.Read(ref _reads),
            Writes = Interlocked.Read(ref _writes),
            UserBytesWritten = Interlocked.Read(ref _userBytes),
            DiskBytesWritten = Interlocked.Read(ref _diskBytes),
            DiskBytes = Interlocked.Read(ref _imageBytes) + (Volatile.Read(ref _log)?.Length ?? 0),
            MemtableBytes = state.Map.Bytes,
            KeyCountEstimate = state.Map.Count,
            Flushes = Interlocked.Read(ref _flushes),
        };
    }

    public void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(_disposed, typeof(IStorageEngine));

    public async ValueTask DisposeAsync()
    {
        _disposed = true;
        await _writer.DisposeAsync().ConfigureAwait(false);
        Interlocked.Exchange(ref _log, null)?.Dispose();
        _directoryLock?.Dispose();
    }

    void IStorageCommitter.Commit(IReadOnlyList<StorageWrite> group)
    {
        MemoryRedoLog log = _log!;
        long sequence = _state.Sequence;
        StorageDurability durability = StorageDurability.Buffered;
        foreach (StorageWrite write in group)
        {
            if (write.Start is { } start && _history.TryFindConflict(write.Encoded.Span, start.Sequence, out TransactionConflictException? conflict))
            {
                write.Refusal = conflict;
                continue;
            }

            ApplyNext(write.Encoded.Span, write.OperationCount, ++sequence);
            log.Append(write.Encoded.Span, sequence);
            if (write.Durability == StorageDurability.Flushed)
                durability = StorageDurability.Flushed;
        }

        if (sequence == _state.Sequence)
            return;
        long bytes = log.Write();
        if (durability == StorageDurability.Flushed)
            bytes += log.Flush();
        Interlocked.Add(ref _diskBytes, bytes);
        _state = new MemoryState(_editor.ToMap(), sequence);
        if (!log.IsEmpty && log.Length > Math.Max(_options.RedoLogBytesMax, Interlocked.Read(ref _imageBytes)))
            ReplaceLog();
    }

    /// <summary>An image instead of a long log. The group it follows is written either way, so a failure is for the next one.</summary>
    private void ReplaceLog()
    {
        try
        {
            WriteImage();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            _writer.Fail(error);
        }
    }

    private void FlushToImage()
    {
        try
        {
            WriteImage();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            _writer.Fail(error);
            throw new ShardForgeException(
                $"The image of {_context.Name} could not be written to {_context.Directory}: {error.Message} The one before, and the log, are as they were; no more writes are taken.",
                isTransient: false, error);
        }
    }

    private MemoryState StateFor(IStorageSnapshot? snapshot)
    {
        ThrowIfDisposed();
        return snapshot is null ? _state : MemorySnapshot.StateOf(snapshot, this);
    }

    private ValueTask WriteAsync(StorageBatch batch, StorageDurability durability, TransactionStart? start, CancellationToken cancellationToken)
    {
        ThrowIfDisposed();
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled(cancellationToken);
        if (batch.Count == 0)
            return ValueTask.CompletedTask;
        if (_hasLog)
            return _writer.WriteAsync(batch, durability, start, cancellationToken);
        lock (_gate)
        {
            if (_writer.Failure is { } failure)
                return ValueTask.FromException(_writer.Ended(failure));
            if (start is not null && _history.TryFindConflict(batch.Encoded, start.Sequence, out TransactionConflictException? conflict))
                return ValueTask.FromException(conflict!);
            long sequence = _state.Sequence + 1;
            ApplyNext(batch.Encoded, batch.Count, sequence);
            _state = new MemoryState(_editor.ToMap(), sequence);
        }

        return ValueTask.CompletedTask;
    }

    private void ApplyNext(ReadOnlySpan<byte> encodedBatch, int operationCount, long sequence)
    {
        _history.Record(encodedBatch, sequence);
        MemoryState.Apply(_editor, encodedBatch);
        Interlocked.Add(ref _writes, operationCount);
        Interlocked.Add(ref _userBytes, encodedBatch.Length);
    }

    private TransactionStart BeginLocked()
    {
        MemoryState state = _state;
        _history.Begin(state.Sequence);
        return new TransactionStart(new MemorySnapshot(this, state), state.Sequence);
    }

    private void WriteImage()
    {
        string directory = _context.Directory!;
        MemoryState state = _state;
        long bytes = MemoryImage.Write(Files, directory, state, _hasLog, CancellationToken.None);
        Interlocked.Exchange(ref _imageBytes, bytes);
        Interlocked.Add(ref _diskBytes, bytes);
        Interlocked.Increment(ref _flushes);
        if (!_hasLog)
        {
            Files.Delete(Path.Combine(directory, MemoryRedoLog.FileName));
            return;
        }

        // The power may go here: then the log's records are all in the image already, and the next open skips them.
        // Closed before it is replaced, for platforms that keep the name of an open file.
        Interlocked.Exchange(ref _log, null)?.Dispose();
        Volatile.Write(ref _log, MemoryRedoLog.Create(Files, directory, state.Sequence));
    }

    private void WriteCheckpoint(string directory, CancellationToken cancellationToken)
    {
        MemoryState state = _state;
        StorageFiles.FillCheckpoint(Files, directory, () =>
        {
            MemoryImage.Write(Files, directory, state, hasLog: false, cancellationToken);
            EngineMarker.Write(Files, directory, EngineName, FormatVersion);
        });
    }
}
