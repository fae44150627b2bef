using System.Diagnostics.CodeAnalysis;

namespace ShardForge.Consensus.NodeLog;

/// <summary>The log thread: takes what waits, writes it as one batch, flushes once, tells the replicas.</summary>
/// <remarks>
/// Invariants: <c>durable</c> is the end of the last flushed batch and never goes back; a segment is left only when its last batch is durable, so
/// the next batch's promise can always name all that is before it (R29).
/// <para>After an error of a write or flush nothing is written any more (R35): the kernel may have dropped the pages, and a second flush could
/// succeed without them.</para>
/// </remarks>
[SuppressMessage("Design", "CA1001", Justification = "Its thread disposes what it owns when it ends.")]
internal sealed partial class LogWriter
{
    private const int CachedCountMin = 64 * 1024;
    private readonly NodeLog _log;
    private readonly GroupCommit _queue;
    private readonly NodeLogOptions _options;
    private readonly LogSegmentStore _store;
    private readonly LogSegmentSupply _supply;
    private readonly List<LogSegment> _segments;                            // oldest first, the current one last
    private readonly Queue<LogEntry> _cached = [];                          // durable entries in memory, oldest first
    private readonly List<TaskCompletionSource> _due = [];
    private readonly LogBatch _batch = new();
    private readonly Thread _thread;
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _cachedCountMax = CachedCountMin;
    private List<PendingRecord> _work = [], _rest = [];
    private LogSegment _current;
    private long _offset, _batchNumber;
    private LogPoint _durable;
    private bool _owesPromise, _hasEndFile, _isStuck;
    private long _durablePosition, _retainedBytes, _flushCount;

    public LogWriter(NodeLog log, GroupCommit queue, LogSegmentStore store, NodeLogOptions options, LogRecovery recovered)
    {
        _log = log;
        _queue = queue;
        _options = options;
        _store = store;
        _segments = recovered.Segments;
        _current = _segments[^1];
        _offset = recovered.End.Offset;
        _durable = recovered.Durable;
        _hasEndFile = recovered.HasEndFile;
        _durablePosition = _current.StartPosition + _offset;
        _removedIds = recovered.RemovedIds;
        _retainedBytes = RetainedNow();
        _supply = new LogSegmentSupply(store, options, recovered.Ready, queue.Wake);
        _thread = new Thread(Run) { Name = $"shardforge-log {options.NodeName}", IsBackground = true };
    }

    public Task Ended => _ended.Task;

    public long DurablePosition => Volatile.Read(ref _durablePosition);

    public long FlushCount => Volatile.Read(ref _flushCount);

    public long RetainedBytes => Volatile.Read(ref _retainedBytes);

    /// <summary>Bytes that can be written without asking the disk for more; without limit while it gives what is asked.</summary>
    public long RoomBytes => _supply.IsDiskFull && _supply.ReadyBytes == 0
        ? Volatile.Read(ref _current).Bytes - Interlocked.Read(ref _offset) - _queue.WaitingBytes
        : long.MaxValue;

    public void Start() => _thread.Start();

    // The segment was made under other settings, perhaps: it says how far behind a torn batch's start recovery looks.
    private int BatchBytesMax => Math.Min(_options.BatchBytesMax, _current.BatchBytesMax);

    private void Run()
    {
        try
        {
            WriteAll();
            if (_queue.State == GroupCommitState.Closing)
                LogEndFile.Write(_store.Files, _store.Directory, _current.LogId, _durable);
        }
        catch (Exception error)
        {
            _log.Fail(error);
        }
        finally
        {
            _supply.Dispose();
            foreach (LogSegment segment in _segments)
                segment.Dispose();
            _ended.TrySetResult();
        }
    }

    private void WriteAll()
    {
        Prepare();
        while (true)
        {
            GroupCommitState state = _queue.State;
            if (state == GroupCommitState.Killed)
                return;
            if (_isStuck)
            {
                if (state == GroupCommitState.Closing && _supply.IsDiskFull)
                    throw new IOException($"The node log in {_store.Directory} was closed while its disk was full: {_work.Count:N0} records were not written.");
                _queue.WaitForWake(_options.FullDiskRetryDelay);
                _isStuck = false;
            }

            bool idles = _owesPromise && _options.IdleDelay != Timeout.InfiniteTimeSpan;
            bool came = _queue.Take(_work, _work.Count > 0 ? TimeSpan.Zero : idles ? _options.IdleDelay : Timeout.InfiniteTimeSpan);
            if (_work.Count > 0)
                WriteBatch();
            else if (state == GroupCommitState.Closing)
                return;
            else if (idles && !came)
                WriteIdlePromise();
            Trim();
        }
    }

    private void WriteBatch()
    {
        if (_current.Bytes - _offset < LogFormat.BlockBytes && !TryRoll())
        {
            _isStuck = true;
            return;
        }

        _batch.Begin(_current, _offset, _durable, BatchBytesMax);
        bool segmentIsFull = PlaceAll();
        if (!_batch.IsEmpty)
        {
            WriteAndFlush();
            Complete();
            _owesPromise = true;
        }

        (_work, _rest) = (_rest, _work);
        _rest.Clear();
        if (_batch.IsEmpty || segmentIsFull)
            _isStuck = !TryRoll() && _work.Count > 0;
        Prepare();
    }

