using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;

namespace ShardForge.Tests.Consensus;

/// <summary>A replica's log in memory, with a disk that can be held back, fail, and lose what was not flushed.</summary>
internal sealed class MemoryReplicaLog : IReplicaLog
{
    private readonly Lock _gate = new();
    private readonly List<(long Sequence, TaskCompletionSource Source)> _waiters = [];
    private State _state;
    private State? _onDisk;         // not null: flushes are held back, and this is what a crash leaves
    private long _sequence, _durableSequence;

    public MemoryReplicaLog(ReplicaId replica, RaftConfiguration configuration)
    {
        Replica = replica;
        _state = new State { Term = new Term(1), Generation = 1, CompactedConfiguration = configuration.Encode() };
    }

    public ReplicaId Replica { get; }

    public Term Term => Locked(static state => state.Term);

    public ReplicaId VotedFor => Locked(static state => state.VotedFor);

    public LogIndex LastIndex => Locked(static state => state.LastIndex);

    public Term LastTerm => Locked(static state => state.Entries.Count > 0 ? state.Entries[^1].Term : state.CompactedTerm);

    public LogIndex DurableIndex
    {
        get
        {
            lock (_gate)
                return _onDisk?.LastIndex ?? _state.LastIndex;
        }
    }

    public LogIndex CompactedIndex => Locked(static state => state.Compacted);

    public Term CompactedTerm => Locked(static state => state.CompactedTerm);

    public ReadOnlyMemory<byte> CompactedConfiguration => Locked(static state => state.CompactedConfiguration);

    public (LogIndex Index, ReadOnlyMemory<byte> Configuration) LastConfiguration => Locked(static state => state.ConfigurationAt(state.LastIndex));

    public ReadOnlyMemory<byte> ConfigurationAt(LogIndex index)
    {
        lock (_gate)
            return _state.ConfigurationAt(index).Configuration;
    }

    public long Generation => Locked(static state => state.Generation);

    public Exception? Failure { get; private set; }

    /// <summary>Set: thrown instead of writing a term or a vote.</summary>
    public Exception? RefuseHardState { get; set; }

    /// <summary>How often term or vote were written.</summary>
    public int HardStateWrites { get; private set; }

    public Term? TermAt(LogIndex index)
    {
        lock (_gate)
            return _state.TermAt(index);
    }

    /// <summary>From now on nothing reaches the disk until <see cref="Flush"/> or <see cref="ReleaseFlushes"/>.</summary>
    public void HoldFlushes()
    {
        lock (_gate)
            _onDisk ??= _state.Copy();
    }

    /// <summary>Everything up to now is on the disk.</summary>
    public void Flush() => CompleteWaiters(hold: true);

    public void ReleaseFlushes() => CompleteWaiters(hold: false);

    public void Fail(Exception error)
    {
        List<TaskCompletionSource> failed = [];
        lock (_gate)
        {
            Failure = error;
            failed.AddRange(_waiters.Select(static waiter => waiter.Source));
            _waiters.Clear();
        }

        failed.ForEach(source => source.TrySetException(error));
    }

    /// <summary>What the power cut leaves. Failure and held flushes are over with it.</summary>
    public void Crash()
    {
        lock (_gate)
        {
            _state = _onDisk ?? _state;
            _onDisk = null;
            _waiters.Clear();
            Failure = null;
            _durableSequence = _sequence;
        }
    }

