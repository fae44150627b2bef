using System.Diagnostics;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Wal;

/// <summary>The write-ahead log of an engine that is opened on its own: files that are appended to through maps, one flush for all that waits (group commit).</summary>
/// <remarks>
/// Parts: <see cref="LogFormat"/>, <see cref="LogFile"/>, <see cref="LogFilePool"/> → (disk) → <see cref="LogRecovery"/>. A memtable begins with a file of its own and goes on in further ones; files
/// become longer while the engine writes much. A place in the log is a count of bytes over all its files. Files are flushed in their order, so what is durable is a prefix.
/// <para><b>Threads.</b> <see cref="Append"/>, <see cref="Roll"/> under the engine's write latch; an append is a copy and makes no system call, but where a file ends. Flushes, one at a time, on the log
/// thread, which takes the write latch only to append a promise; or on the thread that asks, if it is not the pool's and nobody else waits: it has nothing better to do, and two changes of thread cost
/// a third of a flush. Files are prepared and let go by the pool's thread. Latch order: write latch, then this one, then the pool's. Whoever waits gets the task of the flush that will cover it.</para>
/// </remarks>
internal sealed class WriteAheadLog : IDisposable
{
    /// <summary>A flush waits at most this share of the last one's time for those that the last one served: one flush for all is cheaper than two.</summary>
    private const int GatherShare = 3;

    private static readonly long s_gatherTicksMax = Stopwatch.Frequency / 5000, s_awakeTicks = Stopwatch.Frequency / 20_000;    // 200 µs, 50 µs

    private readonly string _name;
    private readonly object _writeLatch;
    private readonly LsmCounters _counters;
    private readonly Action<Exception> _failed;
    private readonly Func<ulong> _newNumber;
    private readonly LogFilePool _pool;
    private readonly object _gate = new();

    // Guarded by the latch.
    private readonly List<LogFile> _live = [];        // in their order; the last one is appended to
    private readonly List<LogFile> _unsynced = [];    // of those
    private readonly List<LogFile> _obsolete = [];    // their writes are in tables, but a flush may still have them in its hands
    private TaskCompletionSource? _nextFlush;
    private int _waiting;                             // for the next flush
    private int _served;                              // by the last one
    private Thread? _thread;
    private bool _flushing, _closing, _closed;

    // Guarded by the write latch.
    private LogFile _current;
    private ulong _nextSequence;
    private long _wantsFileAt;

    private long _appended, _durable;
    private Exception? _failure;

    /// <param name="pool">Where its files come from. Taken over: disposed with the log.</param>
    /// <param name="number">Of the first file.</param>
    /// <param name="newNumber">Gives numbers for further ones.</param>
    /// <param name="nextSequence">Of the first batch.</param>
    /// <param name="name">Of the thread.</param>
    /// <param name="writeLatch">The engine's.</param>
    /// <param name="counters">The engine's.</param>
    /// <param name="failed">Told when a flush failed; the engine then takes no more writes.</param>
    public WriteAheadLog(LogFilePool pool, ulong number, Func<ulong> newNumber, ulong nextSequence, string name, object writeLatch, LsmCounters counters, Action<Exception> failed)
    {
        _pool = pool;
        _newNumber = newNumber;
        _nextSequence = nextSequence;
        _name = name;
        _writeLatch = writeLatch;
        _counters = counters;
        _failed = failed;
        _current = null!;
        Begin(number, payloadBytes: 0);
    }

    public LogFile Current => _current;

    /// <summary>Length of all its files.</summary>
    public long DiskBytes
    {
        get
        {
            long bytes = _pool.DiskBytes;
            lock (_gate)
            {
                foreach (LogFile file in _live)
                    bytes += file.Capacity;
            }

            return bytes;
        }
    }

    /// <summary>Whether all that was appended is durable.</summary>
    public bool IsDurable => _failure is null && _durable == Volatile.Read(ref _appended);

