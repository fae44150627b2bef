using System.Collections.Concurrent;
using System.Net;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;
using ShardForge.Metadata;
using ShardForge.Network;
using ShardForge.Replication;
using ShardForge.Routing;
using ShardForge.Storage;
using ShardForge.Transactions;

namespace ShardForge;

/// <summary>A running node: the parts of the library, wired. <see cref="ShardForgeCluster"/> is its face.</summary>
/// <remarks>
/// <code>
/// start  DataDirectory → NodeLog → PeerNetwork (bound) → identity → RaftNode → MetadataService → links open
///        → formed → replicas: log, engine, group → ready
/// stop   new calls refused → leadership handed over → metadata → groups → replicas → log → links → directory
/// </code>
/// Partials: <c>.Open</c>, <c>.Replicas</c>, <c>.Placement</c>, <c>.Status</c>, <c>.Stop</c>. Whatever was started is stopped in reverse order, also when a later step of the
/// opening fails.
/// </remarks>
[System.Diagnostics.CodeAnalysis.SuppressMessage("Design", "CA1001", Justification = "Ended by StopAsync or KillAsync, in the order of .Stop.")]
internal sealed partial class NodeRuntime : ILocalReplicas, IShardMapSource
{
    private readonly NodeEnvironment _environment;
    private readonly ILoggerFactory _loggers;
    private readonly ILogger _logger;
    private readonly SeededRandom _random;
    private readonly CancellationTokenSource _stopping = new();
    private readonly Lock _stopGate = new();
    private readonly OpenSnapshots _snapshots = new();
    private readonly ConcurrentDictionary<ShardId, ShardReplica> _shards = new();
    private readonly ConcurrentDictionary<ShardId, IRaftGroup> _groups = new();     // group 0 too
    private readonly TaskCompletionSource _broughtUp = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private DataLocation _location = null!;
    private DataDirectory _directory = null!;
    private PeerNetwork _network = null!;
    private RaftNode _raft = null!;
    private MetadataService _metadata = null!;
    private StorageResources _resources = null!;
    private Task _bringingUp = Task.CompletedTask, _releasing = Task.CompletedTask, _hosting = Task.CompletedTask, _upkeep = Task.CompletedTask;
    private ShardMap? _map;
    private Task? _stop;

    private NodeRuntime(ShardForgeConfig config, NodeEnvironment environment)
    {
        Config = config;
        _environment = environment;
        _loggers = config.LoggerFactory ?? NullLoggerFactory.Instance;
        _logger = _loggers.CreateLogger("ShardForge.Node");
        _random = new SeededRandom(environment.Seed);
    }

    public ShardForgeConfig Config { get; }

    public EndPoint? ListenEndPoint => _network.ListenEndPoint;

    public Router Router { get; private set; } = null!;

    /// <summary>The shard replicas on this node.</summary>
    internal ICollection<ShardReplica> Replicas => _shards.Values;

    public TransactionContext Transactions { get; private set; } = null!;

    public ITimestampSource Timestamps => _metadata.Timestamps;

    /// <summary>A plain get where this node leads the key's shard and nothing has to be waited for. False: not known, ask the router.</summary>
    public bool TryGetNow(ReadOnlySpan<byte> key, out byte[]? value)
    {
        value = null;
        return Volatile.Read(ref _map) is { } map && map.Find(key) is var route && _shards.TryGetValue(route.Shard, out ShardReplica? replica)
            && replica.TryGetNow(key, route.Epoch, out value) && !_stopping.IsCancellationRequested;
    }

    /// <summary>For measurements: flushes of the log so far, and entries applied so far by the replicas here that lead.</summary>
    internal (long Flushes, long Entries) Work
    {
        get
        {
            long entries = 0;
            foreach (IRaftGroup group in _raft.Groups)
                entries += group.Status.IsLeader && group.Shard != ShardId.Metadata ? group.AppliedIndex.Value : 0;
            return (_directory.Log.FlushCount, entries);
        }
    }

    public OperationId NextOperationId() => _random.NextOperationId();

    public double NextRandom() => _random.NextDouble();

    /// <summary>The deadline of one call: the node's limit, the caller's token, the end of the node.</summary>
    public Deadline StartDeadline(CancellationToken cancellationToken) => new(Config.OperationTimeout, Config.TimeProvider, cancellationToken, _stopping.Token);

    public void ThrowIfDisposed()
    {
        if (_stopping.IsCancellationRequested)
            throw new ObjectDisposedException(nameof(ShardForgeCluster), $"Node {Config.NodeId} was stopped.");
    }

    /// <summary>A pause that ends early, with its error, where the caller cancels or the node stops.</summary>
    public async Task PauseAsync(TimeSpan pause, CancellationToken cancellationToken)
    {
        using CancellationTokenSource either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _stopping.Token);
        try
        {
            await Task.Delay(pause, Config.TimeProvider, either.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException error)
        {
            if (cancellationToken.IsCancellationRequested)
                throw new OperationCanceledException(error.Message, error, cancellationToken);
            ThrowIfDisposed();
            throw;
        }
    }

    /// <summary>Asks again how slow the links are known to be.</summary>
    public void TakeElectionSlack() => _raft.Slack = _environment.ElectionSlack?.Invoke() ?? TimeSpan.Zero;

    IShardReplica? ILocalReplicas.Find(ShardId shard) => _shards.GetValueOrDefault(shard);

    ShardMap? IShardMapSource.Current => Volatile.Read(ref _map);

    async ValueTask<ShardMap> IShardMapSource.WaitForNewerAsync(ulong version, CancellationToken cancellationToken)
    {
        ThrowIfRejected();
        ClusterState state = await _metadata.WaitForAsync(state => state.Version > version, cancellationToken).ConfigureAwait(false);
        return MapOf(state);
    }

    private ShardMap MapOf(ClusterState state)
    {
        ShardMap? map = Volatile.Read(ref _map);
        if (map is not null && map.Version >= state.Version)
            return map;
        ShardRoute[] routes = new ShardRoute[state.Shards.Count];
        for (int i = 0; i < routes.Length; i++)
        {
            ShardInfo shard = state.Shards[i];
            string[] nodes = [.. shard.Group.Replicas.OrderBy(replica => replica.Replica == shard.PreferredLeader ? 0 : 1).Select(static replica => replica.NodeId)];
            routes[i] = new ShardRoute(shard.Shard, shard.Slots, shard.Epoch, nodes);
        }

        ShardMap made = new(state.Version, state.Settings.PartitionRule, routes);
        while (true)
        {
            ShardMap? known = Volatile.Read(ref _map);
            if (known is not null && known.Version >= made.Version)
                return known;
            if (Interlocked.CompareExchange(ref _map, made, known) == known)
                return made;
        }
    }
}
