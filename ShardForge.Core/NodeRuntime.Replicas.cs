using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;
using ShardForge.Metadata;
using ShardForge.Replication;
using ShardForge.Transactions;

namespace ShardForge;

/// <content>The replicas that this node hosts: created once, opened at each start, their log released as their engines catch up.</content>
internal sealed partial class NodeRuntime
{
    private readonly Channel<ReplicaId> _releases = Channel.CreateBounded<ReplicaId>(new BoundedChannelOptions(1_024) { FullMode = BoundedChannelFullMode.DropOldest });

    private async Task BringUpAsync(CancellationToken cancellationToken)
    {
        ClusterState record = await _metadata.Formed.ConfigureAwait(false);
        if (_directory.Identity.ClusterId != record.ClusterId)
            _directory.SetClusterId(record.ClusterId);
        WarnOfOtherSettings(record);
        HashSet<ReplicaId> created = await CreateReplicasAsync(record, cancellationToken).ConfigureAwait(false);
        RemoveOrphans();
        MapOf(_metadata.State);

        // A directory that the cluster refuses must neither vote nor serve (R38): looked at before the groups take part, and again for what came meanwhile.
        ThrowIfRejected();
        Task[] opening = [.. _directory.Log.Replicas.Select(log => OpenReplicaAsync(log, record, created.Contains(log.Replica), cancellationToken))];
        await Task.WhenAll(opening).ConfigureAwait(false);
        if (_metadata.Rejection is { } rejection)
            _raft.FailAll(rejection);
        ThrowIfRejected();
        _releasing = ReleaseLogsAsync();
        _upkeep = new TransactionUpkeep(Transactions, () => _shards.Values, _metadata.OldestOpenSnapshot, record.Settings.HistoryWindow, _loggers.CreateLogger("ShardForge.Transactions")).RunAsync(_stopping.Token);
        _hosting = HostAsync(record);
        _metadata.StartPlacement(FindGroup, SplitAsync);
        _broughtUp.TrySetResult();
    }

    private void ThrowIfRejected()
    {
        if (_metadata.Rejection is { } rejection)
            throw new ConfigurationException(rejection.Setting, rejection.Message, rejection);
    }

    /// <summary>Logs for the replicas that the formation record gives this node and that it never had (R40).</summary>
    private async Task<HashSet<ReplicaId>> CreateReplicasAsync(ClusterState record, CancellationToken cancellationToken)
    {
        List<HostedReplica> missing = [];
        // A later state names members that are at work already: an empty one must not stand in for them. Whoever joins gets its replicas by placement.
        if (record.Version != ClusterState.FormationVersion)
            return [];
        foreach (HostedReplica hosted in record.ReplicasOn(Config.NodeId))
        {
            if (!_directory.Log.WasCreated(hosted.Replica))
                missing.Add(hosted);
        }

        // Together: one flush makes all of them durable.
        await Task.WhenAll(missing.Select(async hosted =>
            await _directory.Log.CreateReplicaAsync(hosted.Replica, hosted.EncodeDescriptor(), hosted.EncodeConfiguration(), cancellationToken).ConfigureAwait(false))).ConfigureAwait(false);
        return [.. missing.Select(static hosted => hosted.Replica)];
    }