    /// <summary>Copies a batch into the operating system's memory: from then on it survives the end of the process.</summary>
    /// <returns>The place behind it.</returns>
    public long Append(ulong sequence, int operationCount, ReadOnlySpan<byte> batch, StorageDurability durability)
    {
        Invariant.Check(sequence == _nextSequence);
        if (!_current.HasRoomFor(batch.Length))
            Begin(_newNumber(), batch.Length);

        // A page that is stored into through the map costs its flush a change of the page tables on all processors; a write does not. With several writers there is one flush for many.
        bool byWrite = durability == StorageDurability.Flushed && Volatile.Read(ref _served) <= 1;
        int bytes = _current.Append(LogRecordKind.Batch, sequence, batch, byWrite);
        _nextSequence = sequence + (ulong)operationCount;
        _counters.AddLogBytes(bytes);
        long appended = _appended + bytes;
        Volatile.Write(ref _appended, appended);
        if (_current.EndOffset >= _wantsFileAt)
        {
            // The next file shall be there when it is needed.
            _wantsFileAt = long.MaxValue;
            _pool.WantFile();
        }

        return appended;
    }

    /// <summary>Sequence numbers up to this one are in tables and in no log. Under the engine's write latch, with nothing in the present file yet.</summary>
    public void SkipSequence(ulong sequence) => _nextSequence = sequence + 1;

    /// <summary>Goes on in a new file, the first of a memtable.</summary>
    /// <param name="number">The file's.</param>
    /// <param name="isBusy">False: the memtable before was not full, so files need not be long, and none be kept.</param>
    public void Roll(ulong number, bool isBusy)
    {
        if (isBusy)
            _pool.SetBusy();
        else
            _pool.Shrink();
        Begin(number, payloadBytes: 0);
    }

    /// <summary>What files below a number hold is durable elsewhere: they are used again.</summary>
    public void Release(ulong belowNumber)
    {
        lock (_gate)
        {
            while (_live.Count > 1 && _live[0].Number < belowNumber)
            {
                _obsolete.Add(_live[0]);
                _unsynced.Remove(_live[0]);
                _live.RemoveAt(0);
            }

            ReturnObsoleteLocked();
        }
    }