    // Places what fits into the batch; the rest stays, each replica's in its order.
    private bool PlaceAll()
    {
        _batchNumber++;
        // A record that is not cut fits into every empty segment, and into a batch.
        int fragmentBytes = (int)Math.Min(_options.FragmentBytes, Math.Min(_current.Bytes, BatchBytesMax) / 4), largeBytes = _options.LargeBytesPerBatch;
        bool endsInSegment = _current.Bytes - _offset <= BatchBytesMax, segmentIsFull = false;
        long reserved = _supply.IsDiskFull && _supply.ReadyBytes == 0 ? ReserveOf(_current) / 4 : 0;
        for (int i = 0; i < _work.Count; i++)
        {
            PendingRecord record = _work[i];
            ReplicaLog owner = record.Owner;
            if (owner.DeferredIn == _batchNumber)
            {
                _rest.Add(record);
                continue;
            }

            // With a full disk, what is left is for votes and for the marks that free segments (R34).
            bool mayPlace = reserved == 0 || record.Kind != LogRecordKind.Entry || _batch.SegmentRoomBytes - record.BodyBytes > reserved;
            if (mayPlace && record.BodyBytes <= fragmentBytes && record.FragmentedBytes == 0)
            {
                if (_batch.TryPlace(record))
                    continue;
                segmentIsFull |= endsInSegment;
            }
            else if (mayPlace)
            {
                int part = 1;
                while (record.FragmentedBytes < record.BodyBytes && largeBytes > 0 && part > 0)
                {
                    part = _batch.PlacePart(ref record, Math.Min(fragmentBytes, largeBytes));
                    largeBytes -= part;
                    segmentIsFull |= part == 0 && _batch.SegmentRoomBytes < LogBatch.PartRoomBytes;
                }

                if (record.FragmentedBytes == record.BodyBytes)
                    continue;
            }

            owner.DeferredIn = _batchNumber;
            _rest.Add(record);
        }

        return segmentIsFull;
    }

    private void WriteAndFlush()
    {
        if (_hasEndFile)
        {
            // R31: gone, durably, before the log grows behind the end that it tells.
            LogEndFile.Remove(_store.Files, _store.Directory);
            _hasEndFile = false;
        }

        ReadOnlySpan<byte> bytes = _batch.Finish();
        _current.File.Write(bytes, _offset);
        _current.File.Flush();
        Interlocked.Add(ref _offset, bytes.Length);
        Volatile.Write(ref _flushCount, _flushCount + 1);
        _durable = new LogPoint(_current.Number, _offset);
        Volatile.Write(ref _durablePosition, _current.StartPosition + _offset);
    }

    // What was placed is durable: counts, caches, and then, outside all locks, those who wait.
    private void Complete()
    {
        long bodyBytes = 0;
        foreach (PendingRecord record in _batch.Placed)
        {
            bodyBytes += record.BodyBytes;
            CountState(record);
            record.Owner.OnDurable(record, _due);
            if (record is { Kind: LogRecordKind.Entry, Entry: { IsDropped: false } entry })
                _cached.Enqueue(entry);
        }

        _queue.Done(bodyBytes);
        EvictOld();
        foreach (TaskCompletionSource waiter in _due)
            waiter.TrySetResult();
        _due.Clear();
    }

    private void EvictOld()
    {
        while (_cached.TryPeek(out LogEntry? entry) && (entry.IsDropped || _log.CachedBytes > _options.CacheBytesMax))
        {
            _cached.Dequeue();
            entry.Owner.Evict(entry);
        }

        // Behind an entry that stays, dropped ones would pile up.
        if (_cached.Count < _cachedCountMax)
            return;
        LogEntry[] kept = [.. _cached.Where(static entry => !entry.IsDropped)];
        _cached.Clear();
        foreach (LogEntry entry in kept)
            _cached.Enqueue(entry);
        _cachedCountMax = Math.Max(CachedCountMin, 2 * kept.Length);
    }

    // R29: a batch of nothing but a promise covers the batch before it, which no later one would while the log is idle.
    private void WriteIdlePromise()
    {
        _owesPromise = false;
        if (_current.Bytes - _offset < LogFormat.BlockBytes && !TryRoll())
            return;
        _batch.Begin(_current, _offset, _durable, BatchBytesMax);
        WriteAndFlush();
    }

    private bool TryRoll()
    {
        if (!_supply.IsWanted)
            _supply.Want(NextHeader());
        LogSegment? next = _supply.TryTake();
        if (next is null)
            return false;
        Invariant.Require(next.Number == _current.Number + 1);
        _segments.Add(next);
        Volatile.Write(ref _current, next);
        // What is durable stays the end of the segment before: the first promise here names it, and so covers that segment's last batch.
        Interlocked.Exchange(ref _offset, LogFormat.HeaderBytes);
        OnRolled();
        return true;
    }

    // The next segment is asked for when a quarter of this one is used, so that it is ready in time, and that a full disk is known early.
    private void Prepare()
    {
        if (_offset > _current.Bytes / 4 && !_supply.IsWanted)
            _supply.Want(NextHeader());
    }

    private LogSegmentHeader NextHeader() => new(_current.LogId, _current.Number + 1,
        Math.Clamp(2 * _current.Bytes, _options.FirstSegmentBytes, _options.SegmentBytes), _current.StartPosition + _current.Bytes, _options.BatchBytesMax);

    public long ReserveOf(LogSegment segment) => Math.Min(_options.ReserveBytes, segment.Bytes / 4);

    public long CommandReserveBytes => ReserveOf(Volatile.Read(ref _current));

    private long RetainedNow()
    {
        long bytes = 0;
        foreach (LogSegment segment in _segments)
            bytes += segment.Bytes;
        return bytes;
    }
}
