using DotNext.Net.Cluster;
using DotNext.Net.Cluster.Consensus.Raft;
using ShardForge.Consensus.NodeLog;

namespace ShardForge.Consensus;

/// <content>Who belongs to the group: one change at a time, which counts from its append (R39).</content>
/// <remarks><code>
/// leader    CatchUpAsync: snapshot, log ──► learner      ChangeMemberAsync: configuration entry appended ──► switch ──► kick ──► applied
/// follower  append with a configuration (or one that cuts it off) ──► switch ──► answer
/// start     the last configuration in the log, committed or not
/// </code>
/// <para>Why the leader may switch a moment after its append: any majority of a configuration meets any majority of the next one, so a round that still
/// counts by the former commits nothing that the latter could lose. A follower switches before it answers, and asks for no votes before it has switched: else
/// two changes in a row could leave it with a majority of its own that meets none of the present ones.</para>
/// <para>The library's list always has the local replica, member or not: without, it would freeze for good. A replica that is no member asks for no votes.</para></remarks>
internal sealed partial class DotNextRaftGroup
{
    private static readonly TimeSpan s_learnerRetry = TimeSpan.FromMilliseconds(20);

    private readonly SemaphoreSlim _membersTurn = new(1, 1);               // no wait handle is made of it, so it holds nothing
    private readonly Dictionary<ReplicaId, RaftPeer> _learners = [];       // under _gate
    private readonly RaftPeer _localPeer;
    private volatile RaftMembers _view;
    private int _lastOrdinal = -1;
    private int _isChangingMembers;

    /// <summary>Whether this replica may ask for votes: it is a member, by the configuration that its log ends with.</summary>
    internal bool MayCampaign => _view is { HasLocal: true } view && view.Is(_log.Log.LastConfiguration.Configuration);

    internal int MemberCount => _view.Members.Count;

    private bool IsAlone => _view.IsAlone;

    public async ValueTask<bool> CatchUpAsync(Term term, RaftMember learner, CancellationToken cancellationToken)
    {
        if (Volatile.Read(ref _leadership) is not { IsOver: false } leadership || leadership.Term != term || IsStopped)
            return false;
        using CancellationTokenSource end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, leadership.Token, _stopping.Token);
        try
        {
            return await CatchUpAsync(leadership, PeerFor(learner), end.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return false;
        }
    }

    public async ValueTask<bool> ChangeMemberAsync(Term term, RaftMember member, MemberChange change, CancellationToken cancellationToken)
    {
        if (Volatile.Read(ref _leadership) is not { IsOver: false } leadership || leadership.Term != term || IsStopped)
            return false;
        if (Interlocked.Exchange(ref _isChangingMembers, 1) != 0)
            return false;
        using CancellationTokenSource end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, leadership.Token, _stopping.Token);
        try
        {
            return await ChangeMemberAsync(leadership, member, change, end.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return false;           // another leads now; it knows the change if that was appended, and may be asked again
        }
        finally
        {
            Volatile.Write(ref _isChangingMembers, 0);
        }
    }

    private async ValueTask<bool> ChangeMemberAsync(RaftLeadership leadership, RaftMember member, MemberChange change, CancellationToken cancellationToken)
    {
        // R39: an entry of the own term first, and the change before this one.
        await _log.Waiters.WaitAsync(leadership.Barrier, leadership.Term, cancellationToken).ConfigureAwait(false);
        await _log.Waiters.WaitAsync(_log.Log.LastConfiguration.Index, null, cancellationToken).ConfigureAwait(false);
        RaftMembers view = _view;
        bool isMember = view.Find(member.Replica) is not null;
        if (isMember == (change == MemberChange.Add))
            return true;
        // A leader that left would leave the others without one until their timers run out: leadership is handed over before.
        if (change == MemberChange.Remove && (member.Replica == LocalReplica || view.Members.Count == 1))
            return false;
        if (change == MemberChange.Add && !await CatchUpAsync(leadership, PeerFor(member), cancellationToken).ConfigureAwait(false))
            return false;

        List<RaftMember> members = [.. view.Members.Where(other => other.Replica != member.Replica)];
        if (change == MemberChange.Add)
            members.Add(member);
        members.Sort(static (left, right) => left.Replica.Value.CompareTo(right.Replica.Value));
        if (!leadership.TakesProposals || !ReferenceEquals(view, _view) || !TryAppendConfiguration(leadership.Term, new RaftConfiguration(members).Encode(), out LogIndex index))
            return false;
        await SwitchMembersAsync(_stopping.Token).ConfigureAwait(false);
        _core.Kick();
        RaftLogMessages.MembersChanged(_options.Logger, Shard, LocalReplica, change, member.Replica, member.NodeId, index);
        await _log.Waiters.WaitAsync(index, leadership.Term, cancellationToken).ConfigureAwait(false);
        return true;
    }

