namespace ShardForge.Consensus.Scripted;

/// <summary>One Raft group in memory whose elections, commits and deliveries a script decides: what the layers above are tested on.</summary>
/// <remarks><code>
/// log        | committed, fed to every replica that is not held ... | uncommitted, of the current leader |
/// an election keeps the first of the uncommitted entries and loses the rest; the leader before, until it is deposed, goes on
/// proposing into a tail that nobody will ever see
/// </code>
/// What Raft guarantees holds here too: an entry of an earlier term is committed only together with one of the current term, committed
/// entries are never lost, at most one replica leads in a term, and the lease of a leader ends with the next election.
/// <para>Deterministic: nothing happens but by a call, and everything that a call causes has happened when it returns (as far as the state machines
/// complete at once). With <see cref="CommitDelay"/> commits come by the clock instead. Threads: safe for concurrent use; callbacks run without a lock.</para>
/// </remarks>
internal sealed class ScriptedCluster : IDisposable
{
    private readonly Lock _gate = new();
    private readonly TimeProvider _timeProvider;
    private readonly List<CommittedEntry> _log = [];         // the entry at index i lies at i - 1
    private readonly List<ITimer> _timers = [];
    private readonly ScriptedRaftGroup[] _groups;
    private LogIndex _committed;
    private LogIndex _compacted;

    public ScriptedCluster(ShardId shard, IReadOnlyList<RaftMember> members, TimeProvider? timeProvider = null)
    {
        Shard = shard;
        Members = members;
        _timeProvider = timeProvider ?? TimeProvider.System;
        _groups = [.. members.Select(member => new ScriptedRaftGroup(this, member.Replica))];
    }

    public ShardId Shard { get; }

    /// <summary>By the last configuration in the log. The replicas themselves are those of the start: a member that is removed is fed on.</summary>
    public IReadOnlyList<RaftMember> Members { get; private set; }

    /// <summary>True: entries are committed only by <see cref="Commit"/>.</summary>
    public bool HoldsCommits { get; set; }

    /// <summary>How long after its proposal an entry is committed; zero: at once.</summary>
    public TimeSpan CommitDelay { get; set; }

    public Term Term { get; private set; }

    /// <summary>Who leads in <see cref="Term"/>; null before the first election.</summary>
    public ReplicaId? Leader { get; private set; }

    public LogIndex CommitIndex
    {
        get
        {
            lock (_gate)
                return _committed;
        }
    }

    public int UncommittedCount
    {
        get
        {
            lock (_gate)
                return _log.Count - (int)_committed.Value;
        }
    }

    public ScriptedRaftGroup this[ReplicaId replica] => _groups.First(group => group.LocalReplica == replica);

    /// <summary>Gives a replica its state machine and feeds it from where that one was recovered; again after a restart.</summary>
    public ScriptedRaftGroup Attach(ReplicaId replica, IRaftStateMachine stateMachine)
    {
        ScriptedRaftGroup group = this[replica];
        group.Attach(stateMachine);
        group.Feed();
        return group;
    }

    /// <summary>A replica stops: it is fed nothing more until it is attached again, and leads no more.</summary>
    public void Detach(ReplicaId replica)
    {
        ScriptedRaftGroup group = this[replica];
        group.Detach();
        Depose(replica);
    }

    /// <summary>A replica is elected in the next term; its first entry is a no-op.</summary>
    /// <param name="leader">The new leader. It has every committed entry.</param>
    /// <param name="keptCount">How many of the entries not yet committed the new leader has; the rest is lost.</param>
    /// <param name="deposeOthers">False: the leader before does not learn of it until <see cref="Depose"/>; only its lease has ended.</param>
    public void Elect(ReplicaId leader, int keptCount = 0, bool deposeOthers = true)
    {
        ScriptedRaftGroup elected = this[leader];
        lock (_gate)
        {
            long kept = Math.Min(_log.Count, _committed.Value + keptCount);
            foreach (ScriptedRaftGroup group in _groups)
                group.LastIndexLocked = new(_log.Count);
            _log.RemoveRange((int)kept, _log.Count - (int)kept);
            Term = new(Term.Value + 1);
            Leader = leader;
            _log.Add(new CommittedEntry(new(_log.Count + 1), Term, RaftEntryKind.NoOp, default));
        }

        foreach (ScriptedRaftGroup group in _groups)
        {
            if (group != elected && (deposeOthers || !group.Status.IsLeader))
                group.ChangeStatus(Follower());
        }

        elected.ChangeStatus(new RaftStatus { Role = RaftRole.Leader, Term = Term, Leader = leader, Members = Members });
        CommitUnlessHeld();
    }