    private async Task OpenReplicaAsync(IReplicaLog log, ClusterState record, bool isNew, CancellationToken cancellationToken)
    {
        ReplicaDescriptor descriptor = ReplicaDescriptor.Decode(_directory.Log.GetDescriptor(log.Replica).Span);
        if (descriptor.Shard == ShardId.Metadata)
        {
            MetadataReplica metadata = _metadata.OpenReplica(log.Replica, log.Generation, log.CompactedIndex);
            StateMachineGate metadataGate = new(metadata);
            IRaftGroup group = await _raft.OpenGroupAsync(descriptor.Shard, log, metadataGate, OptionsOf(log.Replica, record.MetadataGroup.Replicas[0].Replica, isNew), cancellationToken)
                .ConfigureAwait(false);
            _groups[ShardId.Metadata] = group;
            _metadata.Attach(group);
            metadataGate.Open();
            return;
        }

        ShardReplica replica = await ShardReplica.OpenAsync(new ShardReplicaOptions
        {
            Shard = descriptor.Shard,
            Replica = log.Replica,
            NodeId = Config.NodeId,
            Directory = _location.GetReplicaPath(log.Replica),
            Generation = log.Generation,
            StorageEngine = Config.StorageEngine,
            Resources = _resources,
            FileSystem = _location.Files,
            PartitionRule = record.Settings.PartitionRule,
            Slots = descriptor.Slots,
            Epoch = descriptor.Epoch,
            Timestamps = _metadata.Timestamps,
            Limits = Config.Limits,
            TimeProvider = Config.TimeProvider,
            LoggerFactory = _loggers,
            Horizon = record.Settings.HistoryWindow,
            DiskIsFull = OnDiskFull,
        }, cancellationToken).ConfigureAwait(false);
        _shards[descriptor.Shard] = replica;
        ReplicaId preferred = record.FindShard(descriptor.Shard)?.PreferredLeader ?? default;
        StateMachineGate gate = new(replica);
        IRaftGroup shardGroup;
        try
        {
            shardGroup = await _raft.OpenGroupAsync(descriptor.Shard, log, gate, OptionsOf(log.Replica, preferred, isNew), cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            // It may be tried again: the engine must be closed by then.
            _shards.TryRemove(new KeyValuePair<ShardId, ShardReplica>(descriptor.Shard, replica));
            await replica.DisposeAsync().ConfigureAwait(false);
            throw;
        }

        _groups[descriptor.Shard] = shardGroup;
        replica.Attach(shardGroup);
        gate.Open();
    }

    private static RaftGroupOptions OptionsOf(ReplicaId replica, ReplicaId preferred, bool isNew) =>
        new() { IsNew = isNew, IsPreferredFirstLeader = isNew && replica == preferred };

    private void OnCompactionWanted(ReplicaId replica) => _releases.Writer.TryWrite(replica);

    private void OnDiskFull() => _directory.Reserve?.ReportFull();

    // What the engines make durable, the log can let go of.
    private void ReleaseAllLogs()
    {
        foreach (IReplicaLog log in _directory.Log.Replicas)
            _releases.Writer.TryWrite(log.Replica);
    }

    /// <summary>Lets engines make durable what holds back the log, one after the other.</summary>
    private async Task ReleaseLogsAsync()
    {
        try
        {
            await foreach (ReplicaId wanted in _releases.Reader.ReadAllAsync(_stopping.Token).ConfigureAwait(false))
            {
                try
                {
                    if (_metadata.Replica is { } metadata && metadata.Replica == wanted)
                        await metadata.FlushAsync().ConfigureAwait(false);
                    foreach (ShardReplica shard in _shards.Values)
                    {
                        if (shard.Replica == wanted)
                            await shard.ReleaseLogAsync(_stopping.Token).ConfigureAwait(false);
                    }
                }
                catch (Exception error) when (error is IOException or ShardForgeException or UnauthorizedAccessException)
                {
                    // The log asks again; meanwhile it keeps what the replica still needs.
                    LogNotReleased(_logger, Config.NodeId, wanted, error);
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The node stops.
        }
    }

    private void WarnOfOtherSettings(ClusterState record)
    {
        if (record.Settings.ShardCount != Config.ShardCount)
            LogOtherSetting(_logger, Config.NodeId, nameof(Config.ShardCount), Config.ShardCount.ToString(), record.Settings.ShardCount.ToString());
        if (record.Settings.PartitionRule != Config.PartitionRule)
            LogOtherSetting(_logger, Config.NodeId, nameof(Config.PartitionRule), Config.PartitionRule.ToString(), record.Settings.PartitionRule.ToString());
        if (Config.ReplicationFactor is { } factor && factor != record.Settings.ReplicationFactor)
            LogOtherSetting(_logger, Config.NodeId, nameof(Config.ReplicationFactor), factor.ToString(), record.Settings.ReplicationFactor.ToString());
    }

    [LoggerMessage(EventId = 1003, Level = LogLevel.Warning, Message = "Node {Node}: the log of replica {Replica} could not be released")]
    private static partial void LogNotReleased(ILogger logger, string node, ReplicaId replica, Exception error);

    [LoggerMessage(EventId = 1004, Level = LogLevel.Warning, Message = "Node {Node}: {Setting} is {Given} in the settings and {Stored} in the cluster, which was formed with it; the stored one counts")]
    private static partial void LogOtherSetting(ILogger logger, string node, string setting, string given, string stored);
}
