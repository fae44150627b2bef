using System.Runtime.InteropServices;

namespace ShardForge.Consensus.NodeLog;

/// <summary>One replica's part of the node log, in memory: decides what a call changes, and sends records for it.</summary>
/// <remarks>
/// Every change is decided, applied to memory and put into the queue in one critical section of this object's lock, so the order of memory and
/// the order on disk are one. Its records are numbered (tickets); durability is a number that only rises.
/// <para>Term and vote become visible when they are durable, as they must not be answered before; what is on its way already binds the next call.</para>
/// <para>Lock order: this, then the queue's. Completed waiters run elsewhere.</para>
/// </remarks>
internal sealed partial class ReplicaLog : IReplicaLog
{
    private readonly Lock _gate = new();
    private readonly NodeLog _log;
    private readonly PriorityQueue<TaskCompletionSource, long> _waiters = new();
    private readonly LogEntryQueue _entries = new();                        // [compacted + 1, last]
    private readonly List<PendingRecord> _outgoing = [];                    // empty between calls
    private readonly List<LogEntry> _configurations = [];                   // configuration entries among them, with cached payloads
    private Term _term;                                                     // of the last hard state sent, durable or not
    private ReplicaId _votedFor;
    private long _visibleTerm, _lastIndex, _durableIndex, _compactedIndex, _generation;
    private ulong _visibleVote;
    private Term _compactedTerm;
    private ReadOnlyMemory<byte> _compactedConfiguration;
    private long _lastTicket, _durableTicket, _hardStateTicket, _snapshotTicket;
    private bool _isRemoved;

    public ReplicaLog(NodeLog log, ReplicaId replica, ReadOnlyMemory<byte> descriptor, ReadOnlyMemory<byte> configuration)
    {
        _log = log;
        Replica = replica;
        Descriptor = descriptor;
        _compactedConfiguration = configuration;
        _term = new(1);
        _visibleTerm = 1;
        _generation = 1;
    }

    public ReplicaLog(NodeLog log, RecoveredReplica recovered) : this(log, recovered.Replica, recovered.Descriptor, recovered.CompactedConfiguration)
    {
        _term = recovered.Term;
        _votedFor = recovered.VotedFor;
        _visibleTerm = _term.Value;
        _visibleVote = _votedFor.Value;
        _generation = _sentGeneration = recovered.Generation;
        _compactedIndex = recovered.CompactedIndex;
        _compactedTerm = recovered.CompactedTerm;
        _lastIndex = _durableIndex = recovered.LastIndex;
        StateSegment = recovered.StateSegment;
        IsCreated = true;
        if (StateSegment is not null)
            StateSegment.LiveStateCount++;
        for (long index = _compactedIndex + 1; index <= _lastIndex; index++)
        {
            RecoveredEntry found = recovered.Entries[index];
            LogEntry entry = new(this, new(index), found.Term, found.Kind, found.PayloadBytes) { IsDurable = true };
            entry.SetPlace(found.Place, found.Parts);
            entry.Hold();
            _entries.Add(entry);
            if (found.Configuration is not null)
            {
                entry.Cache(found.Configuration);
                _log.AddCachedBytes(entry.PayloadBytes);
                _configurations.Add(entry);
            }
        }
    }

    public ReplicaId Replica { get; }

    public ReadOnlyMemory<byte> Descriptor { get; }

    /// <summary>Its creation is durable.</summary>
    public bool IsCreated { get; private set; }

    public bool IsRemoved => Volatile.Read(ref _isRemoved);

    public Term Term => new(Volatile.Read(ref _visibleTerm));

    public ReplicaId VotedFor => new(Volatile.Read(ref _visibleVote));

    public LogIndex LastIndex => new(Volatile.Read(ref _lastIndex));

    public LogIndex DurableIndex => new(Volatile.Read(ref _durableIndex));

    public LogIndex CompactedIndex => new(Volatile.Read(ref _compactedIndex));

    public long Generation => Volatile.Read(ref _generation);

    public Exception? Failure => _log.Failure;

    public Term LastTerm
    {
        get
        {
            lock (_gate)
                return TermAtLocked(_lastIndex) ?? default;
        }
    }

    public Term CompactedTerm
    {
        get
        {
            lock (_gate)
                return _compactedTerm;
        }
    }

