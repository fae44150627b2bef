namespace ShardForge.Storage;

/// <summary>What a <see cref="StorageWriter"/> writes to.</summary>
internal interface IStorageCommitter
{
    /// <summary>Writes a group in its order, durable if one of it must be, and makes it visible.</summary>
    /// <param name="group">Those that cannot be written get a <see cref="StorageWrite.Refusal"/>; the others are written.</param>
    /// <exception cref="ShardForgeException">Transient: nothing of the group was written, later ones may be.</exception>
    /// <exception cref="Exception">Any other: nobody knows what was written, and nothing more is.</exception>
    void Commit(IReadOnlyList<StorageWrite> group);
}

/// <summary>One entry in the queue of a <see cref="StorageWriter"/>: a batch, or work to do between batches.</summary>
internal sealed class StorageWrite
{
    /// <summary>The operations; unchanged until the entry is done.</summary>
    public ReadOnlyMemory<byte> Encoded { get; init; }

    public int OperationCount { get; init; }

    public StorageDurability Durability { get; init; }

    /// <summary>Of a transaction's batch: what it must not conflict with since.</summary>
    public TransactionStart? Start { get; init; }

    /// <summary>What to do instead of writing a batch.</summary>
    public Action? Work { get; init; }

    /// <summary>Why this one was not written, though its group was.</summary>
    public Exception? Refusal { get; set; }

    public TaskCompletionSource Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
}

/// <summary>The one writer of an engine: a named thread behind a bounded queue, which writes all that waits as one group (group commit).</summary>
/// <remarks>
/// Invariants: entries are done in the order in which they were queued; a batch is visible before its waiter goes on; after a failed
/// write nothing is written any more, and every caller is told why.
/// The queue is bounded in entries and bytes; what does not fit is refused with <see cref="OverloadedException"/>, not awaited, so that the
/// memory of waiting writes has a bound too. Lock order: <c>_gate</c> is a leaf; no work and no waiter runs under it.
/// The thread is started by the first entry.
/// </remarks>
internal sealed class StorageWriter(string name, IStorageCommitter committer) : IAsyncDisposable
{
    internal const int EntriesMax = 65_536;
    internal const long QueueBytesMax = 256L * 1024 * 1024;
    private const long GroupBytesMax = 16L * 1024 * 1024;       // a group's waiters wait for the whole group

    private readonly object _gate = new();
    private readonly Queue<StorageWrite> _queue = new();
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _queueBytes;
    private Thread? _thread;
    private bool _closed;
    private Exception? _failure;

    /// <summary>What ended the writing; null: nothing did.</summary>
    public Exception? Failure => Volatile.Read(ref _failure);

    /// <summary>Writes a batch. Cancelling stops the wait, not the write.</summary>
    public ValueTask WriteAsync(StorageBatch batch, StorageDurability durability, TransactionStart? start, CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled(cancellationToken);
        return QueueAsync(new StorageWrite
        {
            // A caller that stops waiting gets its batch back while the write is still queued: then the queue needs its own copy.
            Encoded = cancellationToken.CanBeCanceled ? batch.Encoded.ToArray() : batch.EncodedMemory,
            OperationCount = batch.Count,
            Durability = durability,
            Start = start,
        }, cancellationToken);
    }

    /// <summary>Does work on the writer's thread, behind all that is queued; also after a failed write.</summary>
    public ValueTask RunAsync(Action work, CancellationToken cancellationToken) =>
        cancellationToken.IsCancellationRequested ? ValueTask.FromCanceled(cancellationToken) : QueueAsync(new StorageWrite { Work = work }, cancellationToken);

    /// <summary>No batch is written from now on. Called on the writer's thread.</summary>
    public void Fail(Exception cause) => Interlocked.CompareExchange(ref _failure, cause, null);

    /// <summary>Finishes what is queued, then ends the thread. What is queued later throws <see cref="ObjectDisposedException"/>.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (_gate)
        {
            _closed = true;
            if (_thread is null)
                _ended.TrySetResult();
            Monitor.PulseAll(_gate);
        }

        await _ended.Task.ConfigureAwait(false);
    }

    private ValueTask QueueAsync(StorageWrite write, CancellationToken cancellationToken)
    {
        if (write.Work is null && Failure is { } failure)
            return ValueTask.FromException(Ended(failure));
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_closed, typeof(IStorageEngine));
            if (_queue.Count >= EntriesMax || (_queue.Count > 0 && _queueBytes + write.Encoded.Length > QueueBytesMax))
            {
                return ValueTask.FromException(new OverloadedException(
                    $"The write queue of {name} is full: {_queue.Count:N0} of {EntriesMax:N0} entries, {_queueBytes:N0} of {QueueBytesMax:N0} bytes. Nothing was written."));
            }

            _queue.Enqueue(write);
            _queueBytes += write.Encoded.Length;
            if (_thread is null)
            {
                _thread = new Thread(Run) { Name = $"shardforge-storage {name}", IsBackground = true };
                _thread.Start();
            }

            Monitor.Pulse(_gate);
        }

        return new(write.Done.Task.WaitAsync(cancellationToken));
    }

    private void Run()
    {
        List<StorageWrite> group = [];
        while (TryTake(group))
        {
            if (group[0].Work is { } work)
                RunWork(group[0], work);
            else
                Commit(group);
            group.Clear();
        }

        _ended.SetResult();
    }

    /// <returns>False: closed, and nothing is left.</returns>
    private bool TryTake(List<StorageWrite> group)
    {
        lock (_gate)
        {
            while (_queue.Count == 0)
            {
                if (_closed)
                    return false;
                Monitor.Wait(_gate);
            }

            long bytes = 0;
            while (_queue.TryPeek(out StorageWrite? next) && (group.Count == 0 || (next.Work is null && group[0].Work is null && bytes + next.Encoded.Length <= GroupBytesMax)))
            {
                group.Add(_queue.Dequeue());
                bytes += next.Encoded.Length;
            }

            _queueBytes -= bytes;
            return true;
        }
    }

    private static void RunWork(StorageWrite entry, Action work)
    {
        try
        {
            work();
        }
        catch (Exception error)
        {
            entry.Done.SetException(error);
            return;
        }

        entry.Done.SetResult();
    }

    private void Commit(List<StorageWrite> group)
    {
        Exception? failure = Failure is { } earlier ? Ended(earlier) : TryCommit(group);
        foreach (StorageWrite write in group)
        {
            if ((failure ?? write.Refusal) is { } error)
                write.Done.SetException(error);
            else
                write.Done.SetResult();
        }
    }

    private Exception? TryCommit(List<StorageWrite> group)
    {
        try
        {
            committer.Commit(group);
            return null;
        }
        catch (ShardForgeException error) when (error.IsTransient)
        {
            return error;
        }
        catch (Exception error)
        {
            Fail(error);
            return new OutcomeUnknownException($"A write of {name} failed: {error.Message} It may or may not be there after the next open; {name} takes no more writes.", error);
        }
    }

    /// <summary>What callers get after a failed write.</summary>
    public ShardForgeException Ended(Exception failure) =>
        new($"{name} takes no more writes since one failed: {failure.Message} Nothing was written; what was written before can still be read.", isTransient: false, failure);
}
