using System.Diagnostics;
using DotNext.Net.Cluster.Consensus.Raft;
using ShardForge.Consensus.NodeLog;

namespace ShardForge.Consensus;

/// <summary>One replica of a Raft group on DotNext.</summary>
/// <remarks><code>
/// TryPropose ──► IReplicaLog ──► kick ──► RaftCore (rounds, elections) ──► RaftPeer ──► IRaftLink ──► the others
///                    ▲                        │  ▲
///                 RaftLog ◄───────────────────┘  └── RaftNode ◄── IRaftLink: votes, appends, snapshots
///                    │ committed and durable
///                    ▼
///               apply loop ──► IRaftStateMachine
/// </code>
/// Partials: <c>Apply</c> (the loop, log compaction), <c>Leading</c> (leadership, lease, barrier, handing over), <c>Elections</c>, <c>Messages</c> (what others ask),
/// <c>Members</c>, <c>Snapshots</c> and <c>IncomingSnapshots</c>, <c>Status</c>.
/// <para>The library's part is elections, rounds and the commit index. Ours: the log and what is durable when, leases, proposals with their term, snapshots'
/// bytes, first elections. Proposals do not go through the library: it tells outcomes by index alone.</para>
/// <para>A replica that cannot go on (failed log, broken invariant, error of the state machine, the library's dead state, for which it has no event)
/// stops: it answers nobody, and its status says why. There is no way back but to open it again.</para>
/// <para>Locks: the library's transition lock, held through our log's appends; nothing of ours is awaited under <c>_gate</c>.</para>
/// </remarks>
internal sealed partial class DotNextRaftGroup : IRaftGroup, IRaftLogOwner
{
    private readonly RaftNode _node;
    private readonly RaftNodeOptions _options;
    private readonly RaftGroupOptions _groupOptions;
    private readonly IRaftStateMachine _stateMachine;
    private readonly RaftLog _log;
    private readonly RaftCore _core;
    private readonly CancellationTokenSource _stopping = new();
    private readonly long _openedAt = Stopwatch.GetTimestamp();
    private readonly long _leaseTicks;
    private readonly Lock _gate = new();
    private Task _applying = Task.CompletedTask;
    private bool _leadsAtOnce;              // while the library starts a group of one, whose leadership begins by hand
    private Task? _coreStopped;
    private Exception? _fault;
    private int _disposed;

