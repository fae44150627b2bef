using System.Diagnostics;
using DotNext.Net.Cluster.Consensus.Raft;

namespace ShardForge.Consensus;

/// <content>What the replica tells of its group, and in which order.</content>
internal sealed partial class DotNextRaftGroup
{
    private readonly Queue<RaftStatus> _statusQueue = new();
    private RaftStatus _status;
    private bool _isPublishing;
    private TaskCompletionSource _statusChanged = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ReplicaId _leader;          // whose append was answered last, and in which term: under _gate
    private Term _leaderTerm;
    private Term _candidateTerm;

    public RaftStatus Status => Volatile.Read(ref _status);

    /// <summary>Ends with the next change of the status. Take it, then look at the status, then wait.</summary>
    private Task StatusChanged => Volatile.Read(ref _statusChanged).Task;

    /// <summary>Works the status out anew; tells the state machine if it is another. One call at a time, in order, by whoever finds nobody at it.</summary>
    private void PublishStatus()
    {
        TaskCompletionSource changed;
        bool isPublishing;
        lock (_gate)
        {
            RaftStatus next = WorkOutStatusLocked();
            if (next == _status)
                return;
            Volatile.Write(ref _status, next);
            changed = _statusChanged;
            Volatile.Write(ref _statusChanged, new(TaskCreationOptions.RunContinuationsAsynchronously));
            _statusQueue.Enqueue(next);
            isPublishing = _isPublishing;
            _isPublishing = true;
        }

        changed.SetResult();
        if (isPublishing)
            return;
        while (TryTakeStatus(out RaftStatus? status))
        {
            RaftLogMessages.StatusChanged(_options.Logger, Shard, LocalReplica, status.Role, status.Term, status.Leader);
            try
            {
                _stateMachine.OnStatusChanged(status);
            }
            catch (Exception error)
            {
                Stop(error);
            }
        }
    }

    private bool TryTakeStatus([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out RaftStatus? status)
    {
        lock (_gate)
        {
            if (_statusQueue.TryDequeue(out status))
                return true;
            _isPublishing = false;
            return false;
        }
    }

    private RaftStatus WorkOutStatusLocked()
    {
        Term term = _log.Log.Term;
        if (IsStopped)
            return new RaftStatus { Role = RaftRole.Stopped, Term = term, Members = _view.Members, Fault = Volatile.Read(ref _fault) };
        if (Volatile.Read(ref _leadership) is { IsOver: false } leadership)
            return new RaftStatus { Role = RaftRole.Leader, Term = leadership.Term, Leader = LocalReplica, Members = _view.Members };
        ReplicaId? leader = _leaderTerm == term && !_leader.IsNone ? _leader : null;
        return new RaftStatus
        {
            Role = leader is null && _candidateTerm == term ? RaftRole.Candidate : RaftRole.Follower,
            Term = term,
            Leader = leader,
            Members = _view.Members,
        };
    }

    /// <summary>An append of that leader was accepted.</summary>
    private void NoteLeader(ReplicaId leader, Term term)
    {
        lock (_gate)
        {
            if (_leader == leader && _leaderTerm == term)
                return;
            _leader = leader;
            _leaderTerm = term;
        }

        PublishStatus();
    }

    private void OnLeaderChanged(RaftCluster<RaftPeer> core, RaftPeer? leader)
    {
        if (leader is null)
        {
            lock (_gate)
                _leader = default;
            PublishStatus();
        }
        else if (!leader.IsRemote && !_leadsAtOnce)
        {
            try
            {
                // Under the library's lock, after the change of state: its term and token are the leadership's.
                BeginLeading();
            }
            catch (Exception error)
            {
                // The library would take it for a reason to stand by, in silence.
                Stop(error);
            }
        }
    }

    void IRaftLogOwner.OnTermChanged() => PublishStatus();
}
