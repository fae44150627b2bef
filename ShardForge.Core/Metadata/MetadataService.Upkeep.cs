using ShardForge.Consensus;
using ShardForge.Metadata.Formation;

namespace ShardForge.Metadata;

/// <summary>What a member does on its own: registers this run, follows the state where no replica of group 0 brings it, keeps the cache, raises the feature level.</summary>
internal sealed partial class MetadataService
{
    private static readonly TimeSpan s_followWait = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan s_followTimeout = TimeSpan.FromSeconds(4);

    private readonly SemaphoreSlim _wake = new(0);
    private Task _upkeep = Task.CompletedTask;

    private void WakeUpkeep() => _wake.Release();

    private void OnLeadershipChanged()
    {
        TaskCompletionSource news;
        lock (_gate)
        {
            news = _leaderNews;
            _leaderNews = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        news.SetResult();
        if (Replica?.TryGetServingTerm(out Term _) != true)
            return;
        MetadataLog.Serving(_options.Logger, NodeId);
        WakeUpkeep();
    }

    /// <summary>The top of a loop: ends with the service, and never fails. A failure ends the loop; the node goes on with what it knows, and says so.</summary>
    private async Task RunAsync(Func<Task> loop)
    {
        try
        {
            await loop().ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            // Stopped.
        }
        catch (Exception error)
        {
            MetadataLog.UpkeepFailed(_options.Logger, NodeId, error);
        }
    }

    /// <summary>Has group 0 know this run: address, open counter, feature level (R38, R42). In the cluster's first run the record has it already.</summary>
    private async Task RegisterAsync()
    {
        RegisterNodeCommand registration = Registration();
        if (State.FindNode(NodeId) is { IsRemoved: false } known
            && string.Equals(known.Address, registration.Address, StringComparison.Ordinal)
            && known.InstanceId == registration.InstanceId
            && known.OpenCounter == registration.OpenCounter
            && known.SupportedFeatureLevel == registration.SupportedFeatureLevel)
        {
            return;
        }

        MetadataOutcome outcome = await ProposeAsync(registration, _stop.Token).ConfigureAwait(false);
        if (outcome != MetadataOutcome.Ok)
        {
            MetadataLog.RegistrationRefused(_options.Logger, NodeId, outcome);
            Reject(FormationErrors.Refused(RefusalOf(outcome), NodeId, "the metadata group says so"));
        }
    }

    /// <summary>On a node without a replica of group 0: asks its members for news, each answer held back until there is some.</summary>
    private async Task FollowAsync()
    {
        int rotation = 0;
        TimeSpan pause = s_pauseMin;
        while (true)
        {
            ClusterState state = State;
            if (IsFed || _options.Link is null)
            {
                await WaitForNewsAsync(state.Version, s_followWait).ConfigureAwait(false);
                continue;
            }

            string target = state.MetadataGroup.Replicas[rotation % state.MetadataGroup.Replicas.Count].NodeId;
            if (string.Equals(target, NodeId, StringComparison.Ordinal))
            {
                rotation++;
                await Task.Delay(s_pauseMin, _stop.Token).ConfigureAwait(false);
                continue;
            }

            if (await AskAsync(target, new StateRequest(state.Version, s_followWait), s_followTimeout, _stop.Token).ConfigureAwait(false) is StateAnswer answer)
            {
                pause = s_pauseMin;
                if (answer.State is { } newer && newer.ClusterId == state.ClusterId)
                    Publish(newer);
            }
            else
            {
                rotation++;
                await Task.Delay(pause, _stop.Token).ConfigureAwait(false);
                pause = pause * 2 < s_pauseMax ? pause * 2 : s_pauseMax;
            }
        }
    }

    /// <summary>Whether this node's own replica of group 0 brings the news: it is a member, and knows its leader.</summary>
    private bool IsFed => Replica is { LeaderNode: not null, IsMember: true };

    private async Task KeepUpAsync()
    {
        while (true)
        {
            await _wake.WaitAsync(_stop.Token).ConfigureAwait(false);
            ClusterState state = State;
            if (state.Version > _savedVersion)
                await TrySaveTopologyAsync(state).ConfigureAwait(false);
            if (Replica is { } replica && replica.TryGetServingTerm(out Term _) && LevelToRaise(replica.State) is { } level)
                await ProposeHereAsync(replica, new RaiseFeatureLevelCommand(level), _stop.Token).ConfigureAwait(false);
        }
    }

    private async Task TrySaveTopologyAsync(ClusterState state)
    {
        try
        {
            await SaveTopologyAsync(state).ConfigureAwait(false);
            _savedVersion = state.Version;
        }
        catch (IOException error)
        {
            // Only a cache; the next change tries again.
            MetadataLog.TopologyNotWritten(_options.Logger, NodeId, error);
        }
    }

    /// <summary>The level that every node knows, if the cluster is below it (R42).</summary>
    private static int? LevelToRaise(ClusterState state)
    {
        int known = int.MaxValue;
        foreach (NodeInfo node in state.Nodes)
        {
            if (!node.IsRemoved)
                known = Math.Min(known, node.SupportedFeatureLevel);
        }

        return known > state.FeatureLevel ? known : null;
    }
}
