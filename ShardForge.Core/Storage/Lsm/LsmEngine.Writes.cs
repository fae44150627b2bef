using System.Diagnostics;
using ShardForge.Common;
using ShardForge.Storage.Lsm.Memtables;
using ShardForge.Storage.Lsm.Reads;

namespace ShardForge.Storage.Lsm;

/// <summary>Writes: one after the other under the write latch, into the log and the memtable; then they are visible; then they wait for their flush.</summary>
/// <remarks>A write that has no room waits outside the latch, for the signal that every flush, compaction and failure gives.</remarks>
internal sealed partial class LsmEngine
{
    /// <summary>Keeps a thread's batch for single writes; one that grew over this is dropped.</summary>
    private const int ReusedBatchBytesMax = 64 * 1024;

    [ThreadStatic]
    private static StorageBatch? s_threadBatch;

    private readonly WritePace _pace;
    private int _levelZeroCount, _immutableCount;
    private Pause? _pause;                               // set under the write latch: what the next writes wait for
    private long _memtableBytesMax;                      // guarded by the write latch
    private TaskCompletionSource _room = NewSignal();    // guarded by the gate: completed and replaced when something changed

    public ValueTask PutAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        StorageBatch batch = TakeBatch();
        batch.Put(key.Span, value.Span);
        return WriteSingle(batch, cancellationToken);
    }

    public ValueTask DeleteAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        StorageBatch batch = TakeBatch();
        batch.Delete(key.Span);
        return WriteSingle(batch, cancellationToken);
    }

    public ValueTask WriteAsync(StorageBatch batch, StorageDurability durability = StorageDurability.Flushed, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        ArgumentNullException.ThrowIfNull(batch);
        return Write(batch, durability, start: null, cancellationToken);
    }

    public ValueTask<IStorageTransaction> BeginTransactionAsync(CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled<IStorageTransaction>(cancellationToken);
        return new(new StorageTransaction(this, BeginTransaction()));
    }

    /// <summary>The place of a new transaction; ended with <see cref="ITransactionalEngine.EndTransaction"/>.</summary>
    public TransactionStart BeginTransaction()
    {
        lock (_writeLatch)
        {
            ThrowIfDisposed();
            LsmSnapshot snapshot = _snapshots.Add(() => VisibleSequence);
            _history.Begin((long)snapshot.Sequence);
            return new TransactionStart(snapshot, (long)snapshot.Sequence);
        }
    }

    ValueTask ITransactionalEngine.CommitAsync(StorageBatch batch, TransactionStart start, CancellationToken cancellationToken) =>
        Write(batch, StorageDurability.Flushed, start, cancellationToken);

    void ITransactionalEngine.EndTransaction(TransactionStart start)
    {
        _history.End(start.Sequence);
        start.Snapshot.Dispose();
    }

    public ValueTask FlushAsync(CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled(cancellationToken);
        if (_log is null)
            return new(FlushMemtableAsync(cancellationToken));
        ThrowIfFailed();
        return WaitFor(_log.FlushedAsync(), cancellationToken);
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private static ValueTask WaitFor(Task task, CancellationToken cancellationToken) =>
        task.IsCompletedSuccessfully ? ValueTask.CompletedTask : new(task.WaitAsync(cancellationToken));

    /// <summary>The thread's batch, taken out so that a caller's code that runs in between cannot take it too.</summary>
    private static StorageBatch TakeBatch()
    {
        StorageBatch batch = s_threadBatch ?? new StorageBatch();
        s_threadBatch = null;
        batch.Clear();
        return batch;
    }

    private ValueTask WriteSingle(StorageBatch batch, CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled(cancellationToken);
        if (Volatile.Read(ref _pause) is not null || !TryWrite(batch, StorageDurability.Flushed, start: null, out long place))
            return WriteAfterWaitAsync(batch, StorageDurability.Flushed, start: null, cancellationToken);

        // Written: nothing needs the batch any more.
        if (batch.Encoded.Length <= ReusedBatchBytesMax)
            s_threadBatch = batch;
        return _log is null ? ValueTask.CompletedTask : WaitFor(_log.FlushedAsync(place), cancellationToken);
    }

    private ValueTask Write(StorageBatch batch, StorageDurability durability, TransactionStart? start, CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled(cancellationToken);
        if (batch.Count == 0)
            return ValueTask.CompletedTask;
        if (Volatile.Read(ref _pause) is not null || !TryWrite(batch, durability, start, out long place))
            return WriteAfterWaitAsync(batch, durability, start, cancellationToken);
        return _log is null || durability == StorageDurability.Buffered ? ValueTask.CompletedTask : WaitFor(_log.FlushedAsync(place), cancellationToken);
    }

    private async ValueTask WriteAfterWaitAsync(StorageBatch batch, StorageDurability durability, TransactionStart? start, CancellationToken cancellationToken)
    {
        long from = Stopwatch.GetTimestamp();
        long place;
        try
        {
            if (Volatile.Read(ref _pause) is { } pause)
            {
                // Ended early by any change, so a clock that stands still does not hold writers for ever. With a full disk nothing may be on its way to make one.
                if (HasJobs())
                    await pause.Signal.WaitAsync(pause.Time, _context.TimeProvider, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                cancellationToken.ThrowIfCancellationRequested();
                Interlocked.CompareExchange(ref _pause, null, pause);
            }

            while (true)
            {
                // Taken before the try: a change after it completes this very signal.
                Task signal = RoomSignal();
                if (TryWrite(batch, durability, start, out place))
                    break;
                EnsureProgress();
                await signal.WaitAsync(cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            _counters.AddStall(Stopwatch.GetElapsedTime(from));
        }

        if (_log is not null && durability == StorageDurability.Flushed)
            await WaitFor(_log.FlushedAsync(place), cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Writes a batch, if there is room.</summary>
    /// <param name="batch">Not empty.</param>
    /// <param name="durability">What its caller waits for; the log goes by it.</param>
    /// <param name="start">Of the transaction that it belongs to; null: none.</param>
    /// <param name="place">In the log, behind it.</param>
    private bool TryWrite(StorageBatch batch, StorageDurability durability, TransactionStart? start, out long place)
    {
        place = 0;
        lock (_writeLatch)
        {
            ThrowIfDisposed();
            ThrowIfFailed();
            if (!TryMakeRoomLocked())
                return false;
            ReadOnlySpan<byte> encoded = batch.Encoded;
            if (start is not null && _history.TryFindConflict(encoded, start.Sequence, out TransactionConflictException? conflict))
                throw conflict!;
            ulong sequence = VisibleSequence + 1;
            if (_log is not null)
                place = AppendToLogLocked(sequence, batch.Count, encoded, durability);
            int count = _active.Apply(encoded, sequence);
            Invariant.Check(count == batch.Count);
            ulong last = sequence + (ulong)count - 1;
            _history.Record(encoded, (long)last);
            _counters.AddWrite(count, encoded.Length);

            // Last: from here on readers see all of it.
            Volatile.Write(ref VisibleSequence, last);
            TimeSpan wait = _pace.After(encoded.Length, Volatile.Read(ref _levelZeroCount), Volatile.Read(ref _immutableCount) < _options.ImmutableMemtablesMax, _active.UsedBytes, _memtableBytesMax);
            if (wait > TimeSpan.Zero)
                Volatile.Write(ref _pause, new Pause(RoomSignal(), wait));
            return true;
        }
    }

    private long AppendToLogLocked(ulong sequence, int operationCount, ReadOnlySpan<byte> encoded, StorageDurability durability)
    {
        try
        {
            return _log!.Append(sequence, operationCount, encoded, durability);
        }
        catch (IOException error) when (DiskErrors.IsDiskFull(error))
        {
            throw Refused(error);
        }
        catch (Exception error)
        {
            // How much of the record is there is not known: neither "written" nor "not written" would be true.
            Fail(error);
            throw new OutcomeUnknownException($"Writing the log of {_context.Name} failed: whether the write survives is not known. The engine takes no more writes.", error);
        }
    }

    /// <summary>Starts a new memtable if this one is full. False: too many wait for their flush, or level 0 is too long.</summary>
    private bool TryMakeRoomLocked()
    {
        if (_writersHeld || Volatile.Read(ref _levelZeroCount) >= _options.LevelZeroStopTables)
            return false;
        _memtableBytesMax = _shared.MemtableBytes(_options);
        return _active.UsedBytes < _memtableBytesMax || _active.IsEmpty || TryRotateLocked(isFull: true);
    }

    private bool TryRotateLocked(bool isFull)
    {
        lock (_gate)
        {
            if (_immutables.Count >= _options.ImmutableMemtablesMax)
                return false;
        }

        ulong logNumber = 0;
        if (_log is not null)
        {
            logNumber = _versions.NewFileNumber();
            try
            {
                _log.Roll(logNumber, isFull);
            }
            catch (IOException error) when (DiskErrors.IsDiskFull(error))
            {
                throw Refused(error);
            }
        }

        Memtable next = NewMemtable(logNumber);
        _pace.StartMemtable();
        ReadState? old;
        lock (_gate)
        {
            _immutables.Insert(0, _active);
            _active = next;
            old = InstallStateLocked();
            ScheduleFlushLocked();
        }

        old?.Release();
        return true;
    }

    /// <summary>Writes the memtable to a table, and waits until all that was written so far is in tables that an edit names.</summary>
    private async Task FlushMemtableAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            Task signal = RoomSignal();
            if (TryStartFlush(out Task flushed))
            {
                await flushed.WaitAsync(cancellationToken).ConfigureAwait(false);
                return;
            }

            EnsureProgress();
            await signal.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>False: too many memtables wait.</summary>
    private bool TryStartFlush(out Task flushed)
    {
        flushed = Task.CompletedTask;
        lock (_writeLatch)
        {
            ThrowIfDisposed();
            ThrowIfFailed();
            if (!_active.IsEmpty && !TryRotateLocked(isFull: false))
                return false;
            lock (_gate)
            {
                if (_flushedSequence >= VisibleSequence)
                    return true;

                // Again, now inside the gate: whoever fails or stops takes the waiters there, and nobody would take a later one.
                ThrowIfDisposed();
                ThrowIfFailed();
                ThrowIfDiskIsFullLocked();
                TaskCompletionSource waiter = NewSignal();
                _flushWaiters.Add((VisibleSequence, waiter));
                ScheduleFlushLocked();
                flushed = waiter.Task;
                return true;
            }
        }
    }

    private bool HasJobs()
    {
        lock (_gate)
            return _jobCount > 0;
    }

    private Task RoomSignal()
    {
        lock (_gate)
            return _room.Task;
    }

    private OverloadedException Refused(Exception error) => new($"The disk of {_files.Directory} is full: {error.Message} Nothing was written; try again when there is room.", error);

    /// <summary>What writes wait for before they go on: a time, or a change that makes room.</summary>
    private sealed record Pause(Task Signal, TimeSpan Time);
}
