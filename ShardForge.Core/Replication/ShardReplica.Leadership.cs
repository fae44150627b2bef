using ShardForge.Consensus;

namespace ShardForge.Replication;

internal sealed partial class ShardReplica
{
    private const int OracleRetryMilliseconds = 20, OracleRetryMillisecondsMax = 500;

    private readonly List<Task> _takeOvers = [];

    /// <summary>Begins or ends the leadership of a term. May come under the group's own locks: it wakes nobody inline unless a test asked for that.</summary>
    public void OnStatusChanged(RaftStatus status)
    {
        if (status.Fault is not null)
        {
            Stop(status.Fault);
            return;
        }

        ReleasedWaiters released = new();
        LeaderState? begun = null;
        lock (_gate)
        {
            if (_fault is not null)
                return;
            LeaderState? leader = _leader;
            if (leader is not null && (!status.IsLeader || status.Term != leader.Term))
            {
                LoseLocked(leader, released);
                LogLost(_logger, Shard, _options.NodeId, leader.Term, status.Leader, status.Term);
            }

            if (status.IsLeader && _leader is null && status.Term > _lastLedTerm)
            {
                _lastLedTerm = status.Term;
                _leader = new LeaderState(status.Term, _continuations);
                if (_appliedTerm == status.Term || !_rules.R10WaitsForOwnEntry)
                    begun = _leader;
            }
        }

        released.Wake();
        if (begun is not null)
            BeginTakeOver(begun);
    }

    // R10: an entry of the own term is applied, so everything committed before it is; now highestRead starts at a fresh timestamp. Fresh means asked
    // for now: whatever an earlier leader answered to a read is below it, and so is every M that it fixed.
    private void BeginTakeOver(LeaderState leader)
    {
        Task begun = TakeOverAsync(leader);
        lock (_takeOvers)
        {
            _takeOvers.RemoveAll(static task => task.IsCompleted);
            _takeOvers.Add(begun);
        }
    }

    private async Task EndTakeOversAsync()
    {
        Task[] left;
        lock (_takeOvers)
            left = [.. _takeOvers];
        await Task.WhenAll(left).ConfigureAwait(false);
    }

    private async Task TakeOverAsync(LeaderState leader)
    {
        int delayMilliseconds = OracleRetryMilliseconds;
        while (!leader.IsLost && !_stopping.IsCancellationRequested)
        {
            try
            {
                Timestamp fresh = _rules.R10StartsAtFreshTimestamp ? await _timestamps.NextAsync(_stopping.Token).ConfigureAwait(false) : default;
                lock (_gate)
                {
                    if (leader.IsLost)
                        return;
                    leader.StartServingLocked(fresh);
                    foreach (PendingCommand command in _evaluatedInOldTerm)
                        leader.ToPropose.Enqueue(command);
                    _evaluatedInOldTerm.Clear();
                }

                LogServing(_logger, Shard, _options.NodeId, leader.Term, fresh);
                leader.CompleteServing(serving: true);
                Propose(leader);
                return;
            }
            catch (Exception error) when (error is OperationCanceledException or ShardForgeException or ObjectDisposedException)
            {
                // Without the oracle nothing is served; its group may be electing too. The loop ends with the leadership.
                if (_stopping.IsCancellationRequested)
                    return;
            }

            try
            {
                await Task.Delay(TimeSpan.FromMilliseconds(delayMilliseconds), _options.TimeProvider, _stopping.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                return;
            }

            delayMilliseconds = Math.Min(2 * delayMilliseconds, OracleRetryMillisecondsMax);
        }
    }

    // The replica serves no more: a fault, or its end. What is in flight stays unknown.
    private void Stop(Exception fault)
    {
        ReleasedWaiters released = new();
        lock (_gate)
        {
            if (_fault is not null)
                return;
            _fault = fault;
            if (_leader is { } leader)
                LoseLocked(leader, released);
            foreach (ProposedEntry proposed in _proposed.Values)
                EndLocked(proposed, CommandFate.Stopped, released);
            _proposed.Clear();
        }

        if (fault is not ObjectDisposedException)
            LogFault(_logger, Shard, _options.NodeId, fault);
        released.Wake();
    }

    private void LoseLocked(LeaderState leader, ReleasedWaiters released)
    {
        leader.LoseLocked(released);
        RefuseQueuedLocked(leader, released);
        if (_leader == leader)
            _leader = null;
    }
}