    /// <summary>A former leader learns that it is none any more.</summary>
    public void Depose(ReplicaId replica) => this[replica].ChangeStatus(Follower());

    /// <summary>Commits the next entries, at least up to one of the current term.</summary>
    /// <param name="count">How many; null: all.</param>
    public void Commit(int? count = null)
    {
        lock (_gate)
        {
            long end = count is { } wanted ? Math.Min(_log.Count, _committed.Value + wanted) : _log.Count;
            while (end > 0 && end < _log.Count && _log[(int)end - 1].Term != Term)
                end++;
            if (end > _committed.Value && _log[(int)end - 1].Term == Term)
                _committed = new(end);
        }

        FeedAll();
    }

    /// <summary>Drops the log's beginning: a replica that is behind it needs <see cref="SendSnapshotAsync"/>.</summary>
    public void Compact(LogIndex index)
    {
        lock (_gate)
            _compacted = index <= _committed && index > _compacted ? index : _compacted;
    }

    /// <summary>Brings a replica to the applied state of another one by a snapshot, as a leader does for a follower that is behind its log.</summary>
    public async Task SendSnapshotAsync(ReplicaId from, ReplicaId to, long generation, CancellationToken cancellationToken = default)
    {
        ScriptedRaftGroup receiver = this[to];
        IRaftStateMachine target = receiver.StateMachine ?? throw new InvalidOperationException($"Replica {to} has no state machine.");
        IRaftStateMachine source = this[from].StateMachine ?? throw new InvalidOperationException($"Replica {from} has no state machine.");
        LogIndex index = await source.WriteSnapshotAsync(target.GetGenerationDirectory(generation), cancellationToken).ConfigureAwait(false);
        await target.InstallSnapshotAsync(generation, index, cancellationToken).ConfigureAwait(false);
        receiver.JumpTo(index);
        receiver.Feed();
    }

    public void Dispose()
    {
        lock (_gate)
        {
            foreach (ITimer timer in _timers)
                timer.Dispose();
            _timers.Clear();
        }
    }

    internal RaftStatus Follower() => new() { Role = RaftRole.Follower, Term = Term, Leader = Leader, Members = Members };

    internal bool LeadsNow(ReplicaId replica, Term term) => Leader == replica && Term == term;

    internal bool TryPropose(ScriptedRaftGroup group, Term term, ReadOnlyMemory<byte> payload, out LogIndex index)
    {
        lock (_gate)
        {
            RaftStatus status = group.Status;
            if (!status.IsLeader || status.Term != term)
            {
                index = default;
                return false;
            }

            if (term == Term)
            {
                index = new(_log.Count + 1);
                _log.Add(new CommittedEntry(index, term, RaftEntryKind.Command, payload));
            }
            else
            {
                // A leader of an earlier term that does not know it yet: into a tail that is lost.
                index = group.LastIndexLocked = group.LastIndexLocked.Next;
                return true;
            }
        }

        CommitUnlessHeld();
        return true;
    }

    /// <summary>Appends another configuration and lets the leader count by it.</summary>
    internal bool TryChange(ScriptedRaftGroup group, Term term, IReadOnlyList<RaftMember> members)
    {
        lock (_gate)
        {
            if (!group.Status.IsLeader || group.Status.Term != term || term != Term)
                return false;
            Members = members;
            _log.Add(new CommittedEntry(new(_log.Count + 1), term, RaftEntryKind.Configuration, new RaftConfiguration(members).Encode()));
        }

        group.ChangeStatus(group.Status with { Members = members });
        CommitUnlessHeld();
        return true;
    }

    /// <summary>The next committed entries that a replica has not been fed; empty: none.</summary>
    internal CommittedEntry[] Take(LogIndex after)
    {
        lock (_gate)
        {
            if (after < _compacted)
                return [];
            return [.. _log[(int)after.Value..(int)_committed.Value]];
        }
    }

    private void CommitUnlessHeld()
    {
        if (HoldsCommits)
            return;
        if (CommitDelay <= TimeSpan.Zero)
        {
            Commit();
            return;
        }

        lock (_gate)
        {
            (LogIndex Index, Term Term) last = (new(_log.Count), Term);
            _timers.Add(_timeProvider.CreateTimer(_ => CommitUpTo(last.Index, last.Term), null, CommitDelay, Timeout.InfiniteTimeSpan));
        }
    }

    private void CommitUpTo(LogIndex index, Term term)
    {
        lock (_gate)
        {
            if (HoldsCommits || term != Term || index <= _committed || index.Value > _log.Count)
                return;
            _committed = index;
        }

        FeedAll();
    }

    private void FeedAll()
    {
        foreach (ScriptedRaftGroup group in _groups)
            group.Feed();
    }
}