    public ValueTask SetHardStateAsync(Term term, ReplicaId votedFor, CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            ThrowIfFailed();
            if (RefuseHardState is { } refusal)
                throw refusal;
            Invariant.Require(term >= _state.Term);
            Invariant.Require(term > _state.Term || _state.VotedFor.IsNone || _state.VotedFor == votedFor);
            HardStateWrites++;
            _state.Term = term;
            _state.VotedFor = votedFor;
            return WaitLocked(cancellationToken);
        }
    }

    public bool TryAppend(Term term, RaftEntryKind kind, ReadOnlyMemory<byte> payload, out LogIndex index)
    {
        lock (_gate)
        {
            ThrowIfFailed();
            index = default;
            if (term != _state.Term)
                return false;
            _state.Entries.Add(new ReplicaLogEntry(term, kind, payload));
            index = _state.LastIndex;
            Changed();
            return true;
        }
    }

    public ValueTask AppendAsync(LogIndex first, ReadOnlyMemory<ReplicaLogEntry> entries, LogIndex committed, CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            ThrowIfFailed();
            for (int i = 0; i < entries.Length; i++)
            {
                LogIndex at = new(first.Value + i);
                ReplicaLogEntry entry = entries.Span[i];
                if (at <= committed || _state.TermAt(at) == entry.Term)
                    continue;
                Invariant.Require(at.Value <= _state.LastIndex.Value + 1);
                _state.Truncate(at);
                _state.Entries.Add(entry with { Payload = entry.Payload.ToArray() });
                Changed();
            }

            return _durableSequence == _sequence ? default : WaitLocked(cancellationToken, changed: false);
        }
    }

    public ValueTask WaitDurableAsync(LogIndex index, CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            ThrowIfFailed();
            return index <= (_onDisk ?? _state).LastIndex ? default : WaitLocked(cancellationToken, changed: false);
        }
    }

    public ReplicaLogLease Read(LogIndex first, LogIndex last, long bytesMax)
    {
        lock (_gate)
        {
            if (first <= _state.Compacted || last > _state.LastIndex)
                throw new ArgumentOutOfRangeException(nameof(first), first, $"The log holds what follows {_state.Compacted} up to {_state.LastIndex}.");
            List<ReplicaLogEntry> entries = [];
            long bytes = 0;
            for (LogIndex at = first; at <= last; at = at.Next)
            {
                ReplicaLogEntry entry = _state.At(at);
                bytes += entry.Payload.Length;
                if (entries.Count > 0 && bytes > bytesMax)
                    break;
                entries.Add(entry);
            }

            return new Lease(first, entries.ToArray());
        }
    }

    public void Compact(LogIndex index)
    {
        lock (_gate)
            _state.Compact(index);
    }

    public ValueTask ResetToSnapshotAsync(LogIndex index, Term term, ReadOnlyMemory<byte> configuration, long generation, CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            ThrowIfFailed();
            if (_state.TermAt(index) == term)
            {
                _state.Compact(index);
            }
            else
            {
                _state.Entries.Clear();
                _state.Compacted = index;
                _state.CompactedTerm = term;
            }

            _state.CompactedConfiguration = configuration.ToArray();
            _state.Generation = generation;
            return WaitLocked(cancellationToken);
        }
    }

    private T Locked<T>(Func<State, T> read)
    {
        lock (_gate)
            return read(_state);
    }

    private void ThrowIfFailed()
    {
        if (Failure is not null)
            throw new IOException($"The log of {Replica} failed before.", Failure);
    }

    private void Changed()
    {
        _sequence++;
        if (_onDisk is null)
            _durableSequence = _sequence;
    }

    private ValueTask WaitLocked(CancellationToken cancellationToken, bool changed = true)
    {
        if (changed)
            Changed();
        if (_onDisk is null)
            return default;
        TaskCompletionSource source = new(TaskCreationOptions.RunContinuationsAsynchronously);
        _waiters.Add((_sequence, source));
        return new(source.Task.WaitAsync(cancellationToken));
    }

    private void CompleteWaiters(bool hold)
    {
        List<TaskCompletionSource> due = [];
        lock (_gate)
        {
            _onDisk = hold ? _state.Copy() : null;
            _durableSequence = _sequence;
            due.AddRange(_waiters.Select(static waiter => waiter.Source));
            _waiters.Clear();
        }

        due.ForEach(static source => source.TrySetResult());
    }

    private sealed class State
    {
        public Term Term { get; set; }

        public ReplicaId VotedFor { get; set; }

        public LogIndex Compacted { get; set; }

        public Term CompactedTerm { get; set; }

        public byte[] CompactedConfiguration { get; set; } = [];

        public long Generation { get; set; }

        public List<ReplicaLogEntry> Entries { get; private init; } = [];

        public LogIndex LastIndex => new(Compacted.Value + Entries.Count);

        public ReplicaLogEntry At(LogIndex index) => Entries[(int)(index.Value - Compacted.Value - 1)];

        public Term? TermAt(LogIndex index)
        {
            if (index == Compacted)
                return CompactedTerm;
            return index < Compacted || index > LastIndex ? null : At(index).Term;
        }

        public (LogIndex Index, ReadOnlyMemory<byte> Configuration) ConfigurationAt(LogIndex index)
        {
            for (LogIndex at = index; at > Compacted; at = new(at.Value - 1))
            {
                if (At(at).Kind == RaftEntryKind.Configuration)
                    return (at, At(at).Payload);
            }

            return (Compacted, CompactedConfiguration);
        }

        public void Truncate(LogIndex from)
        {
            int keep = (int)(from.Value - Compacted.Value - 1);
            if (keep < Entries.Count)
                Entries.RemoveRange(keep, Entries.Count - keep);
        }

        public void Compact(LogIndex index)
        {
            if (index <= Compacted)
                return;
            CompactedTerm = TermAt(index)!.Value;
            CompactedConfiguration = ConfigurationAt(index).Configuration.ToArray();
            Entries.RemoveRange(0, (int)(index.Value - Compacted.Value));
            Compacted = index;
        }

        public State Copy() => new()
        {
            Term = Term,
            VotedFor = VotedFor,
            Compacted = Compacted,
            CompactedTerm = CompactedTerm,
            CompactedConfiguration = CompactedConfiguration,
            Generation = Generation,
            Entries = [.. Entries],
        };
    }

    private sealed class Lease(LogIndex first, ReplicaLogEntry[] entries) : ReplicaLogLease
    {
        public override LogIndex First => first;

        public override ReadOnlyMemory<ReplicaLogEntry> Entries => entries;

        public override void Dispose() { }
    }
}
