using System.Diagnostics;
using DotNext.Net.Cluster.Consensus.Raft;
using ShardForge.Network;

namespace ShardForge.Consensus;

/// <content>Leadership: where it begins and ends, its lease, read barriers, handing it over, commits that followers have to hear of.</content>
internal sealed partial class DotNextRaftGroup
{
    /// <summary>After which a commit that no append has carried to the followers gets a round of its own: without, they would learn it by the next heartbeat.</summary>
    private static readonly TimeSpan s_commitNoticeDelay = TimeSpan.FromMilliseconds(4);

    /// <summary>A replica that was chosen to lead may be so many entries behind when the hand-over begins.</summary>
    private const int ChosenHeirLagMax = 1_000;

    private readonly ITimer _commitNotice;
    private RaftLeadership? _leadership;
    private long _sentCommit;               // highest commit index that an append carried
    private int _isCommitNoticeDue;         // 1: the timer runs
    private (Term Term, LogIndex Index) _noOp;

    public bool HasLease(Term term) =>
        Volatile.Read(ref _leadership) is { } leadership && leadership.Term == term && !IsStopped
        && leadership.HasLease(Stopwatch.GetTimestamp(), _leaseTicks);

    public bool HasRoom => _options.HasRoom() && (Volatile.Read(ref _leadership) is not { IsOver: false } leadership || leadership.MajorityHasRoom);

    public async ValueTask<LogIndex?> ConfirmLeadershipAsync(Term term, CancellationToken cancellationToken)
    {
        if (Volatile.Read(ref _leadership) is not { IsOver: false } leadership || leadership.Term != term || IsStopped)
            return null;
        if (!IsAlone)
        {
            try
            {
                // Waits for a round that begins after the call; the library shares rounds among all that wait.
                await _core.ForceReplicationAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                throw;
            }
            catch (Exception error) when (error is NotLeaderException or OperationCanceledException or ObjectDisposedException)
            {
                return null;
            }
        }

        // The round may have been another leadership's: only if this one still stands was it this one's.
        if (leadership.IsOver || IsStopped)
            return null;
        // Up to the barrier in any case: a new leader learns what its predecessors committed by committing its own first entry.
        LogIndex commit = CommitIndex;
        return commit > leadership.Barrier ? commit : leadership.Barrier;
    }

    public async ValueTask<bool> TransferLeadershipAsync(ReplicaId? target, CancellationToken cancellationToken)
    {
        if (Volatile.Read(ref _leadership) is not { IsOver: false } leadership || IsStopped)
            return false;
        if (target == LocalReplica || PickHeir(leadership, target) is not { } heir)
            return false;
        // One that was chosen for where it is can wait; to bring it level with proposals closed would cost the callers more than it is worth.
        if (target is not null && _log.Log.LastIndex.Value - leadership.Matched(heir.Ordinal).Value > ChosenHeirLagMax)
            return false;

        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _stopping.Token);
        limit.CancelAfter(_node.PatienceMax * 2);
        leadership.CloseProposals();
        try
        {
            while (leadership.Matched(heir.Ordinal) < _log.Log.LastIndex)
            {
                if (await ConfirmLeadershipAsync(leadership.Term, limit.Token).ConfigureAwait(false) is null)
                    return false;
            }

            // Before anything leaves that could help another to be elected, and for the rest of the term (R04).
            leadership.GiveUpLease();
            if (!await _core.ResignAsync(limit.Token).ConfigureAwait(false))
                return false;
            if (RaftCore.CanSteer)
                await SendHandOverAsync(leadership.Term, heir, limit.Token).ConfigureAwait(false);
            return await WaitForLeaderAsync(heir.Member.Replica, limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return false;
        }
        finally
        {
            leadership.ReopenProposals();
        }
    }

    /// <summary>A follower answered an append that was sent in a term at a time.</summary>
    /// <param name="term">Of the append.</param>
    /// <param name="ordinal">Of the follower.</param>
    /// <param name="sentAt">On the stopwatch.</param>
    /// <param name="matched">What it then has; 0: it did not take it.</param>
    /// <param name="hasRoom">Whether its disk has room (R34).</param>
    internal void OnAppendAnswered(Term term, int ordinal, long sentAt, LogIndex matched, bool hasRoom)
    {
        if (Volatile.Read(ref _leadership) is not { } leadership || leadership.Term != term)
            return;
        leadership.SetRoom(ordinal, hasRoom);
        leadership.Acknowledge(ordinal, sentAt);
        if (matched.Value > 0)
            leadership.SetMatched(ordinal, matched);
    }

