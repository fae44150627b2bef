namespace ShardForge.Consensus.NodeLog;

/// <summary>Where records of all replicas wait for the log thread, which takes all that is there for one write and one flush.</summary>
/// <remarks>Threads: any adds, always under its replica's lock, so the order of one replica is kept; the log thread takes. The lock here is the last
/// in the order, guards memory only, and no waiter is completed under it. Bounded by what the layer above admits (proposals in bytes).</remarks>
internal sealed class GroupCommit
{
    private readonly object _gate = new();                                  // a monitor: the log thread waits on it
    private List<PendingRecord> _waiting = [];
    private long _waitingBytes;
    private bool _isWoken;
    private GroupCommitState _state;
    private Exception? _failure;

    /// <summary>Bytes of bodies that wait here or are with the log thread and not yet durable.</summary>
    public long WaitingBytes => Interlocked.Read(ref _waitingBytes);

    public Exception? Failure => Volatile.Read(ref _failure);

    public GroupCommitState State
    {
        get
        {
            lock (_gate)
                return _state;
        }
    }

    /// <summary>Adds records of one replica, all or none.</summary>
    /// <param name="records">Written in the order of these calls.</param>
    /// <param name="isOwn">From the log thread, which goes on while the log is closing.</param>
    public void Add(ReadOnlySpan<PendingRecord> records, bool isOwn = false)
    {
        lock (_gate)
        {
            if (_failure is not null)
                Throw(_failure);
            ObjectDisposedException.ThrowIf(_state != GroupCommitState.Open && !isOwn, typeof(NodeLog));
            bool wasEmpty = _waiting.Count == 0;
            foreach (ref readonly PendingRecord record in records)
            {
                _waiting.Add(record);
                Interlocked.Add(ref _waitingBytes, record.BodyBytes);
            }

            if (wasEmpty)
                Monitor.Pulse(_gate);
        }
    }

    /// <summary>For the log thread: appends all that waits to <paramref name="records"/>; waits up to <paramref name="patience"/> where that is nothing.</summary>
    /// <returns>False: nothing came.</returns>
    public bool Take(List<PendingRecord> records, TimeSpan patience)
    {
        lock (_gate)
        {
            if (_waiting.Count == 0 && _state == GroupCommitState.Open && !_isWoken && patience != TimeSpan.Zero)
                Monitor.Wait(_gate, patience);
            _isWoken = false;
            if (_waiting.Count == 0)
                return false;
            records.AddRange(_waiting);
            _waiting.Clear();
            if (_waiting.Capacity > 64 * 1024)
                _waiting = [];
            return true;
        }
    }

    /// <summary>For the log thread, when it can write nothing: waits for <see cref="Wake"/>, a kill, or so long.</summary>
    public void WaitForWake(TimeSpan patience)
    {
        lock (_gate)
        {
            if (!_isWoken && _state != GroupCommitState.Killed)
                Monitor.Wait(_gate, patience);
            _isWoken = false;
        }
    }

    /// <summary>For the log thread: so many bytes are durable.</summary>
    public void Done(long bytes) => Interlocked.Add(ref _waitingBytes, -bytes);

    /// <summary>Something but a record needs the log thread.</summary>
    public void Wake()
    {
        lock (_gate)
        {
            _isWoken = true;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>No record is taken in any more. Closing: what waits is still written; killed: it is not.</summary>
    public void End(GroupCommitState state)
    {
        lock (_gate)
        {
            _state = state > _state ? state : _state;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>The log stopped: nothing is taken in any more, and every later <see cref="Add"/> throws this.</summary>
    public void Fail(Exception failure)
    {
        lock (_gate)
        {
            _failure ??= failure;
            _waiting.Clear();
        }
    }

    /// <summary>Throws what stopped the log, as a new error, so that the first one's stack stays as it is.</summary>
    public static void Throw(Exception failure) => throw new IOException(failure.Message, failure);
}

internal enum GroupCommitState
{
    Open,
    Closing,
    Killed,
}
