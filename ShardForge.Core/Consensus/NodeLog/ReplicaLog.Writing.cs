namespace ShardForge.Consensus.NodeLog;

/// <summary>What the log thread does with a replica: makes records count once they are durable, carries and rewrites old ones.</summary>
internal sealed partial class ReplicaLog
{
    private long _sentGeneration = 1;
    private bool _isCarried;

    /// <summary>Where the record that last told the whole state lies. Log thread only.</summary>
    public LogSegment? StateSegment { get; set; }

    /// <summary>Number of the batch in which a record of this replica had to wait, so its later ones wait too. Log thread only.</summary>
    public long DeferredIn { get; set; }

    /// <summary>A record is durable. Waiters that are due are added, not completed.</summary>
    public void OnDurable(in PendingRecord record, List<TaskCompletionSource> due)
    {
        lock (_gate)
        {
            switch (record.Kind)
            {
                case LogRecordKind.Entry:
                    OnEntryDurableLocked(record);
                    break;
                case LogRecordKind.RewrittenEntry:
                    record.Entry!.Release();
                    record.Entry.SetPlace(record.Place, record.Parts?.ToArray());
                    record.Entry.Hold();
                    break;
                case LogRecordKind.HardState:
                    LogBody.TryReadHardState(record.Body, out Term term, out ReplicaId votedFor);
                    Volatile.Write(ref _visibleVote, votedFor.Value);
                    Volatile.Write(ref _visibleTerm, term.Value);
                    break;
                case LogRecordKind.Generation:
                    LogBody.TryReadGeneration(record.Body, out _, out _, out long generation, out _, out _);
                    Volatile.Write(ref _generation, generation);
                    break;
                case LogRecordKind.ReplicaCreated:
                    IsCreated = true;
                    break;
                case LogRecordKind.CarriedState:
                    _isCarried = false;
                    break;
            }

            if (record.Released is not null)
            {
                foreach (LogEntry entry in record.Released)
                    entry.Release();
            }

            Invariant.Check(record.Ticket == _durableTicket + 1);
            _durableTicket = record.Ticket;
            while (_waiters.TryPeek(out TaskCompletionSource? waiter, out long ticket) && ticket <= _durableTicket)
            {
                _waiters.Dequeue();
                due.Add(waiter);
            }
        }
    }

    /// <summary>Gives up the bytes of a durable entry, unless it is a configuration, which is always at hand.</summary>
    public void Evict(LogEntry entry)
    {
        lock (_gate)
        {
            if (entry.Kind != RaftEntryKind.Configuration || entry.IsDropped)
                _log.AddCachedBytes(-entry.Evict());
        }
    }

    /// <summary>The log ended: whoever still waits is told by the caller, off the lock.</summary>
    public void TakeWaiters(List<TaskCompletionSource> waiters)
    {
        lock (_gate)
        {
            while (_waiters.TryDequeue(out TaskCompletionSource? waiter, out _))
                waiters.Add(waiter);
        }
    }

    /// <summary>Tells the whole state again, further on (R30).</summary>
    public void CarryState()
    {
        lock (_gate)
        {
            if (_isCarried || _isRemoved)
                return;
            LogCarriedState state = new(_term, _votedFor, new(_lastIndex), new(_compactedIndex), _compactedTerm, _sentGeneration, Descriptor, _compactedConfiguration);
            SendLocked(LogRecordKind.CarriedState, LogBody.CarriedState(state), isOwn: true);
            _isCarried = true;
        }
    }

    /// <summary>For the replica that stands for the node: tells the ids of removed replicas again.</summary>
    public void CarryRemovedIds(IReadOnlyCollection<ReplicaId> ids)
    {
        lock (_gate)
            SendLocked(LogRecordKind.RemovedIds, LogBody.RemovedIds(ids), isOwn: true);
    }

    public bool NeedsEntriesIn(LogSegment segment)
    {
        lock (_gate)
        {
            for (int i = 0; i < _entries.Count; i++)
            {
                if (_entries[i].LiesIn(segment))
                    return true;
            }

            return false;
        }
    }

    /// <summary>Writes the entries that lie in a segment again, further on.</summary>
    public void RewriteEntriesIn(LogSegment segment)
    {
        List<LogEntry> found = [];
        lock (_gate)
        {
            for (int i = 0; i < _entries.Count; i++)
            {
                if (_entries[i].IsDurable && _entries[i].LiesIn(segment))
                    found.Add(_entries[i]);
            }
        }

        foreach (LogEntry entry in found)
        {
            // The disk is read outside the lock; only this thread moves entries, so the place holds.
            if (!TryGetCached(entry, out ReadOnlyMemory<byte> payload))
                payload = LogSegmentReader.ReadEntry(entry);
            Invariant.Require(payload.Length == entry.PayloadBytes);
            lock (_gate)
            {
                if (entry.IsDropped)
                    continue;
                PendingRecord record = new()
                {
                    Owner = this,
                    Kind = LogRecordKind.RewrittenEntry,
                    Ticket = _lastTicket + 1,
                    Entry = entry,
                    Body = LogBody.Entry(entry.Index, entry.Term, entry.Kind, payload.Span),
                };
                _log.Send(new ReadOnlySpan<PendingRecord>(in record), isOwn: true);
                _lastTicket++;
            }
        }
    }

    private bool TryGetCached(LogEntry entry, out ReadOnlyMemory<byte> payload)
    {
        lock (_gate)
        {
            payload = entry.Payload;
            return entry.IsCached;
        }
    }

    private void OnEntryDurableLocked(in PendingRecord record)
    {
        LogEntry entry = record.Entry!;
        entry.SetPlace(record.Place, record.Parts?.ToArray());
        entry.Hold();
        entry.IsDurable = true;
        if (entry.IsDropped)
            _log.AddCachedBytes(-entry.Evict());
        else if (entry.Index.Value > _durableIndex)
            Volatile.Write(ref _durableIndex, entry.Index.Value);
    }
}
