using System.Diagnostics;
using ShardForge.Consensus;

namespace ShardForge.Metadata;

/// <summary>Placement: group 0's leader thinks out the steps (<see cref="PlacementPlanner"/>) and records them; each group's leader carries out the one of its group.</summary>
/// <remarks>
/// <code>
/// group 0's leader   plan → AddReplica, RemoveReplica, PreferLeader, RemoveNode        one look at a time, a bounded number of steps under way
/// the node named     creates the replica's log and opens it                            (the root: it hosts them)
/// group's leader     brings it level, adds it / takes it out / hands leadership over → EndChange
/// the node named     deletes a replica that group 0 names no more (R41)
/// </code>
/// Nothing of it is remembered but in group 0: after a crash or a change of leaders whoever leads then finds the step in the state and goes on.
/// </remarks>
internal sealed partial class MetadataService
{
    /// <summary>Steps under way at a time, over the whole cluster: what a move costs is read, sent and written beside the callers' work.</summary>
    private const int ChangesMax = 4;

    /// <summary>How long a node on which a replica is to be added may be out of reach before the step is given up.</summary>
    private static readonly TimeSpan s_addPatience = TimeSpan.FromSeconds(15);

    /// <summary>How long a group's leader tries one step before it begins it anew. Far above what the largest shard takes to be copied: each try copies from the start.</summary>
    private static readonly TimeSpan s_stepLimit = TimeSpan.FromHours(12);

    /// <summary>Between two tries to give leadership to the preferred replica.</summary>
    private static readonly TimeSpan s_preferenceInterval = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan s_planInterval = TimeSpan.FromMilliseconds(500);

    private readonly Dictionary<ReplicaId, long> _unreachableSince = [];
    private readonly Dictionary<ShardId, Task> _stepping = [];
    private readonly Dictionary<ShardId, long> _ledSince = [];
    private Func<ShardId, IRaftGroup?> _findGroup = static _ => null;
    private Func<ShardSplit, ShardInfo, IRaftGroup, CancellationToken, Task<bool>> _split = static (_, _, _, _) => Task.FromResult(false);

    /// <summary>Begins to plan and to carry out.</summary>
    /// <param name="findGroup">The open group of a shard on this node.</param>
    /// <param name="split">Splits a shard that this node leads; true: it is committed.</param>
    public void StartPlacement(Func<ShardId, IRaftGroup?> findGroup, Func<ShardSplit, ShardInfo, IRaftGroup, CancellationToken, Task<bool>> split)
    {
        _findGroup = findGroup;
        _split = split;
        _placement = Task.WhenAll(RunAsync(PlanAsync), RunAsync(CarryOutAsync));
    }

    private Task _placement = Task.CompletedTask;

    private bool IsReachable(string nodeId) =>
        string.Equals(nodeId, NodeId, StringComparison.Ordinal) || _options.Link?.IsConnected(nodeId) == true;

    private async Task PlanAsync()
    {
        while (true)
        {
            ClusterState seen = State;
            if (Replica is { } replica && replica.TryGetServingTerm(out Term _))
            {
                ClusterState state = replica.State;
                foreach (MetadataCommand step in Cancellations(state).Concat(PlacementPlanner.Plan(state, IsReachable, ChangesMax)))
                {
                    ProposalResult result = await ProposeHereAsync(replica, step, _stop.Token).ConfigureAwait(false);
                    if (result.Status == ProposalStatus.Applied)
                        MetadataLog.Placed(_options.Logger, NodeId, step.ToString(), result.Outcome);
                    else
                        break;
                }
            }

            await WaitForNewsAsync(seen.Version, s_planInterval).ConfigureAwait(false);
        }
    }

    private IEnumerable<MetadataCommand> Cancellations(ClusterState state)
    {
        List<MetadataCommand> steps = [];
        long now = Stopwatch.GetTimestamp();
        Look(ShardId.Metadata, state.MetadataGroup);
        foreach (ShardInfo shard in state.Shards)
            Look(shard.Shard, shard.Group);
        return steps;

        void Look(ShardId shard, GroupInfo group)
        {
            if (PlacementPlanner.CancelHopeless(state, shard, group) is { } hopeless)
            {
                steps.Add(hopeless);
            }
            else if (group.Change is { Kind: MemberChange.Add, Replica: RaftMember added })
            {
                if (IsReachable(added.NodeId))
                    _unreachableSince.Remove(added.Replica);
                else if (!_unreachableSince.TryAdd(added.Replica, now) && Stopwatch.GetElapsedTime(_unreachableSince[added.Replica], now) > s_addPatience)
                    steps.Add(new CancelAddCommand(shard, added.Replica));
            }
        }
    }