    private DotNextRaftGroup(RaftNode node, ShardId shard, IReplicaLog log, IRaftStateMachine stateMachine, RaftGroupOptions groupOptions)
    {
        _node = node;
        _options = node.Options;
        _groupOptions = groupOptions;
        _stateMachine = stateMachine;
        _leaseTicks = (long)(_options.LeaseDuration.TotalSeconds * Stopwatch.Frequency);
        Shard = shard;
        LocalReplica = log.Replica;

        LogIndex recovered = stateMachine.RecoveredIndex;
        if (recovered < log.CompactedIndex || recovered > log.LastIndex)
        {
            throw new CorruptionException($"shard {shard}, replica {log.Replica}", recovered.Value,
                $"the state covers index {recovered}, but the log holds what follows {log.CompactedIndex} up to {log.LastIndex}. Nothing was changed.");
        }

        _applied = recovered.Value;
        _tail = new LogTail(_options.LogTailBytesMax);
        _log = RaftLog.Create(log, this, recovered, _options.AppendBytesMax);
        _view = ReadMembersLocked(log.LastConfiguration.Configuration, before: null);
        _localPeer = new RaftPeer(this, _view.Find(LocalReplica) ?? new RaftMember(LocalReplica, ""), RaftPeer.LocalOrdinal);

        _commitNotice = TimeProvider.System.CreateTimer(
            static group => ((DotNextRaftGroup)group!).SendCommitNotice(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        _core = new RaftCore(_options, _log);
        _core.LeaderChanged += OnLeaderChanged;
        _status = new RaftStatus { Role = RaftRole.Follower, Term = log.Term, Members = _view.Members };
    }

    public ShardId Shard { get; }

    public ReplicaId LocalReplica { get; }

    public LogIndex CommitIndex => _log.Committed;

    internal IRaftLink Link => _node.Link;

    /// <summary>A vote that is not there after this is none; the round goes on without it.</summary>
    internal TimeSpan VoteLimit => _node.Patience;

    private bool IsStopped => Volatile.Read(ref _disposed) != 0 || Volatile.Read(ref _fault) is not null;

    /// <summary>Opens the replica and lets it take part. <paramref name="log"/> and <paramref name="stateMachine"/> stay the caller's.</summary>
    internal static async ValueTask<DotNextRaftGroup> OpenAsync(
        RaftNode node, ShardId shard, IReplicaLog log, IRaftStateMachine stateMachine, RaftGroupOptions options, CancellationToken cancellationToken)
    {
        DotNextRaftGroup group = new(node, shard, log, stateMachine, options);
        try
        {
            await group.StartAsync(cancellationToken).ConfigureAwait(false);
            return group;
        }
        catch
        {
            await group.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    public bool TryPropose(Term term, ReadOnlyMemory<byte> entry, out LogIndex index)
    {
        index = default;
        RaftLeadership? leadership = Volatile.Read(ref _leadership);
        if (leadership is null || leadership.Term != term || !leadership.TakesProposals || IsStopped)
            return false;
        try
        {
            // Between the look above and here the term may end: then the log refuses. Or only the leadership, in the same term: then the entry is
            // as good as one appended a moment earlier, since nobody else appends in this term.
            if (!_log.Log.TryAppend(term, RaftEntryKind.Command, entry, out index))
                return false;
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

        _core.Kick();
        return true;
    }

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        _node.Remove(this);
        await _stopping.CancelAsync().ConfigureAwait(false);
        _applySignal.Writer.TryWrite(0);
        await _commitNotice.DisposeAsync().ConfigureAwait(false);
        await StopCoreAsync().ConfigureAwait(false);
        await _applying.ConfigureAwait(false);
        await _takingOver.ConfigureAwait(false);
        await CloseIncomingSnapshotAsync().ConfigureAwait(false);
        PublishStatus();
        _stopping.Dispose();
    }

    /// <summary>Ends the replica's part in the group; it says why in its status. Returns at once, may be called under any lock.</summary>
    internal void Stop(Exception fault)
    {
        if (Interlocked.CompareExchange(ref _fault, fault, null) is not null)
            return;
        RaftLogMessages.Stopped(_options.Logger, Shard, LocalReplica, fault);
        _ = StopCoreAsync();            // kept in _coreStopped; DisposeAsync awaits it
        _applySignal.Writer.TryWrite(0);
        PublishStatus();
    }

    /// <summary>Whether the library or the log gave up without an event of its own. Called now and then by the node.</summary>
    internal void CheckHealth()
    {
        if (IsStopped)
            return;
        if (_log.Log.Failure is { } failure)
        {
            Stop(failure);
            return;
        }

        try
        {
            _ = _core.ConsensusToken;
        }
        catch (UnreachableException dead)
        {
            Stop(dead);
        }
        catch (ObjectDisposedException)
        {
            // It is being closed.
            return;
        }

        CompactLog();
    }

    void IRaftLogOwner.OnLogFailed(Exception error) => OnLogFailed(error);

    private void OnLogFailed(Exception error) =>
        Stop(error as IOException ?? new IOException($"The log of replica {LocalReplica} of shard {Shard} failed: {error.Message}", error));

    private async Task StartAsync(CancellationToken cancellationToken)
    {
        IReplicaLog log = _log.Log;
        bool leadsAtOnce = IsAlone;
        if (leadsAtOnce)
        {
            // The library leads such a group at once, in the term it finds and without an entry of its own. A term that was led before must not be led
            // again, and nothing is known to be committed before an own entry is (R39).
            await log.SetHardStateAsync(new Term(log.Term.Value + 1), LocalReplica, cancellationToken).ConfigureAwait(false);
        }

        ApplySlack();
        _leadsAtOnce = leadsAtOnce;
        await _core.OpenAsync([_localPeer, .. _view.Remote], cancellationToken).ConfigureAwait(false);
        _leadsAtOnce = false;
        if (leadsAtOnce)
        {
            Invariant.Require(log.TryAppend(log.Term, RaftEntryKind.NoOp, default, out LogIndex barrier));
            OnNoOpAppended(log.Term, barrier);
            BeginLeading();
        }

        _applying = ApplyLoopAsync();
        _node.Add(this);
        ApplySlack();       // it may have changed since
        if (_groupOptions.IsNew && !leadsAtOnce)
        {
            if (_groupOptions.IsPreferredFirstLeader)
                BeginCampaign();
            else
                HoldBack();
        }

        _core.Follow();
        PublishStatus();
    }

    private Task StopCoreAsync()
    {
        lock (_gate)
            return _coreStopped ??= StopAsync();

        async Task StopAsync()
        {
            await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);      // the caller may hold the library's lock
            try
            {
                await _core.StopAsync(CancellationToken.None).ConfigureAwait(false);
                await _core.DisposeAsync().ConfigureAwait(false);
            }
            catch (Exception error)
            {
                RaftLogMessages.StopFailed(_options.Logger, Shard, LocalReplica, error);
            }
        }
    }
}
