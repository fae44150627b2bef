using Microsoft.Extensions.Logging;
using ShardForge.Consensus;
using ShardForge.Metadata.Formation;
using ShardForge.Replication;

namespace ShardForge.Metadata;

/// <summary>A node's part in the metadata of its cluster: becomes a member, knows the latest state, hosts a replica of group 0 where it has one, and gets timestamps.</summary>
/// <remarks>
/// <code>
/// Formation/ClusterFormation (or ClusterJoin) → formation record → ClusterState
///     MetadataReplica (group 0, feeds and is fed by an IRaftGroup) → TimestampOracle
///     TimestampClient, ProposeAsync, following of the state → IMetadataLink → the same on other nodes
/// data directory:  formation   written once: with it the node is a member (R37)
///                  topology    the last known state, a cache: where the peers are
///                  shards/r1/1/meta   MetadataReplica
/// </code>
/// How a node is wired:
/// <code>
/// network = PeerNetwork.Open(hello: () =&gt; service?.Hello(log.DurablePosition) ?? ..., policy: new MembershipPolicy(..., () =&gt; service?.Current))
/// link = new PeerMetadataLink(network); network.PeerRefused += refusal =&gt; service?.OnPeerRefused(refusal)
/// service = await MetadataService.StartAsync(options with link)    // formed when it returns, if it was a member before or is alone
/// link.Serve(service); network.Start()                    // answers others from now on
/// record = await service.Formed                           // the identity file gets record.ClusterId
/// foreach (HostedReplica hosted in record.ReplicasOn(node))
///     if (!log.WasCreated(hosted.Replica))                // the record, never a later state: its members are those of index 0
///         await log.CreateReplicaAsync(hosted.Replica, hosted.EncodeDescriptor(), hosted.EncodeConfiguration());
/// replica = service.OpenReplica(log)                      // of group 0, where this node has one: a replica log in the node log
/// group = await raftNode.OpenGroupAsync(ShardId.Metadata, its log, replica, ...); service.Attach(group)
/// ...
/// await service.StopAsync(); dispose the groups; await service.DisposeAsync()       // a kill leaves StopAsync out
/// </code>
/// <para>Threads: safe for concurrent use. Events come on whatever thread brought the news, outside of locks; they must be quick.</para></remarks>
internal sealed partial class MetadataService : ITimestampSender, IAsyncDisposable
{
    private readonly MetadataOptions _options;
    private readonly Lock _gate = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly TimestampClient _timestamps;
    private readonly TaskCompletionSource<ClusterState> _formed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ClusterFormation _formation;
    private ClusterState? _record;
    private ClusterState? _current;
    private MetadataReplica? _replica;
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Task _membership = Task.CompletedTask;
    private Action<ConfigurationException>? _rejected;
    private readonly Dictionary<string, long> _refusedSince = new(StringComparer.Ordinal);
    private static readonly TimeSpan s_refusalPatience = TimeSpan.FromSeconds(3);

    private MetadataService(MetadataOptions options, ClusterState? record)
    {
        _options = options;
        _formation = NewFormation(record);
        _timestamps = new(this, options.OldestOpenSnapshot);
    }

    /// <summary>There is a newer state. May come out of order; the argument's version tells.</summary>
    public event Action<ClusterState>? StateChanged;

    /// <summary>This node must not take part (any more): see <see cref="Rejection"/>. Its replicas must neither vote nor serve. Comes once, also to who is late.</summary>
    public event Action<ConfigurationException> Rejected
    {
        add
        {
            ConfigurationException? rejection;
            lock (_gate)
            {
                _rejected += value;
                rejection = Rejection;
            }

            if (rejection is not null)
                value(rejection);
        }
        remove
        {
            lock (_gate)
                _rejected -= value;
        }
    }

    public string NodeId => _options.NodeId;

    /// <summary>The formation record, or, for a node that joined later, the state with which it did. Fails with <see cref="ConfigurationException"/> where the node cannot become a member.</summary>
    public Task<ClusterState> Formed => _formed.Task;

    /// <summary>The latest state known here; null: not a member yet.</summary>
    public ClusterState? Current => Volatile.Read(ref _current);

