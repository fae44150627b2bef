using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Metadata;
using ShardForge.Network;
using ShardForge.Replication;
using ShardForge.Routing;

namespace ShardForge;

/// <content>Ready or not, and what the node knows of the cluster.</content>
internal sealed partial class NodeRuntime
{
    private static readonly TimeSpan s_probeLimit = TimeSpan.FromSeconds(1);

    public async Task WaitUntilReadyAsync(CancellationToken cancellationToken)
    {
        ThrowIfDisposed();
        await WaitUntilBroughtUpAsync(cancellationToken).ConfigureAwait(false);
        await WaitForLeadersAsync(static _ => true, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Completes when the leaders of those shards answer this node, and the oracle, where its group is one of them.</summary>
    public async Task WaitForLeadersAsync(Func<ShardRoute, bool> isWanted, CancellationToken cancellationToken)
    {
        ClusterState state = _metadata.State;
        List<Task> waits = [.. MapOf(state).Shards.Where(isWanted).Select(shard => WaitForLeaderAsync(shard.Shard, cancellationToken))];
        if (isWanted(new ShardRoute(ShardId.Metadata, SlotRange.All, state.MetadataGroup.Epoch, [.. state.MetadataGroup.Replicas.Select(static replica => replica.NodeId)])))
            waits.Add(WaitForOracleAsync(cancellationToken));
        await Task.WhenAll(waits).ConfigureAwait(false);
    }

    /// <summary>The term in which this node leads and serves the key's shard; null: it does not.</summary>
    public Term? FindLeadership(ReadOnlyMemory<byte> key) =>
        Volatile.Read(ref _map) is { } map && _shards.GetValueOrDefault(map.Find(key.Span).Shard) is { IsServing: true } replica ? replica.Status.Term : null;

    /// <summary>Completes when this node is a member and its replicas are open.</summary>
    public async Task WaitUntilBroughtUpAsync(CancellationToken cancellationToken)
    {
        using CancellationTokenSource either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _stopping.Token);
        try
        {
            await _broughtUp.Task.WaitAsync(either.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException error)
        {
            if (cancellationToken.IsCancellationRequested)
                throw new OperationCanceledException(error.Message, error, cancellationToken);
            ThrowIfDisposed();
            throw;
        }

        ThrowIfRejected();
    }

    /// <summary>Completes when the shard's leader answers this node.</summary>
    private async Task WaitForLeaderAsync(ShardId shard, CancellationToken cancellationToken)
    {
        while (true)
        {
            ThrowIfDisposed();
            cancellationToken.ThrowIfCancellationRequested();
            using Deadline deadline = new(s_probeLimit, TimeProvider.System, cancellationToken, _stopping.Token);
            try
            {
                await Router.ReadAsync(new PingRequest { Shard = shard, Epoch = default }, static (ping, map) => map.Find(ping.Shard), deadline).ConfigureAwait(false);
                return;
            }
            catch (ShardUnavailableException error)
            {
                ThrowIfRejected();
                ThrowIfFaulted(shard, error);
            }
        }
    }

    // A replica that stopped does not come back by itself: where nobody else leads either, waiting has no end.
    private void ThrowIfFaulted(ShardId shard, Exception error)
    {
        ThrowIfRejected();      // then that is why
        if ((_shards.GetValueOrDefault(shard)?.Fault ?? FindGroup(shard)?.Status.Fault) is { } fault)
            throw new ShardForgeException($"Shard {shard} has no leader that node {Config.NodeId} can reach, and its replica here has stopped: {fault.Message} ({error.Message})", isTransient: false, fault);
    }

    private async Task WaitForOracleAsync(CancellationToken cancellationToken)
    {
        using CancellationTokenSource either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _stopping.Token);
        try
        {
            Task asked = Timestamps.NextAsync(either.Token).AsTask();
            while (await Task.WhenAny(asked, Task.Delay(s_probeLimit, either.Token)).ConfigureAwait(false) != asked)
                ThrowIfFaulted(ShardId.Metadata, new ShardUnavailableException("the oracle does not answer."));
            await asked.ConfigureAwait(false);
        }
        catch (OperationCanceledException error)
        {
            if (cancellationToken.IsCancellationRequested)
                throw new OperationCanceledException(error.Message, error, cancellationToken);
            ThrowIfDisposed();
            throw;
        }
    }

    public ClusterStatus GetStatus()
    {
        List<string> problems = [];
        bool isUnhealthy = false;
        if (_metadata.Rejection is { } rejection)
        {
            isUnhealthy = true;
            problems.Add(rejection.Message);
        }

        if (_metadata.Current is not { } state)
        {
            problems.Add($"Node {Config.NodeId} is not a member of a formed cluster yet.");
            return new ClusterStatus { NodeId = Config.NodeId, ClusterName = Config.ClusterName, Health = ClusterHealth.Unhealthy, Problems = problems };
        }

        List<NodeStatus> nodes = new(state.Nodes.Count);
        bool isDegraded = false;
        foreach (NodeInfo node in state.Nodes)
        {
            if (node.IsRemoved)
                continue;
            bool isLocal = string.Equals(node.NodeId, Config.NodeId, StringComparison.Ordinal);
            bool isConnected = isLocal || _network.IsConnected(node.NodeId);
            nodes.Add(new NodeStatus(node.NodeId, isLocal ? ListenEndPoint ?? EndPointText.Parse(node.Address) : EndPointText.Parse(node.Address), isLocal, isConnected));
            if (!isConnected)
            {
                isDegraded = true;
                problems.Add($"Node {node.NodeId} is not connected.");
            }
        }

        ShardGroupStatus metadata = StatusOf(ShardId.Metadata, SlotRange.All, state.MetadataGroup, problems, ref isUnhealthy);
        ShardGroupStatus[] shards = new ShardGroupStatus[state.Shards.Count];
        for (int i = 0; i < shards.Length; i++)
            shards[i] = StatusOf(state.Shards[i].Shard, state.Shards[i].Slots, state.Shards[i].Group, problems, ref isUnhealthy);

        return new ClusterStatus
        {
            NodeId = Config.NodeId,
            ClusterName = state.ClusterName,
            ClusterId = state.ClusterId,
            Version = (long)state.Version,
            FeatureLevel = state.FeatureLevel,
            Nodes = nodes,
            Shards = shards,
            Metadata = metadata,
            IsReady = _broughtUp.Task.IsCompletedSuccessfully && Array.TrueForAll(shards, static shard => shard.LeaderNodeId is not null),
            Health = isUnhealthy ? ClusterHealth.Unhealthy : isDegraded ? ClusterHealth.Degraded : ClusterHealth.Healthy,
            Problems = problems,
        };
    }

    private ShardGroupStatus StatusOf(ShardId shard, SlotRange slots, GroupInfo group, List<string> problems, ref bool isUnhealthy)
    {
        RaftStatus? local = FindGroup(shard)?.Status;
        string? leader = shard == ShardId.Metadata
            ? local?.Leader is { } id ? group.NodeOf(id) : null
            : Router.GetLeader(shard);
        Exception? fault = _shards.GetValueOrDefault(shard)?.Fault ?? local?.Fault;
        if (leader is null && (shard != ShardId.Metadata || local is not null))
        {
            isUnhealthy = true;
            problems.Add($"Shard {shard} has no leader that node {Config.NodeId} knows of.");
        }

        if (fault is not null)
        {
            isUnhealthy = true;
            problems.Add($"The replica of shard {shard} on node {Config.NodeId} has stopped: {fault.Message}");
        }

        ReplicaStatus[] replicas = [.. group.Replicas.Select(replica => new ReplicaStatus(
            (long)replica.Replica.Value,
            replica.NodeId,
            leader is not null && string.Equals(replica.NodeId, leader, StringComparison.Ordinal),
            string.Equals(replica.NodeId, Config.NodeId, StringComparison.Ordinal) ? fault?.Message : null))];
        return new ShardGroupStatus(shard.Value, slots.First, slots.Last, (long)group.Epoch.Value, leader, local?.Term.Value ?? 0, replicas);
    }

    private IRaftGroup? FindGroup(ShardId shard) => _groups.GetValueOrDefault(shard);
}