    public ReadOnlyMemory<byte> CompactedConfiguration
    {
        get
        {
            lock (_gate)
                return _compactedConfiguration;
        }
    }

    public (LogIndex Index, ReadOnlyMemory<byte> Configuration) LastConfiguration
    {
        get
        {
            lock (_gate)
                return _configurations.Count > 0 ? (_configurations[^1].Index, _configurations[^1].Payload) : (new(_compactedIndex), _compactedConfiguration);
        }
    }

    public ReadOnlyMemory<byte> ConfigurationAt(LogIndex index)
    {
        lock (_gate)
            return ConfigurationAtLocked(index.Value);
    }

    public Term? TermAt(LogIndex index)
    {
        lock (_gate)
            return TermAtLocked(index.Value);
    }

    public ValueTask SetHardStateAsync(Term term, ReplicaId votedFor, CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            CheckUsableLocked();
            Invariant.Require(term >= _term);
            if (term == _term && (votedFor.IsNone || votedFor == _votedFor))
                return WaitLocked(_hardStateTicket, cancellationToken);         // nothing new; a vote is never cleared within its term
            Invariant.Require(term > _term || _votedFor.IsNone);
            _log.CheckRoom(LogRecordKind.HardState, 16);
            _hardStateTicket = SendLocked(LogRecordKind.HardState, LogBody.HardState(term, votedFor));
            _term = term;
            _votedFor = votedFor;
            return WaitLocked(_hardStateTicket, cancellationToken);
        }
    }

    public bool TryAppend(Term term, RaftEntryKind kind, ReadOnlyMemory<byte> payload, out LogIndex index)
    {
        index = default;
        lock (_gate)
        {
            CheckUsableLocked();
            if (term != _term)
                return false;
            _log.CheckRoom(kind == RaftEntryKind.Command ? LogRecordKind.Entry : LogRecordKind.HardState, payload.Length);
            index = new(_lastIndex + 1);
            _outgoing.Clear();
            PrepareEntry(index.Value, term, kind, payload, _lastTicket + 1);
            SendOutgoingLocked();
            return true;
        }
    }

    public ValueTask AppendAsync(LogIndex first, ReadOnlyMemory<ReplicaLogEntry> entries, LogIndex committed, CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            CheckUsableLocked();
            if (entries.IsEmpty)
                return WaitLocked(_snapshotTicket, cancellationToken);
            if (first.Value < 1 || first.Value > _lastIndex + 1)
                throw new ArgumentOutOfRangeException(nameof(first), first, $"The log of {Replica} ends at {_lastIndex}; entries must follow without a gap.");
            int count = entries.Length, at = 0;
            for (; at < count; at++)
            {
                long index = first.Value + at;
                if (index <= committed.Value || index <= _compactedIndex)
                    continue;
                if (index > _lastIndex)
                    break;
                if (TermAtLocked(index) != entries.Span[at].Term)
                    break;
            }

            // At or below what is committed or compacted, and yet beyond our end: the caller believes in entries that we do not have.
            Invariant.Require(first.Value + at <= _lastIndex + 1);
            if (at < count)
            {
                _log.CheckRoom(LogRecordKind.Entry, PayloadBytes(entries.Span[at..]));
                ReplaceTailLocked(first.Value + at, entries.Span[at..]);
            }

            long last = Math.Min(first.Value + count - 1, _lastIndex);
            return WaitLocked(TicketOfLocked(last), cancellationToken);
        }
    }

    public ValueTask WaitDurableAsync(LogIndex index, CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            if (index.Value > _lastIndex)
                throw new ArgumentOutOfRangeException(nameof(index), index, $"The log of {Replica} ends at {_lastIndex}.");
            return WaitLocked(TicketOfLocked(index.Value), cancellationToken);
        }
    }

    public void Compact(LogIndex index)
    {
        lock (_gate)
        {
            CheckUsableLocked();
            if (index.Value <= _compactedIndex)
                return;
            Invariant.Require(index.Value <= _durableIndex);
            Term term = TermAtLocked(index.Value)!.Value;
            ReadOnlyMemory<byte> configuration = ConfigurationAtLocked(index.Value);
            List<LogEntry> released = FirstLocked(index.Value);
            SendLocked(LogRecordKind.CompactionMark, LogBody.CompactionMark(index, term, configuration.Span), released);
            DropFirstLocked(released.Count);
            _compactedTerm = term;
            _compactedConfiguration = configuration;
            Volatile.Write(ref _compactedIndex, index.Value);
        }
    }

    public ValueTask ResetToSnapshotAsync(LogIndex index, Term term, ReadOnlyMemory<byte> configuration, long generation, CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            CheckUsableLocked();
            Invariant.Require(generation > _sentGeneration);
            Invariant.Require(index.Value > _compactedIndex);
            Invariant.Require(term <= _term);
            _log.CheckRoom(LogRecordKind.Generation, configuration.Length);
            bool keepsTail = index.Value <= _lastIndex && TermAtLocked(index.Value) == term;
            byte[] copy = configuration.ToArray();
            List<LogEntry> released = FirstLocked(keepsTail ? index.Value : _lastIndex);
            long ticket = SendLocked(LogRecordKind.Generation, LogBody.Generation(index, term, generation, keepsTail, copy), released);
            DropFirstLocked(released.Count);
            _sentGeneration = generation;
            _compactedTerm = term;
            _compactedConfiguration = copy;
            Volatile.Write(ref _compactedIndex, index.Value);
            if (!keepsTail)
                Volatile.Write(ref _lastIndex, index.Value);
            Volatile.Write(ref _durableIndex, Math.Clamp(_durableIndex, index.Value, _lastIndex));
            _snapshotTicket = ticket;
            return WaitLocked(ticket, cancellationToken);
        }
    }

    /// <summary>Sends the first record.</summary>
    public ValueTask CreateAsync(CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            _log.CheckRoom(LogRecordKind.ReplicaCreated, Descriptor.Length + _compactedConfiguration.Length);
            return WaitLocked(SendLocked(LogRecordKind.ReplicaCreated, LogBody.ReplicaCreated(Descriptor.Span, _compactedConfiguration.Span)), cancellationToken);
        }
    }

    /// <summary>Sends the last record; every later change is refused.</summary>
    public ValueTask RemoveAsync(CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            CheckUsableLocked();
            List<LogEntry> released = FirstLocked(_lastIndex);
            long ticket = SendLocked(LogRecordKind.ReplicaRemoved, [], released);
            DropFirstLocked(released.Count);
            Volatile.Write(ref _compactedIndex, _lastIndex);
            _isRemoved = true;
            return WaitLocked(ticket, cancellationToken);
        }
    }

    private static long PayloadBytes(ReadOnlySpan<ReplicaLogEntry> entries)
    {
        long bytes = 0;
        foreach (ReplicaLogEntry entry in entries)
            bytes += entry.Payload.Length;
        return bytes;
    }

    private void CheckUsableLocked()
    {
        if (_log.Failure is { } failure)
            GroupCommit.Throw(failure);
        if (_isRemoved)
            throw new InvalidOperationException($"The log of replica {Replica} was removed.");
    }

    // What makes everything up to an index durable: its entry, or the snapshot that stands for it.
    private long TicketOfLocked(long index) =>
        index <= _compactedIndex ? _snapshotTicket : Math.Max(_snapshotTicket, _entries[index - _compactedIndex - 1].Ticket);

    private Term? TermAtLocked(long index) =>
        index > _compactedIndex && index <= _lastIndex ? _entries[index - _compactedIndex - 1].Term : index == _compactedIndex ? _compactedTerm : null;

    private ReadOnlyMemory<byte> ConfigurationAtLocked(long index)
    {
        for (int i = _configurations.Count - 1; i >= 0; i--)
        {
            if (_configurations[i].Index.Value <= index)
                return _configurations[i].Payload;
        }

        return _compactedConfiguration;
    }

    // All records of one call are handed over together, so that they share a flush; memory follows once they were taken.
    private void ReplaceTailLocked(long first, ReadOnlySpan<ReplicaLogEntry> entries)
    {
        List<LogEntry> released = [];
        long ticket = _lastTicket;
        _outgoing.Clear();                                                  // a call that broke an invariant may have left some
        if (first <= _lastIndex)
        {
            Invariant.Require(first > _compactedIndex);
            for (long index = first; index <= _lastIndex; index++)
                released.Add(_entries[index - _compactedIndex - 1]);
            _outgoing.Add(new PendingRecord { Owner = this, Kind = LogRecordKind.Truncation, Ticket = ++ticket, Body = LogBody.Truncation(new(first - 1)), Released = released });
        }

        // One array for all of them where that is not large: they come, are read and go together.
        long bytes = PayloadBytes(entries);
        byte[]? shared = bytes <= 64 * 1024 ? new byte[bytes] : null;
        int at = 0;
        for (int i = 0; i < entries.Length; i++)
        {
            ReadOnlyMemory<byte> payload = entries[i].Payload;
            Memory<byte> copy = shared is null ? new byte[payload.Length] : shared.AsMemory(at, payload.Length);
            payload.CopyTo(copy);
            at += payload.Length;
            PrepareEntry(first + i, entries[i].Term, entries[i].Kind, copy, ++ticket);
        }

        SendOutgoingLocked();
    }

    private void PrepareEntry(long index, Term term, RaftEntryKind kind, ReadOnlyMemory<byte> payload, long ticket)
    {
        Invariant.Require(term <= _term);
        LogEntry entry = new(this, new(index), term, kind, payload.Length) { Ticket = ticket };
        entry.Cache(payload);
        _outgoing.Add(new PendingRecord { Owner = this, Kind = LogRecordKind.Entry, Ticket = ticket, Entry = entry });
    }

    private void SendOutgoingLocked()
    {
        try
        {
            _log.Send(CollectionsMarshal.AsSpan(_outgoing));
            _lastTicket += _outgoing.Count;
            foreach (PendingRecord record in _outgoing)
            {
                if (record.Kind == LogRecordKind.Truncation)
                    DropLastLocked(record.Released!.Count);
                else
                    AddLocked(record.Entry!);
            }
        }
        finally
        {
            _outgoing.Clear();
        }
    }

    private void AddLocked(LogEntry entry)
    {
        Invariant.Check(entry.Index.Value == _lastIndex + 1);
        Invariant.Check(TermAtLocked(_lastIndex) is not { } before || before <= entry.Term);
        _log.AddCachedBytes(entry.PayloadBytes);
        _entries.Add(entry);
        if (entry.Kind == RaftEntryKind.Configuration)
            _configurations.Add(entry);
        Volatile.Write(ref _lastIndex, entry.Index.Value);
    }

    private void DropLastLocked(int count)
    {
        long lastKept = _lastIndex - count;
        Volatile.Write(ref _durableIndex, Math.Min(_durableIndex, lastKept));
        Volatile.Write(ref _lastIndex, lastKept);
        for (int i = 0; i < count; i++)
            DropLocked(_entries.RemoveLast());
        _configurations.RemoveAll(static entry => entry.IsDropped);
    }

    // Entries up to an index: they are dropped from memory now, and released once the record that says so is durable.
    private List<LogEntry> FirstLocked(long last)
    {
        List<LogEntry> first = [];
        while (first.Count < _entries.Count && _entries[first.Count].Index.Value <= last)
            first.Add(_entries[first.Count]);
        return first;
    }

    private void DropFirstLocked(int count)
    {
        for (int i = 0; i < count; i++)
            DropLocked(_entries.RemoveFirst());
        _configurations.RemoveAll(static entry => entry.IsDropped);
    }

    private void DropLocked(LogEntry entry)
    {
        entry.Drop();
        // Until it is durable the log thread still encodes it from these bytes.
        if (entry.IsDurable)
            _log.AddCachedBytes(-entry.Evict());
    }

    private long SendLocked(LogRecordKind kind, byte[] body, IReadOnlyList<LogEntry>? released = null, bool isOwn = false)
    {
        PendingRecord record = new() { Owner = this, Kind = kind, Ticket = _lastTicket + 1, Body = body, Released = released };
        _log.Send(new ReadOnlySpan<PendingRecord>(in record), isOwn);
        return ++_lastTicket;
    }

    private ValueTask WaitLocked(long ticket, CancellationToken cancellationToken)
    {
        if (_log.Failure is { } failure)
            GroupCommit.Throw(failure);
        if (ticket <= _durableTicket)
            return ValueTask.CompletedTask;
        TaskCompletionSource waiter = new(TaskCreationOptions.RunContinuationsAsynchronously);
        _waiters.Enqueue(waiter, ticket);
        return new ValueTask(cancellationToken.CanBeCanceled ? waiter.Task.WaitAsync(cancellationToken) : waiter.Task);
    }
}