    /// <summary>The latest state known here.</summary>
    public ClusterState State => Current ?? throw new ShardUnavailableException($"Node {NodeId} is not a member of a cluster yet. Nothing was done.");

    /// <summary>Timestamps for this node.</summary>
    public ITimestampSource Timestamps => _timestamps;

    /// <summary>This node's replica of group 0, where it has one.</summary>
    public MetadataReplica? Replica => Volatile.Read(ref _replica);

    /// <summary>Why this node does not take part; null while it does.</summary>
    public ConfigurationException? Rejection { get; private set; }

    /// <summary>Reads what the data directory holds and begins to become a member where the node is none.</summary>
    /// <exception cref="ConfigurationException">A setting cannot be used, or the directory is of another cluster. Nothing was changed.</exception>
    /// <exception cref="CorruptionException">A file is damaged.</exception>
    public static async Task<MetadataService> StartAsync(MetadataOptions options, CancellationToken cancellationToken = default)
    {
        ClusterState? record = LoadState(options, MetadataFile.FormationName, MetadataFile.FormationMagic);
        Check(options, record);
        MetadataService service = new(options, record);
        service.Begin(record);
        // Alone there is only a file to write: whoever starts the service finds it formed.
        if (options.Members.Count <= 1 && options.Join.Count == 0)
            await service.Formed.WaitAsync(cancellationToken).ConfigureAwait(false);
        return service;
    }

    /// <summary>On group 0's leader: no snapshot below this one is open on any node (R28); zero while that is not known.</summary>
    public Timestamp OldestOpenSnapshot()
    {
        if (Replica is not { } replica)
            return Timestamp.Zero;
        replica.Oracle.Report(NodeId, _options.OldestOpenSnapshot() ?? _timestamps.LastKnown);
        return replica.Oracle.OldestOpenSnapshot(State.Nodes);
    }

    /// <summary>Opens this node's replica of group 0 over its log; null where the node has none. After <see cref="Formed"/>, once.</summary>
    public MetadataReplica? OpenReplica(Consensus.NodeLog.INodeLog nodeLog)
    {
        ClusterState record = Record;
        foreach (Consensus.NodeLog.IReplicaLog log in nodeLog.Replicas)
        {
            if (ReplicaDescriptor.Decode(nodeLog.GetDescriptor(log.Replica).Span).Shard == ShardId.Metadata)
                return OpenReplica(record, log.Replica, log.Generation, log.CompactedIndex);
        }

        return null;
    }

