using ShardForge.Common;

namespace ShardForge.Consensus.NodeLog;

/// <summary>Has the next segment ready before it is needed, and takes old ones out of the log: the slow file work, off the log thread.</summary>
/// <remarks>
/// At most one segment is wanted at a time. A full disk is no failure: it is tried again after a while and whenever a segment was freed. Any other
/// error is kept and thrown at the log thread, which stops the log.
/// <para>Threads: the log thread calls; the work is done by one thread of its own, or inside the calls where that is switched off.</para>
/// </remarks>
internal sealed class LogSegmentSupply : IDisposable
{
    private readonly object _gate = new();                                  // a monitor: the thread waits on it
    private readonly LogSegmentStore _store;
    private readonly NodeLogOptions _options;
    private readonly Action _changed;
    private readonly Queue<LogSegment> _freed = [];
    private readonly Thread? _thread;
    private LogSegmentHeader? _wanted;
    private LogSegment? _ready;
    private Exception? _error;
    private volatile bool _isDiskFull;                                      // written under the lock, looked at by every append
    private bool _isStopped;

    /// <param name="store">Used by nobody else from now on.</param>
    /// <param name="options">Delays, thread name, whether there is a thread.</param>
    /// <param name="ready">A segment that is ready already; taken over.</param>
    /// <param name="changed">Called, outside the lock, when a segment became ready or could not.</param>
    public LogSegmentSupply(LogSegmentStore store, NodeLogOptions options, LogSegment? ready, Action changed)
    {
        _store = store;
        _options = options;
        _ready = ready;
        _changed = changed;
        if (!options.PreparesInBackground)
            return;
        _thread = new Thread(Run) { Name = $"shardforge-log-segments {options.NodeName}", IsBackground = true };
        _thread.Start();
    }

    public bool IsDiskFull => _isDiskFull;

    /// <summary>Bytes of the segment that is ready; 0: none is.</summary>
    public long ReadyBytes
    {
        get
        {
            lock (_gate)
                return _ready?.Bytes ?? 0;
        }
    }

    public bool IsWanted
    {
        get
        {
            lock (_gate)
                return _wanted is not null || _ready is not null;
        }
    }

    public void Want(in LogSegmentHeader header)
    {
        lock (_gate)
        {
            Invariant.Require(_wanted is null && _ready is null);
            _wanted = header;
            Monitor.PulseAll(_gate);
        }

        if (_thread is null)
            TryPrepare();
    }

    /// <summary>The segment that is ready; null: none is yet.</summary>
    /// <exception cref="IOException">It could not be made, and not because the disk is full.</exception>
    public LogSegment? TryTake()
    {
        if (_thread is null)
            TryPrepare();
        lock (_gate)
        {
            if (_error is not null)
                throw new IOException($"No further segment in {_store.Directory}: {_error.Message}", _error);
            LogSegment? ready = _ready;
            _ready = null;
            return ready;
        }
    }

    /// <summary>Takes a segment that nobody needs out of the log; oldest first. Taken over.</summary>
    public void Free(LogSegment segment)
    {
        lock (_gate)
        {
            _freed.Enqueue(segment);
            Monitor.PulseAll(_gate);
        }

        if (_thread is not null)
            return;
        FreeAll();
        TryPrepare();
    }

    /// <summary>Ends the thread after what it does at the moment, and closes what is left.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _isStopped = true;
            Monitor.PulseAll(_gate);
        }

        _thread?.Join();
        _ready?.Dispose();
        _ready = null;
        while (_freed.TryDequeue(out LogSegment? segment))
            segment.Dispose();
    }

    private void Run()
    {
        while (true)
        {
            lock (_gate)
            {
                while (!_isStopped && (_error is not null || (_freed.Count == 0 && (_wanted is null || _isDiskFull))))
                {
                    if (!Monitor.Wait(_gate, _isDiskFull ? _options.FullDiskRetryDelay : Timeout.InfiniteTimeSpan))
                        break;
                }

                if (_isStopped)
                    return;
            }

            FreeAll();
            TryPrepare();
        }
    }

    private void FreeAll()
    {
        while (true)
        {
            LogSegment? segment;
            lock (_gate)
            {
                if (_error is not null || !_freed.TryDequeue(out segment))
                    return;
            }

            try
            {
                _store.Free(segment);
            }
            catch (Exception error)
            {
                Fail(error);
                return;
            }
        }
    }

    private void TryPrepare()
    {
        LogSegmentHeader wanted;
        lock (_gate)
        {
            if (_wanted is null || _error is not null)
                return;
            wanted = _wanted.Value;
        }

        try
        {
            LogSegment segment = _store.Create(wanted);
            bool wasFull;
            lock (_gate)
            {
                wasFull = _isDiskFull;
                _ready = segment;
                _wanted = null;
                _isDiskFull = false;
            }

            if (wasFull)
                NodeLogMessages.HasRoomAgain(_options.Logger, _store.Directory);
        }
        catch (IOException error) when (DiskErrors.IsDiskFull(error))
        {
            bool wasFull;
            lock (_gate)
            {
                wasFull = _isDiskFull;
                _isDiskFull = true;
                _wanted = wanted with { Bytes = Math.Min(wanted.Bytes, _options.FirstSegmentBytes) };       // a small one may still fit
            }

            if (!wasFull)
                NodeLogMessages.DiskIsFull(_options.Logger, _store.Directory);
            _options.DiskIsFull?.Invoke();
        }
        catch (Exception error)
        {
            Fail(error);
        }

        _changed();
    }

    // The top of this thread's work: whatever went wrong is thrown at the log thread by its next TryTake.
    private void Fail(Exception error)
    {
        lock (_gate)
            _error ??= error;
        _changed();
    }
}