    internal void KickReplication() => _core.Kick();

    /// <summary>The commit index to put into an append.</summary>
    internal LogIndex CommitToSend()
    {
        long commit = CommitIndex.Value;
        long before = Volatile.Read(ref _sentCommit);
        if (commit > before)
            Interlocked.CompareExchange(ref _sentCommit, commit, before);       // somebody else's higher one is as good
        return new LogIndex(commit);
    }

    private void NoticeCommit()
    {
        if (!IsAlone && Volatile.Read(ref _leadership) is { IsOver: false } && Interlocked.Exchange(ref _isCommitNoticeDue, 1) == 0)
            _commitNotice.Change(s_commitNoticeDelay, Timeout.InfiniteTimeSpan);
    }

    private void SendCommitNotice()
    {
        Volatile.Write(ref _isCommitNoticeDue, 0);
        if (IsStopped || Volatile.Read(ref _sentCommit) >= CommitIndex.Value)
            return;
        if (_log.Log.LastIndex > CommitIndex)
            NoticeCommit();                 // writes are on their way, and carry it
        else
            _core.Kick();
    }

    /// <summary>At most the lower election timeout, or a majority that hangs is never noticed; more only for what could not travel in that time.</summary>
    internal TimeSpan AppendLimit(int bytes)
    {
        const long SlowBytesPerSecond = 4 * 1024 * 1024;
        TimeSpan travel = TimeSpan.FromSeconds((double)bytes / SlowBytesPerSecond);
        return travel > _node.Patience ? travel : _node.Patience;
    }

    void IRaftLogOwner.OnNoOpAppended(Term term, LogIndex index) => OnNoOpAppended(term, index);

    private void OnNoOpAppended(Term term, LogIndex index)
    {
        lock (_gate)
            _noOp = (term, index);
    }

    private void BeginLeading()
    {
        Term term = _log.Log.Term;
        CancellationToken token = _core.ConsensusToken;
        RaftLeadership leadership;
        lock (_gate)
        {
            Invariant.Require(_noOp.Term == term);
            leadership = new(term, _noOp.Index, _lastOrdinal + 1, token);
            leadership.SetVoters([.. _view.Remote.Select(static peer => peer.Ordinal)]);
            Volatile.Write(ref _leadership, leadership);
        }

        // Runs inside the step-down, before the library takes anything of another leader.
        token.UnsafeRegister(static group => ((DotNextRaftGroup)group!).PublishStatus(), this);
        PublishStatus();
    }

    private RaftPeer? PickHeir(RaftLeadership leadership, ReplicaId? target)
    {
        RaftPeer? best = null;
        long recently = Stopwatch.GetTimestamp() - (long)(_node.Patience.TotalSeconds * Stopwatch.Frequency);
        foreach (RaftPeer peer in _view.Remote)
        {
            bool isCandidate = leadership.AnsweredSend(peer.Ordinal) > recently && (target is null || peer.Member.Replica == target);
            if (isCandidate && (best is null || leadership.Matched(peer.Ordinal) > leadership.Matched(best.Ordinal)))
                best = peer;
        }

        return best;
    }

    private async Task SendHandOverAsync(Term term, RaftPeer heir, CancellationToken cancellationToken)
    {
        ForgetLeader(term);
        // The heir last, when the others are free to vote for it; but it does not wait long for one that may be down.
        Task others = Task.WhenAll(_view.Remote.Where(peer => peer != heir).Select(peer => SendHandOverAsync(peer, term, heir.Member.Replica, cancellationToken)));
        await others.WaitAsync(_node.Patience / 4, CancellationToken.None).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await SendHandOverAsync(heir, term, heir.Member.Replica, cancellationToken).ConfigureAwait(false);
        await others.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private async Task SendHandOverAsync(RaftPeer peer, Term term, ReplicaId heir, CancellationToken cancellationToken)
    {
        PeerBuffer message = RaftMessage.Create(peer.Header(RaftMessageKind.HandOver, term), 8);
        RaftMessage.Write(message, (long)heir.Value);
        try
        {
            using PeerBuffer reply = await peer.RequestAsync(message, bulk: false, _node.Patience / 2, cancellationToken).ConfigureAwait(false);
            peer.Read(reply, RaftMessageKind.HandOver, bodyBytes: 0);
        }
        catch (DotNext.Net.Cluster.MemberUnavailableException)
        {
            // It will find out by its election timer.
        }
    }

    private async Task<bool> WaitForLeaderAsync(ReplicaId leader, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed = StatusChanged;
            if (Status.Leader == leader)
                return true;
            await changed.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }
}