    /// <summary>This node's replica of group 0 has left the group: what it was is over. The group that fed it is disposed before.</summary>
    public async ValueTask CloseReplicaAsync()
    {
        if (Replica is not { } replica)
            return;
        Volatile.Write(ref _replica, null);
        replica.StateChanged -= Publish;
        replica.LeadershipChanged -= OnLeadershipChanged;
        await replica.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>The same, of a replica known by its id.</summary>
    public MetadataReplica OpenReplica(ReplicaId replica, long generation, LogIndex compacted) => OpenReplica(Record, replica, generation, compacted);

    /// <summary>Sets the group that feeds the replica of <see cref="OpenReplica(Consensus.NodeLog.INodeLog)"/>.</summary>
    public void Attach(IRaftGroup group) => Replica!.Attach(group);

    /// <summary>Waits until the latest state fulfils a condition.</summary>
    public async ValueTask<ClusterState> WaitForAsync(Func<ClusterState, bool> condition, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed;
            lock (_gate)
                changed = _changed.Task;
            if (Current is { } state && condition(state))
                return state;
            await changed.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>What this node says of itself in a handshake, once it is started.</summary>
    /// <param name="logEnd">The node log's durable position.</param>
    public Network.HandshakeHello Hello(ulong logEnd) => new()
    {
        ClusterId = Current?.ClusterId ?? Guid.Empty,
        ClusterName = _options.ClusterName,
        NodeId = NodeId,
        InstanceId = _options.InstanceId,
        OpenCounter = _options.OpenCounter,
        LogEnd = logEnd,
        FeatureLevel = (uint)_options.SupportedFeatureLevel,
        AdvertisedEndPoint = Network.EndPointText.Parse(OwnAddress()),
    };

    /// <summary>A peer refused this node: where that says something about this node's directory, it does not take part any more (R38). For <c>IPeerNetwork.PeerRefused</c>.</summary>
    public void OnPeerRefused(Network.PeerRefusal refusal)
    {
        if (refusal.Error.RefusedBy != Network.RefusedBy.Peer)
            return;
        FormationRefusal reason = refusal.Error.Code switch
        {
            Network.RefusalCode.StaleCopy => FormationRefusal.RestoredCopy,
            Network.RefusalCode.InstanceConflict => FormationRefusal.OtherInstance,
            Network.RefusalCode.NodeRemoved => FormationRefusal.NodeRemoved,
            _ => FormationRefusal.None,
        };
        // A replacement, or a node that came back, may meet one that has not heard of it yet: that passes.
        if (reason is FormationRefusal.OtherInstance or FormationRefusal.NodeRemoved && !IsRefusedForGood(refusal.NodeId))
            return;
        if (reason != FormationRefusal.None)
            Reject(FormationErrors.Refused(reason, NodeId, $"{refusal.NodeId} says: {refusal.Error.Text}"));
    }

    /// <summary>Ends what runs, and writes group 0's image. The groups are still there; they are disposed next.</summary>
    public async Task StopAsync()
    {
        await EndLoopsAsync().ConfigureAwait(false);
        if (Replica is { } replica)
        {
            try
            {
                await replica.FlushAsync().ConfigureAwait(false);
            }
            catch (IOException error)
            {
                MetadataLog.ImageNotWritten(_options.Logger, NodeId, replica.Image.AppliedIndex.Value, error);
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        await EndLoopsAsync().ConfigureAwait(false);
        if (Replica is { } replica)
            await replica.DisposeAsync().ConfigureAwait(false);
    }

    private ClusterState Record => _record ?? throw new InvalidOperationException($"Node {NodeId} has no formation record yet: await Formed first.");

    private void Begin(ClusterState? record)
    {
        if (record is not null)
        {
            ClusterState? cached = LoadCachedTopology(record);
            _savedVersion = cached?.Version ?? record.Version;
            BecomeMember(record, cached ?? record);
            return;
        }

        _membership = _options.Join.Count > 0 ? JoinAsync() : FormAsync();
    }

    private async Task FormAsync()
    {
        try
        {
            _formation.Start();
            ClusterState record = await _formation.Completed.ConfigureAwait(false);
            _savedVersion = record.Version;
            BecomeMember(record, record);
        }
        catch (ReplacementException replaced) when (_options.KnownClusterId == Guid.Empty)
        {
            MetadataLog.Replaces(_options.Logger, NodeId, replaced.Message);
            await JoinAsync().ConfigureAwait(false);
        }
        catch (Exception error)
        {
            FailMembership(error);
        }
    }

    private async Task JoinAsync()
    {
        try
        {
            // An initial member whose directory is new, and which the cluster knows with another, comes in its place; it knows the others by its settings.
            IReadOnlyList<System.Net.EndPoint> addresses = _options.Join.Count > 0
                ? _options.Join
                : [.. _options.Members.Where(member => !string.Equals(member.Key, NodeId, StringComparison.Ordinal)).Select(static member => member.Value)];
            ClusterState state = await ClusterJoin.RunAsync(
                new() { ClusterName = _options.ClusterName, Node = Registration() }, addresses, _options.Link!, _options.Logger, _stop.Token).ConfigureAwait(false);
            await SaveRecordAsync(state).ConfigureAwait(false);
            _savedVersion = state.Version;
            ClusterFormation unformed = _formation;
            Volatile.Write(ref _formation, NewFormation(state));
            await unformed.DisposeAsync().ConfigureAwait(false);
            BecomeMember(state, state);
        }
        catch (Exception error)
        {
            FailMembership(error);
        }
    }

    private void BecomeMember(ClusterState record, ClusterState latest)
    {
        Volatile.Write(ref _record, record);
        Publish(latest);
        _upkeep = Task.WhenAll(RunAsync(RegisterAsync), RunAsync(FollowAsync), RunAsync(KeepUpAsync));
        _formed.TrySetResult(record);
    }

    private void FailMembership(Exception error)
    {
        if (error is ConfigurationException rejection)
            Reject(rejection);
        _formed.TrySetException(error is OperationCanceledException
            ? new ObjectDisposedException(nameof(ShardForge), $"Node {NodeId} was stopped before it was a member.")
            : error);
        _ = _formed.Task.Exception;         // nobody may be waiting for it
    }

    private MetadataReplica OpenReplica(ClusterState record, ReplicaId replicaId, long generation, LogIndex compacted)
    {
        MetadataReplica replica = MetadataReplica.Open(new()
        {
            Replica = replicaId,
            Formation = record,
            FileSystem = _options.FileSystem,
            Directory = Path.Combine(_options.Directory, "shards", replicaId.ToString()),
            Generation = generation,
            CompactedIndex = compacted,
            NodeId = NodeId,
            TimeProvider = _options.TimeProvider,
            Logger = _options.Logger,
        });
        replica.StateChanged += Publish;
        replica.LeadershipChanged += OnLeadershipChanged;
        Volatile.Write(ref _replica, replica);
        Publish(replica.State);
        return replica;
    }

    /// <summary>Takes in a state if it is newer than what is known.</summary>
    private void Publish(ClusterState state)
    {
        TaskCompletionSource changed;
        lock (_gate)
        {
            if (_current is not null && _current.Version >= state.Version)
                return;
            Volatile.Write(ref _current, state);
            changed = _changed;
            _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        Volatile.Read(ref _formation).SetCurrent(state);
        TellLink(state);
        MetadataLog.StateChanged(_options.Logger, NodeId, state.Version, state.FeatureLevel);
        changed.SetResult();
        WakeUpkeep();
        StateChanged?.Invoke(state);
        if (JudgeSelf(state) is { } refusal)
            Reject(FormationErrors.Refused(refusal, NodeId, $"as of version {state.Version} of the cluster's state"));
    }

    /// <summary>What the cluster's state says against this node (R38); null: nothing.</summary>
    private FormationRefusal? JudgeSelf(ClusterState state) => state.FindNode(NodeId) switch
    {
        { IsRemoved: true } => FormationRefusal.NodeRemoved,
        NodeInfo node when node.InstanceId != Guid.Empty && node.InstanceId != _options.InstanceId => FormationRefusal.OtherInstance,
        NodeInfo node when node.OpenCounter > _options.OpenCounter => FormationRefusal.RestoredCopy,
        _ => null,
    };

    private void TellLink(ClusterState state)
    {
        if (_options.Link is not { } link)
            return;
        foreach (NodeInfo node in state.Nodes)
        {
            if (string.Equals(node.NodeId, NodeId, StringComparison.Ordinal))
                continue;
            if (node.IsRemoved)
                link.Remove(node.NodeId);
            else if (Network.EndPointText.Parse(node.Address) is { } address)
                link.SetAddress(node.NodeId, address);
        }
    }

    /// <summary>Whether so many of the others refuse this node, and have for so long, that they are not just behind.</summary>
    private bool IsRefusedForGood(string? refusedBy)
    {
        long now = System.Diagnostics.Stopwatch.GetTimestamp();
        int others = Math.Max(1, (Current?.Nodes.Count(static node => !node.IsRemoved) ?? 2) - 1);
        lock (_gate)
        {
            _refusedSince.TryAdd(refusedBy ?? "", now);
            int persistent = 0;
            foreach (long since in _refusedSince.Values)
                persistent += System.Diagnostics.Stopwatch.GetElapsedTime(since, now) > s_refusalPatience ? 1 : 0;
            return persistent * 2 >= others;
        }
    }

    private void Reject(ConfigurationException rejection)
    {
        Action<ConfigurationException>? rejected;
        lock (_gate)
        {
            if (Rejection is not null)
                return;
            Rejection = rejection;
            rejected = _rejected;
        }

        rejected?.Invoke(rejection);
    }

    private async Task EndLoopsAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _timestamps.DisposeAsync().ConfigureAwait(false);
        await Volatile.Read(ref _formation).DisposeAsync().ConfigureAwait(false);
        await _membership.ConfigureAwait(false);
        await _upkeep.ConfigureAwait(false);
        await _placement.ConfigureAwait(false);
    }
}
