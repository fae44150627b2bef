using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Wal;

/// <summary>The write-ahead log of an engine that is opened on its own: one file per memtable, one flush for all that waits (group commit).</summary>
/// <remarks>
/// Parts: <see cref="LogFormat"/>, <see cref="LogFile"/> → (disk) → <see cref="LogRecovery"/>. A place in the log is a count of bytes over all its files. Files
/// are flushed in their order, so what is durable is a prefix.
/// <para>Threads: <see cref="Append"/>, <see cref="Roll"/> under the engine's write latch; the flushes on a thread of its own, which takes the write latch only to append a
/// promise; latch order: write latch, then this one. Whoever waits gets the task of the flush that will cover it; it continues on the pool.</para>
/// </remarks>
internal sealed class WriteAheadLog : IDisposable
{
    private readonly IFileSystem _files;
    private readonly string _directory, _name;
    private readonly object _writeLatch;
    private readonly LsmCounters _counters;
    private readonly Action<Exception> _failed;
    private readonly object _gate = new();
    private readonly List<LogFile> _unsynced = [];
    private LogFile _current;
    private long _appended, _durable;
    private ulong _nextSequence;    // guarded by the write latch
    private TaskCompletionSource? _nextFlush;
    private Thread? _thread;
    private Exception? _failure;
    private bool _closing, _closed;

    /// <param name="files">Where the log is.</param>
    /// <param name="directory">The engine's.</param>
    /// <param name="number">Of the first file.</param>
    /// <param name="nextSequence">Of the first batch.</param>
    /// <param name="name">Of the thread.</param>
    /// <param name="writeLatch">The engine's.</param>
    /// <param name="counters">The engine's.</param>
    /// <param name="failed">Told when a flush failed; the engine then takes no more writes.</param>
    public WriteAheadLog(IFileSystem files, string directory, ulong number, ulong nextSequence, string name, object writeLatch, LsmCounters counters, Action<Exception> failed)
    {
        _files = files;
        _directory = directory;
        _nextSequence = nextSequence;
        _name = name;
        _writeLatch = writeLatch;
        _counters = counters;
        _failed = failed;
        _current = new LogFile(files, directory, number);
        _unsynced.Add(_current);
    }

    public LogFile Current => _current;

    /// <summary>Writes a batch to the operating system.</summary>
    /// <returns>The place behind it.</returns>
    public long Append(ulong sequence, int operationCount, ReadOnlySpan<byte> batch)
    {
        Invariant.Check(sequence == _nextSequence);
        int bytes = _current.Append(LogRecordKind.Batch, sequence, batch);
        _nextSequence = sequence + (ulong)operationCount;
        _counters.AddDiskBytes(bytes);
        long appended = _appended + bytes;
        Volatile.Write(ref _appended, appended);
        return appended;
    }

    /// <summary>Sequence numbers up to this one are in tables and in no log. Under the engine's write latch, with nothing in the present file yet.</summary>
    public void SkipSequence(ulong sequence) => _nextSequence = sequence + 1;

    /// <summary>Goes on in a new file.</summary>
    public void Roll(ulong number)
    {
        LogFile next = new(_files, _directory, number);
        lock (_gate)
        {
            _current = next;
            _unsynced.Add(next);
        }
    }

    /// <summary>Completes when all up to a place (by default: all that was appended) survives a power cut.</summary>
    /// <exception cref="OutcomeUnknownException">The flush failed.</exception>
    public Task FlushedAsync(long? place = null)
    {
        lock (_gate)
        {
            if (_failure is not null)
                return Task.FromException(FlushFailed(_failure));
            if ((place ?? Volatile.Read(ref _appended)) <= _durable)
                return Task.CompletedTask;
            Invariant.Require(!_closed);
            if (_nextFlush is null)
            {
                _nextFlush = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

                // While it is closed the flush that comes last serves them all.
                if (_closing)
                    return _nextFlush.Task;
                if (_thread is null)
                {
                    _thread = new Thread(Run) { IsBackground = true, Name = $"shardforge-wal {_name}" };
                    _thread.Start();
                }
                else
                {
                    Monitor.Pulse(_gate);
                }
            }

            return _nextFlush.Task;
        }
    }

    /// <summary>Flushes what is left, unless a flush failed before, and closes the files. The engine writes no more.</summary>
    public void Dispose()
    {
        Thread? thread;
        lock (_gate)
        {
            _closing = true;
            Monitor.PulseAll(_gate);
            thread = _thread;
        }

        thread?.Join();
        try
        {
            if (_failure is null && Volatile.Read(ref _appended) > _durable)
                SyncAll();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // The next open sees a torn tail; who still waits learns that it is not known.
            _failure = error;
        }

        TaskCompletionSource? last;
        lock (_gate)
        {
            _closed = true;
            last = _nextFlush;
            _nextFlush = null;
        }

        if (_failure is null)
            last?.SetResult();
        else
            last?.SetException(FlushFailed(_failure));
        foreach (LogFile file in _unsynced)
            file.Dispose();
    }

    /// <summary>Whether all that was appended is durable.</summary>
    public bool IsDurable => _failure is null && _durable == Volatile.Read(ref _appended);

    private static OutcomeUnknownException FlushFailed(Exception cause) =>
        new("The flush of the write-ahead log failed: what was written since the flush before may or may not survive. The engine takes no more writes.", cause);

    private void Run()
    {
        while (true)
        {
            TaskCompletionSource flush;
            lock (_gate)
            {
                while (_nextFlush is null)
                {
                    if (_closing)
                        return;
                    Monitor.Wait(_gate);
                }

                // From here on a new waiter needs the next flush: its write may come after this one's look at the end.
                flush = _nextFlush;
                _nextFlush = null;
            }

            try
            {
                SyncAll();
                flush.SetResult();
                PromiseIfIdle();
            }
            catch (Exception error)
            {
                Fail(error, flush);
                return;
            }
        }
    }

    private void SyncAll()
    {
        LogFile[] files;
        long appended;
        lock (_gate)
        {
            // In this order: what is counted was appended to a file of the list.
            appended = Volatile.Read(ref _appended);
            files = _unsynced.ToArray();
        }

        foreach (LogFile file in files)
            file.Sync();
        lock (_gate)
        {
            _durable = Math.Max(_durable, appended);
            foreach (LogFile file in files)
            {
                // A file may have been left while it was flushed: what came in between needs another one.
                if (file == _current || file.DurableOffset != file.EndOffset)
                    continue;
                _unsynced.Remove(file);
                file.Dispose();
            }
        }
    }

    /// <summary>With nobody waiting for the next flush, the last one's records get a witness.</summary>
    private void PromiseIfIdle()
    {
        lock (_writeLatch)
        {
            lock (_gate)
            {
                if (_nextFlush is not null || _current.EndOffset != _current.DurableOffset)
                    return;
            }

            try
            {
                _counters.AddDiskBytes(_current.Append(LogRecordKind.Promise, _nextSequence, []));
            }
            catch (IOException) when (_failure is null)
            {
                // Only the witness is missing; the next record overwrites what is there and promises the same.
            }
        }
    }

    private void Fail(Exception error, TaskCompletionSource flush)
    {
        TaskCompletionSource? next;
        lock (_gate)
        {
            _failure = error;
            next = _nextFlush;
            _nextFlush = null;
        }

        _failed(error);
        flush.TrySetException(FlushFailed(error));
        next?.SetException(FlushFailed(error));
    }
}