    /// <summary>Completes when all up to a place (by default: all that was appended) survives a power cut. May block for a flush on a thread that is not the pool's.</summary>
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
            if (_nextFlush is not null || _flushing || _closing || Thread.CurrentThread.IsThreadPoolThread || SynchronizationContext.Current is not null)
                return WaitForNextLocked();
            _flushing = true;
            _served = 1;
        }

        return FlushHere();
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
        lock (_gate)
        {
            // The log thread has ended; what still runs is a caller's.
            while (_flushing)
                Monitor.Wait(_gate);
        }

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
        _pool.StopThread();
        TrimLast();
        foreach (LogFile file in _live)
            file.Dispose();
        _pool.Return(_obsolete);
        _pool.Dispose();
    }

    private void TrimLast()
    {
        if (_failure is not null)
            return;
        try
        {
            _current.Trim();
        }
        catch (IOException)
        {
            // It only stays longer than it need be.
            return;
        }
    }

    private static OutcomeUnknownException FlushFailed(Exception cause) =>
        new("The flush of the write-ahead log failed: what was written since the flush before may or may not survive. The engine takes no more writes.", cause);

    private void Begin(ulong number, int payloadBytes)
    {
        LogFile next = _pool.Take(number, LogFile.CapacityFor(payloadBytes));
        LogFile? full = _current;
        _wantsFileAt = next.Capacity / 4;
        lock (_gate)
        {
            _current = next;
            _live.Add(next);
            _unsynced.Add(next);
        }

        if (full is not null)
            _pool.Unmap(full);
    }

    private Task WaitForNextLocked()
    {
        _waiting++;
        if (_nextFlush is not null)
            return _nextFlush.Task;
        _nextFlush = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task task = _nextFlush.Task;

        // What comes while it is closed is served by the dispose.
        if (_closing)
            return task;
        if (_thread is null)
        {
            _thread = new Thread(Run) { IsBackground = true, Name = $"shardforge-wal {_name}" };
            _thread.Start();
        }
        else
        {
            Monitor.PulseAll(_gate);
        }

        return task;
    }

    private Task FlushHere()
    {
        try
        {
            SyncAll();
            PromiseIfIdle();
            return Task.CompletedTask;
        }
        catch (Exception error)
        {
            Fail(error);
            return Task.FromException(FlushFailed(error));
        }
        finally
        {
            EndFlush();
        }
    }

    private void EndFlush()
    {
        lock (_gate)
        {
            _flushing = false;
            ReturnObsoleteLocked();
            Monitor.PulseAll(_gate);
        }
    }

    private void ReturnObsoleteLocked()
    {
        if (_flushing || _closed || _obsolete.Count == 0)
            return;
        _pool.Take(_obsolete);
        _obsolete.Clear();
    }

    private void Run()
    {
        long flushTicks = 0;
        while (true)
        {
            int expected;
            lock (_gate)
            {
                while (_nextFlush is null || _flushing)
                {
                    if (_closing)
                        return;
                    Monitor.Wait(_gate);
                }

                expected = _served;
            }

            Gather(expected, Math.Min(flushTicks / GatherShare, s_gatherTicksMax));
            TaskCompletionSource flush;
            lock (_gate)
            {
                // From here on a new waiter needs the next flush: its write may come after this one's look at the end.
                flush = _nextFlush!;
                _nextFlush = null;
                _served = _waiting;
                _waiting = 0;
                _flushing = true;
            }

            long from = Stopwatch.GetTimestamp();
            try
            {
                SyncAll();
                flush.SetResult();
                flushTicks = Stopwatch.GetTimestamp() - from;
                PromiseIfIdle();
            }
            catch (Exception error)
            {
                Fail(error);
                flush.TrySetException(FlushFailed(error));
                return;
            }
            finally
            {
                EndFlush();
            }

            if (Volatile.Read(ref _served) <= 1)
                AwaitNext();
        }
    }

    /// <summary>Lets those that the last flush served come back for this one.</summary>
    private void Gather(int expected, long ticksMax)
    {
        if (expected <= 1)
            return;
        long from = Stopwatch.GetTimestamp();
        while (Volatile.Read(ref _waiting) < expected && Stopwatch.GetTimestamp() - from < ticksMax && !Volatile.Read(ref _closing))
            Thread.Yield();
    }

    /// <summary>Stays awake for a moment: a writer that was just served is mostly back before this thread is asleep.</summary>
    private void AwaitNext()
    {
        long from = Stopwatch.GetTimestamp();
        while (Volatile.Read(ref _nextFlush) is null && Stopwatch.GetTimestamp() - from < s_awakeTicks && !Volatile.Read(ref _closing))
            Thread.Yield();
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
        _pool.SetFlushed();
        lock (_gate)
        {
            _durable = Math.Max(_durable, appended);
            foreach (LogFile file in files)
            {
                // A file may have been left while it was flushed: what came in between needs another one.
                if (file != _current && file.DurableOffset == file.EndOffset)
                    _unsynced.Remove(file);
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
                if (_nextFlush is not null || _current.EndOffset != _current.DurableOffset || _closed)
                    return;
            }

            if (_current.HasRoomForPromise)
                _counters.AddLogBytes(_current.Append(LogRecordKind.Promise, _nextSequence, [], byWrite: false));
        }
    }

    private void Fail(Exception error)
    {
        TaskCompletionSource? next;
        lock (_gate)
        {
            _failure = error;
            next = _nextFlush;
            _nextFlush = null;
        }

        _failed(error);
        next?.TrySetException(FlushFailed(error));
    }
}
