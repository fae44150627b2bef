namespace ShardForge.Consensus.Scripted;

/// <summary>One replica's view of a <see cref="ScriptedCluster"/>.</summary>
internal sealed class ScriptedRaftGroup(ScriptedCluster cluster, ReplicaId replica) : IRaftGroup
{
    private readonly Lock _gate = new();
    private readonly CancellationTokenSource _stopping = new();
    private volatile RaftStatus _status = cluster.Follower();
    private IRaftStateMachine? _stateMachine;
    private LogIndex _applied;
    private Task _feeding = Task.CompletedTask;
    private bool _isFeeding, _holdsApplies, _isDisposed;

    public ShardId Shard => cluster.Shard;

    public ReplicaId LocalReplica => replica;

    public RaftStatus Status => _status;

    public LogIndex CommitIndex => HoldsApplies ? AppliedIndex : cluster.CommitIndex;

    public LogIndex AppliedIndex
    {
        get
        {
            lock (_gate)
                return _applied;
        }
    }

    /// <summary>What the state machine let go of.</summary>
    public LogIndex ReleasedIndex { get; private set; }

    /// <summary>True: this replica is fed nothing.</summary>
    public bool HoldsApplies
    {
        get => _holdsApplies;
        set
        {
            _holdsApplies = value;
            Feed();
        }
    }

    /// <summary>False: the lease has run out, though the replica may still lead. An election ends it anyway.</summary>
    public bool LeaseIsValid { get; set; } = true;

    /// <summary>False: it reaches no majority, so it gets no read barrier.</summary>
    public bool ReachesMajority { get; set; } = true;

    /// <summary>Set to false: as with a full disk.</summary>
    public bool HasRoom { get; set; } = true;

    internal IRaftStateMachine? StateMachine => _stateMachine;

    /// <summary>End of this replica's own log, for a leader whose tail is lost. Guarded by the cluster's gate.</summary>
    internal LogIndex LastIndexLocked { get; set; }

    public bool TryPropose(Term term, ReadOnlyMemory<byte> entry, out LogIndex index) => cluster.TryPropose(this, term, entry, out index);

    public bool HasLease(Term term) => LeaseIsValid && _status.IsLeader && _status.Term == term && cluster.LeadsNow(replica, term);

    public ValueTask<LogIndex?> ConfirmLeadershipAsync(Term term, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return new(ReachesMajority && _status.IsLeader && _status.Term == term && cluster.LeadsNow(replica, term) ? (LogIndex?)cluster.CommitIndex : null);
    }

    public ValueTask<bool> TransferLeadershipAsync(ReplicaId? target, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (!cluster.LeadsNow(replica, _status.Term))
            return new(result: false);
        ReplicaId next = target ?? cluster.Members.First(member => member.Replica != replica).Replica;
        cluster.Elect(next, keptCount: cluster.UncommittedCount);
        return new(result: true);
    }

    public ValueTask<bool> CatchUpAsync(Term term, RaftMember learner, CancellationToken cancellationToken) => new(_status.IsLeader && _status.Term == term);

    public ValueTask<bool> ChangeMemberAsync(Term term, RaftMember member, MemberChange change, CancellationToken cancellationToken)
    {
        IReadOnlyList<RaftMember> members = cluster.Members;
        if (members.Contains(member) == (change == MemberChange.Add))
            return new(_status.IsLeader && _status.Term == term);
        return new(cluster.TryChange(this, term, change == MemberChange.Add ? [.. members, member] : [.. members.Where(other => other != member)]));
    }

    public void ReleaseLog(LogIndex index) => ReleasedIndex = index > ReleasedIndex ? index : ReleasedIndex;

    public async ValueTask DisposeAsync()
    {
        if (_isDisposed)
            return;
        ChangeStatus(cluster.Follower() with { Role = RaftRole.Stopped });
        _isDisposed = true;
        Detach();
        await _stopping.CancelAsync().ConfigureAwait(false);
        await _feeding.ConfigureAwait(false);
        _stopping.Dispose();
    }

    internal void Attach(IRaftStateMachine stateMachine)
    {
        lock (_gate)
        {
            _stateMachine = stateMachine;
            _applied = stateMachine.RecoveredIndex;
        }
    }

    internal void Detach()
    {
        lock (_gate)
            _stateMachine = null;
    }

    internal void JumpTo(LogIndex index)
    {
        lock (_gate)
            _applied = index;
    }

    internal void ChangeStatus(RaftStatus status)
    {
        if (_isDisposed)
            return;
        _status = status;
        _stateMachine?.OnStatusChanged(status);
    }

    /// <summary>Feeds what is committed. One caller at a time: others leave it to the one that is at it.</summary>
    internal void Feed()
    {
        lock (_gate)
        {
            if (_isFeeding)
                return;
            _isFeeding = true;
        }

        _feeding = FeedAsync();
    }

    private async Task FeedAsync()
    {
        while (TryTake(out IRaftStateMachine? stateMachine, out CommittedEntry[] entries))
        {
            try
            {
                await stateMachine.ApplyAsync(entries, _stopping.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (_stopping.IsCancellationRequested)
            {
                continue;
            }
            catch (Exception error)
            {
                Detach();
                ChangeStatus(cluster.Follower() with { Role = RaftRole.Stopped, Fault = error });
                continue;
            }

            lock (_gate)
                _applied = entries[^1].Index;
        }
    }

    private bool TryTake([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out IRaftStateMachine? stateMachine, out CommittedEntry[] entries)
    {
        lock (_gate)
        {
            stateMachine = _stateMachine;
            entries = stateMachine is null || _holdsApplies ? [] : cluster.Take(_applied);
            if (stateMachine is not null && entries.Length > 0)
                return true;
            _isFeeding = false;
            return false;
        }
    }
}