    private bool TryAppendConfiguration(Term term, byte[] configuration, out LogIndex index)
    {
        index = default;
        try
        {
            return _log.Log.TryAppend(term, RaftEntryKind.Configuration, configuration, out index);
        }
        catch (OverloadedException)
        {
            return false;           // the disk is full; it passes
        }
        catch (Exception error)
        {
            OnLogFailed(error);
            return false;
        }
    }

    /// <summary>Brings a replica that is no member level with this log: a snapshot where it has nothing, or where the entries are gone, then entries.</summary>
    private async ValueTask<bool> CatchUpAsync(RaftLeadership leadership, RaftPeer learner, CancellationToken cancellationToken)
    {
        Term term = leadership.Term;
        string pin = $"learner-{learner.Member.Replica}";
        SetPin(pin, _log.Log.CompactedIndex.Value);
        try
        {
            LogIndex next = _log.Log.LastIndex.Next;
            bool needsSnapshot = false;
            while (true)
            {
                cancellationToken.ThrowIfCancellationRequested();
                try
                {
                    LogIndex previous = new(next.Value - 1);
                    if (needsSnapshot || _log.Log.TermAt(previous) is not { } previousTerm)
                    {
                        if (await SendSnapshotToLearnerAsync(learner, term, cancellationToken).ConfigureAwait(false) is not { } covered)
                            return false;
                        next = covered.Next;
                        needsSnapshot = false;
                        continue;
                    }

                    SetPin(pin, previous.Value);
                    Result<ReplicationStatus> result = await SendToLearnerAsync(learner, term, previous, previousTerm, cancellationToken).ConfigureAwait(false);
                    if (result.Term > term.Value)
                        return false;
                    if (result.Value.Result == HeartbeatResult.Rejected)
                    {
                        // What an empty one starts with is not the beginning of the log (a split child, a group that was formed otherwise): it takes the state.
                        needsSnapshot = result.Value.LastIndex <= 0;
                        next = new(Math.Min(previous.Value, Math.Max(result.Value.LastIndex, 0) + 1));
                        continue;
                    }

                    next = leadership.Matched(learner.Ordinal).Next;
                    if (next > _log.Log.LastIndex)
                        return true;
                }
                catch (Exception error) when (error is MemberUnavailableException or IOException or OverloadedException)
                {
                    // Not there yet, or its replica is not: whoever asked says for how long to try.
                    await Task.Delay(s_learnerRetry, cancellationToken).ConfigureAwait(false);
                }
            }
        }
        finally
        {
            EndPin(pin);
        }
    }