    /// <summary>Looks at the groups that this node leads, again and again; a step that takes long keeps no other one waiting.</summary>
    private async Task CarryOutAsync()
    {
        try
        {
            while (true)
            {
                ClusterState state = State;
                Look(ShardId.Metadata, state.MetadataGroup, null);
                foreach (ShardInfo shard in state.Shards)
                    Look(shard.Shard, shard.Group, shard);
                await WaitForNewsAsync(state.Version, s_pauseMax).ConfigureAwait(false);
            }
        }
        finally
        {
            await Task.WhenAll(_stepping.Values).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        void Look(ShardId shard, GroupInfo group, ShardInfo? info)
        {
            if (_stepping.TryGetValue(shard, out Task? running))
            {
                if (!running.IsCompleted)
                    return;
                _stepping.Remove(shard);
            }

            if (_findGroup(shard) is not { Status: { IsLeader: true } status } raft)
                _ledSince.Remove(shard);
            else if (info?.Split is not null || group.Change is not null)
                _stepping.Add(shard, RunAsync(() => StepAsync(shard, group, info, raft, status)));
            else if (info is not null && IsToHandOver(info, raft, status))
                _stepping.Add(shard, RunAsync(() => HandOverAsync(info, raft)));
        }
    }

    private async Task StepAsync(ShardId shard, GroupInfo group, ShardInfo? info, IRaftGroup raft, RaftStatus status)
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
        limit.CancelAfter(s_stepLimit);
        try
        {
            if (info?.Split is { } split)
            {
                if (await _split(split, info, raft, limit.Token).ConfigureAwait(false))
                    await ProposeAsync(new EndSplitCommand(shard, split.Child), limit.Token).ConfigureAwait(false);
                return;
            }

            ReplicaChange change = group.Change!;
            if (change.Kind == MemberChange.Remove && change.Replica.Replica == raft.LocalReplica && status.Members.Count > 1)
            {
                await raft.TransferLeadershipAsync(null, limit.Token).ConfigureAwait(false);
                return;
            }

            // While it tries, the step may be cancelled, or a newer state know better.
            using CancellationTokenSource outdated = CancellationTokenSource.CreateLinkedTokenSource(limit.Token);
            Task<bool> changing = raft.ChangeMemberAsync(status.Term, change.Replica, change.Kind, outdated.Token).AsTask();
            while (!changing.IsCompleted)
            {
                ClusterState seen = State;
                if (seen.FindGroup(shard)?.Change != change)
                    await outdated.CancelAsync().ConfigureAwait(false);
                await Task.WhenAny(changing, WaitForNewsAsync(seen.Version, s_planInterval)).ConfigureAwait(false);
            }

            if (await changing.ConfigureAwait(false))
                await ProposeAsync(new EndChangeCommand(shard, change.Replica.Replica), limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!_stop.IsCancellationRequested)
        {
            // The next look finds what there is to do then.
        }
        catch (ObjectDisposedException)
        {
            // The replica was closed.
        }
    }

    /// <summary>Whether another replica should lead, is there, and this one has led long enough that leadership does not go round and round.</summary>
    private bool IsToHandOver(ShardInfo shard, IRaftGroup raft, RaftStatus status)
    {
        if (shard.PreferredLeader == raft.LocalReplica || !status.Members.Any(member => member.Replica == shard.PreferredLeader))
            return false;
        long now = Stopwatch.GetTimestamp();
        if (_ledSince.TryAdd(shard.Shard, now) || Stopwatch.GetElapsedTime(_ledSince[shard.Shard], now) < s_preferenceInterval)
            return false;
        _ledSince[shard.Shard] = now;
        return shard.Group.NodeOf(shard.PreferredLeader) is { } nodeId && IsReachable(nodeId);
    }

    private async Task HandOverAsync(ShardInfo shard, IRaftGroup raft)
    {
        try
        {
            if (await raft.TransferLeadershipAsync(shard.PreferredLeader, _stop.Token).ConfigureAwait(false))
                MetadataLog.HandedOver(_options.Logger, NodeId, shard.Shard, shard.PreferredLeader);
        }
        catch (ObjectDisposedException)
        {
            // The replica was closed.
        }
    }

    /// <summary>Waits for a newer state, but not longer than so, in real time. Loops wait here a few times a second: the end of the time is no exception.</summary>
    public async Task WaitForNewsAsync(ulong version, TimeSpan waitMax)
    {
        Task changed;
        lock (_gate)
            changed = _changed.Task;
        if (Current is { } state && state.Version > version)
            return;
        using CancellationTokenSource end = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
        await Task.WhenAny(changed, Task.Delay(waitMax, end.Token)).ConfigureAwait(false);
        await end.CancelAsync().ConfigureAwait(false);
        _stop.Token.ThrowIfCancellationRequested();
    }
}
