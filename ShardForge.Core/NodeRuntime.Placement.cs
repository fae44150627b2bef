using Microsoft.Extensions.Logging;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;
using ShardForge.Metadata;
using ShardForge.Replication;

namespace ShardForge;

/// <content>What the cluster's state says of this node's replicas is made so: those that it is to add are created, those that are gone are deleted.</content>
internal sealed partial class NodeRuntime
{
    /// <summary>How often the state is looked at even without news: after a step that failed, say for a full disk.</summary>
    private static readonly TimeSpan s_hostInterval = TimeSpan.FromSeconds(1);

    public async Task RemoveNodeAsync(string nodeId, CancellationToken cancellationToken)
    {
        using CancellationTokenSource either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _stopping.Token);
        try
        {
            await _metadata.Formed.WaitAsync(either.Token).ConfigureAwait(false);
            MetadataOutcome outcome = await _metadata.ProposeAsync(new LeaveNodeCommand(nodeId), either.Token).ConfigureAwait(false);
            switch (outcome)
            {
                case MetadataOutcome.Ok:
                    break;
                case MetadataOutcome.UnknownNode:
                    throw new ArgumentException($"There is no node '{nodeId}' in cluster '{Config.ClusterName}'. Nothing was changed.", nameof(nodeId));
                case MetadataOutcome.LastNode:
                    throw new InvalidOperationException($"Node '{nodeId}' is the only one of cluster '{Config.ClusterName}': there is none to take its data. Nothing was changed.");
                default:
                    throw new InvariantViolatedException($"The removal of node '{nodeId}' ended with {outcome}.");
            }

            // Or it is another one by now: removed, and back with an empty directory.
            Guid? instance = _metadata.State.FindNode(nodeId)?.InstanceId;
            await _metadata.WaitForAsync(
                state => state.FindNode(nodeId) is { } node && (node.IsRemoved || (instance is not null && node.InstanceId != instance)), either.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException error)
        {
            if (cancellationToken.IsCancellationRequested)
                throw new OperationCanceledException(error.Message, error, cancellationToken);
            ThrowIfDisposed();
            throw;
        }
    }

    /// <summary>Never fails: what goes wrong is said, and tried again.</summary>
    private async Task HostAsync(ClusterState record)
    {
        while (!_stopping.IsCancellationRequested)
        {
            ClusterState state = _metadata.State;
            try
            {
                foreach (IReplicaLog log in _directory.Log.Replicas)
                {
                    if (state.IsGone(log.Replica))
                        await RemoveReplicaAsync(log.Replica).ConfigureAwait(false);
                }

                if (_metadata.Rejection is null)
                {
                    foreach (HostedReplica added in state.ReplicasToAddOn(Config.NodeId))
                        await AddReplicaAsync(added, record).ConfigureAwait(false);
                }

                // The node's own stop ends the loop here, before that of the metadata would.
                await _metadata.WaitForNewsAsync(state.Version, s_hostInterval).WaitAsync(_stopping.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (_stopping.IsCancellationRequested)
            {
                break;
            }
            catch (Exception error)
            {
                LogNotHosted(_logger, Config.NodeId, error);
                await Task.Delay(s_hostInterval, _stopping.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    /// <summary>Empty, and no member of its group yet: the group's leader finds it and brings it level.</summary>
    private async Task AddReplicaAsync(HostedReplica added, ClusterState record)
    {
        if (_groups.TryGetValue(added.Shard, out IRaftGroup? open) && open.LocalReplica == added.Replica)
            return;
        IReplicaLog? log = _directory.Log.Replicas.FirstOrDefault(log => log.Replica == added.Replica);
        if (log is null && _directory.Log.WasCreated(added.Replica))
            return;         // and removed
        log ??= await _directory.Log.CreateReplicaAsync(added.Replica, added.EncodeDescriptor(), added.EncodeConfiguration(), _stopping.Token).ConfigureAwait(false);
        await OpenReplicaAsync(log, record, isNew: true, _stopping.Token).ConfigureAwait(false);
        LogAdded(_logger, Config.NodeId, added.Replica, added.Shard);
    }

    /// <summary>
    /// Group 0 names it no more (R41). The log's record first: a directory without a log is swept away at the next open, a log without its directory would be damage.
    /// </summary>
    private async Task RemoveReplicaAsync(ReplicaId replica)
    {
        ShardId shard = ReplicaDescriptor.Decode(_directory.Log.GetDescriptor(replica).Span).Shard;
        if (_groups.TryGetValue(shard, out IRaftGroup? group) && group.LocalReplica == replica)
        {
            _groups.TryRemove(new KeyValuePair<ShardId, IRaftGroup>(shard, group));
            await group.DisposeAsync().ConfigureAwait(false);
        }

        if (shard == ShardId.Metadata && _metadata.Replica?.Replica == replica)
            await _metadata.CloseReplicaAsync().ConfigureAwait(false);
        if (_shards.TryGetValue(shard, out ShardReplica? hosted) && hosted.Replica == replica)
        {
            _shards.TryRemove(new KeyValuePair<ShardId, ShardReplica>(shard, hosted));
            await hosted.DisposeAsync().ConfigureAwait(false);
        }

        await _directory.Log.RemoveReplicaAsync(replica, _stopping.Token).ConfigureAwait(false);
        DeleteFolder(Path.Combine(_location.Path, "shards", replica.ToString()));
        LogRemoved(_logger, Config.NodeId, replica, shard);
    }

    /// <summary>Folders of replicas that the log does not know: removed ones whose folder was still there at a crash, children that were not complete.</summary>
    private void RemoveOrphans()
    {
        string shards = Path.Combine(_location.Path, "shards");
        HashSet<string> known = [.. _directory.Log.Replicas.Select(static log => log.Replica.ToString())];
        foreach (string folder in _location.Files.ListDirectories(shards))
        {
            if (!known.Contains(Path.GetFileName(folder)))
                DeleteFolder(folder);
        }
    }

    private void DeleteFolder(string folder)
    {
        try
        {
            _location.Files.DeleteDirectory(folder);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // The next open tries again.
            LogNotDeleted(_logger, Config.NodeId, folder, error);
        }
    }

    // Group 0 records splits; carrying one out is not in this version, and nothing asks for one.
    private Task<bool> SplitAsync(ShardSplit split, ShardInfo shard, IRaftGroup group, CancellationToken cancellationToken) => Task.FromResult(false);

    [LoggerMessage(EventId = 1008, Level = LogLevel.Information, Message = "Node {Node}: replica {Replica} of shard {Shard} was created; it is to be added to its group")]
    private static partial void LogAdded(ILogger logger, string node, ReplicaId replica, ShardId shard);

    [LoggerMessage(EventId = 1009, Level = LogLevel.Information, Message = "Node {Node}: replica {Replica} of shard {Shard} has left its group; its data was deleted")]
    private static partial void LogRemoved(ILogger logger, string node, ReplicaId replica, ShardId shard);

    [LoggerMessage(EventId = 1010, Level = LogLevel.Warning, Message = "Node {Node}: a replica could not be created or removed; it is tried again")]
    private static partial void LogNotHosted(ILogger logger, string node, Exception error);

    [LoggerMessage(EventId = 1011, Level = LogLevel.Warning, Message = "Node {Node}: {Folder} could not be deleted; the next open tries again")]
    private static partial void LogNotDeleted(ILogger logger, string node, string folder, Exception error);
}