    private async ValueTask<Result<ReplicationStatus>> SendToLearnerAsync(RaftPeer learner, Term term, LogIndex previous, Term previousTerm, CancellationToken cancellationToken)
    {
        LogIndex last = _log.Log.LastIndex;
        if (previous >= last)
            return await learner.AppendEntriesAsync<RaftLogEntry, RaftEntryList>(term.Value, RaftEntryList.Empty, previous.Value, previousTerm.Value, 0, cancellationToken).ConfigureAwait(false);
        using ReplicaLogLease lease = _log.Log.Read(previous.Next, last, _options.AppendBytesMax);
        return await learner.AppendEntriesAsync<RaftLogEntry, RaftEntryList>(
            term.Value, new RaftEntryList(lease, isCapped: false), previous.Value, previousTerm.Value, 0, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask<LogIndex?> SendSnapshotToLearnerAsync(RaftPeer learner, Term term, CancellationToken cancellationToken)
    {
        if (!await WouldTakeSnapshotAsync(learner, term, cancellationToken).ConfigureAwait(false))
            throw new MemberUnavailableException(learner, $"Replica {learner.Member.Replica} on {learner.Member.NodeId} does not answer yet.");
        RaftSnapshot snapshot = await CopyStateAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            (Term answered, SnapshotResult result) = await SendSnapshotAsync(learner, term, snapshot, cancellationToken).ConfigureAwait(false);
            if (answered > term)
                return null;
            return result == SnapshotResult.Rejected ? throw new MemberUnavailableException(learner, $"Replica {learner.Member.Replica} did not take the snapshot.") : snapshot.Index;
        }
        finally
        {
            await RemoveCopyAsync(snapshot.Directory).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// Lets the library answer a question for a vote of a replica that is no member by the configuration here. It has to be answered: the entry that added the
    /// asking one may have reached others only, which cannot win without this vote. Terms and logs decide, as ever. The library refuses
    /// whom it does not know, so it knows that one for so long, as a member that never answers.
    /// </summary>
    private async ValueTask<T> AskAsMemberAsync<T>(ReplicaId sender, Func<ValueTask<T>> ask, CancellationToken cancellationToken)
    {
        if (!IsStranger(sender))
            return await ask().ConfigureAwait(false);
        await _membersTurn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (!IsStranger(sender))
                return await ask().ConfigureAwait(false);
            RaftPeer[] guest = [new RaftPeer(this, new RaftMember(sender, "guest"), RaftPeer.GuestOrdinal)];
            await _core.SwitchMembersAsync(() => (guest, []), cancellationToken).ConfigureAwait(false);
            try
            {
                return await ask().ConfigureAwait(false);
            }
            finally
            {
                await _core.SwitchMembersAsync(() => ([], guest), _stopping.Token).ConfigureAwait(false);
            }
        }
        finally
        {
            _membersTurn.Release();
        }
    }

    /// <summary>Not while this replica leads: it would refuse anyway, and a member that never answers would count against its majorities.</summary>
    private bool IsStranger(ReplicaId sender) => _view.Find(sender) is null && Volatile.Read(ref _leadership) is not { IsOver: false };

    /// <summary>Where the log ends with another configuration than the one that counts here, that one counts from now on. Not from inside the library's lock.</summary>
    private async ValueTask SwitchMembersAsync(CancellationToken cancellationToken)
    {
        if (_view.Is(_log.Log.LastConfiguration.Configuration))
            return;
        // Not while a guest is in the library's list: it may be the one that is added.
        await _membersTurn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await _core.SwitchMembersAsync(WorkOutSwitch, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _membersTurn.Release();
        }

        PublishStatus();
    }

    /// <summary>Under the library's lock, so that followers append nothing meanwhile.</summary>
    private (IReadOnlyList<RaftPeer> Added, IReadOnlyList<RaftPeer> Removed) WorkOutSwitch()
    {
        lock (_gate)
        {
            ReadOnlyMemory<byte> last = _log.Log.LastConfiguration.Configuration;
            RaftMembers before = _view;
            if (before.Is(last))
                return ([], []);
            RaftMembers after = ReadMembersLocked(last, before);
            _leadership?.SetVoters([.. after.Remote.Select(static peer => peer.Ordinal)]);
            _view = after;
            return ([.. after.Remote.Except(before.Remote)], [.. before.Remote.Except(after.Remote)]);
        }
    }

    private RaftMembers ReadMembersLocked(ReadOnlyMemory<byte> configuration, RaftMembers? before)
    {
        IReadOnlyList<RaftMember> members = RaftConfiguration.Decode(configuration.Span).Members;
        List<RaftPeer> remote = [];
        bool hasLocal = false;
        foreach (RaftMember member in members)
        {
            if (member.Replica == LocalReplica)
            {
                hasLocal = true;
                continue;
            }

            RaftPeer? known = before?.FindRemote(member.Replica);
            if (known is null && _learners.Remove(member.Replica, out RaftPeer? learner))
                known = learner;
            remote.Add(known?.Member == member ? known : new RaftPeer(this, member, ++_lastOrdinal));
        }

        return new RaftMembers(configuration, members, [.. remote], hasLocal);
    }

    private RaftPeer PeerFor(RaftMember learner)
    {
        lock (_gate)
        {
            if (_view.FindRemote(learner.Replica) is { } member)
                return member;
            if (!_learners.TryGetValue(learner.Replica, out RaftPeer? peer))
                _learners.Add(learner.Replica, peer = new RaftPeer(this, learner, ++_lastOrdinal));
            return peer;
        }
    }
}
