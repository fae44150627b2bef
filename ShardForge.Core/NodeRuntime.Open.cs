using System.Net;
using Microsoft.Extensions.Logging;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;
using ShardForge.Metadata;
using ShardForge.Network;
using ShardForge.Routing;
using ShardForge.Storage;
using ShardForge.Transactions;

namespace ShardForge;

/// <content>The start. Everything that can refuse the open comes before the first byte is written.</content>
internal sealed partial class NodeRuntime
{
    public static async Task<NodeRuntime> OpenAsync(ShardForgeConfig config, NodeEnvironment environment, CancellationToken cancellationToken)
    {
        NodeRuntime node = new(config, environment);
        try
        {
            await node.StartAsync(cancellationToken).ConfigureAwait(false);
            return node;
        }
        catch
        {
            await node.AbortAsync().ConfigureAwait(false);
            throw;
        }
    }

    private async Task StartAsync(CancellationToken cancellationToken)
    {
        // Looked at, then the address, then taken: what is refused leaves nothing behind.
        _location = DataLocation.Inspect(Config, _environment);
        if (!_location.IsFormed)
            Config.ValidateForming();
        MembershipPolicy policy = new(Config.NodeId, Config.ClusterName, [.. Config.Members.Keys], () => _metadata?.Current);
        PeerNetworkOptions defaults = new() { Transport = _environment.Transport ?? new TcpTransport(), LocalHello = Hello, Policy = policy };
        _network = PeerNetwork.Open(defaults with
        {
            ListenEndPoint = Config.ListenEndPoint,
            Security = Config.PeerTls is { } tls ? new TlsConnectionSecurity(tls, Config.TimeProvider) : null,
            Seed = _random.NextSeed(),
            Logger = _loggers.CreateLogger("ShardForge.Network"),
            Limits = Config.Limits,
            SilenceAlarm = _environment.SilenceAlarm ?? defaults.SilenceAlarm,
        });
        _directory = await OpenDirectoryAsync().ConfigureAwait(false);
        _resources = new StorageResources(Config.StorageResources) { DiskIsFull = OnDiskFull };
        _raft = new RaftNode(new PeerRaftLink(_network), new RaftNodeOptions
        {
            ElectionTimeoutLower = _environment.ElectionTimeout,
            ElectionTimeoutUpper = _environment.ElectionTimeout * 2,
            Seed = _random.NextSeed(),
            TemporaryDirectory = _directory.TemporaryDirectory,
            HasRoom = () => _directory.HasRoom,
            FileSystem = _location.Files,
            Logger = _loggers.CreateLogger("ShardForge.Consensus"),
        });
        TakeElectionSlack();
        PeerMetadataLink link = new(_network);
        _metadata = await MetadataService.StartAsync(new MetadataOptions
        {
            NodeId = Config.NodeId,
            ClusterName = Config.ClusterName,
            InstanceId = _directory.Identity.InstanceId,
            OpenCounter = (ulong)_directory.Identity.OpenCount,
            KnownClusterId = _directory.Identity.ClusterId,
            Members = Config.Members,
            Join = _location.IsFormed ? [] : Config.Join,
            AdvertisedEndPoint = AdvertisedEndPoint,
            ShardCount = Config.ShardCount,
            ReplicationFactor = Config.ReplicationFactor,
            PartitionRule = Config.PartitionRule,
            NewClusterId = _random.NextGuid(),
            Directory = _directory.Path,
            FileSystem = _location.Files,
            Link = Config.ListenEndPoint is null ? null : link,
            OldestOpenSnapshot = () => _snapshots.Oldest(_metadata?.Timestamps.LastKnown ?? default),
            TimeProvider = Config.TimeProvider,
            Logger = _loggers.CreateLogger("ShardForge.Metadata"),
        }, cancellationToken).ConfigureAwait(false);
        _metadata.StateChanged += state => MapOf(state);
        _metadata.Rejected += rejection => _raft.FailAll(rejection);
        _network.PeerRefused += _metadata.OnPeerRefused;
        _directory.Log.Failed += error => _raft.FailAll(error);
        _directory.Log.CompactionWanted += OnCompactionWanted;
        if (_directory.Reserve is { } reserve)
            reserve.BecameFull += ReleaseAllLogs;

        PeerShardLink shardLink = new(_network);
        Router = new Router(new RouterOptions
        {
            NodeId = Config.NodeId,
            Maps = this,
            Replicas = this,
            Link = shardLink,
            TimeProvider = Config.TimeProvider,
            NextRandom = NextRandom,
        });
        Transactions = new TransactionContext
        {
            Router = Router,
            Limits = Config.Limits,
            TimeProvider = Config.TimeProvider,
            Timestamps = _metadata.Timestamps,
            StartBackground = () => new Deadline(Config.OperationTimeout, Config.TimeProvider, CancellationToken.None, _stopping.Token),
            IsLocal = IsLedHere,
            NextId = NextOperationId,
            NextRandom = NextRandom,
            Snapshots = _snapshots,
            ThrowIfDisposed = ThrowIfDisposed,
            StartCall = (limit, token) => new Deadline(limit < Config.OperationTimeout ? limit : Config.OperationTimeout, Config.TimeProvider, token, _stopping.Token),
        };
        Router.Locks = Transactions.Resolver;
        _network.Register(PeerService.Shard, new ShardService(Config.NodeId, this, shardLink, Config.TimeProvider));
        link.Serve(_metadata);
        _network.Start();

        // A node that is a member already recovers its replicas before the open returns, so that what is wrong with them is the open's error.
        if (_metadata.Formed.IsCompletedSuccessfully)
            await BringUpAsync(cancellationToken).ConfigureAwait(false);
        else
            _bringingUp = BringUpWhenFormedAsync();
        LogOpened(_logger, Config.NodeId, Config.ClusterName, _directory.Identity.OpenCount, ListenEndPoint);
    }

    private bool IsLedHere(ReadOnlyMemory<byte> key) =>
        Volatile.Read(ref _map) is { } map && _shards.TryGetValue(map.Find(key.Span).Shard, out Replication.ShardReplica? replica) && replica.IsServing;

    private Task<DataDirectory> OpenDirectoryAsync()
    {
        NodeLogOptions defaults = Config.DataDirectory is null ? NodeLogOptions.InMemory : new();
        int segmentBytes = _environment.LogSegmentBytes ?? defaults.SegmentBytes;
        return DataDirectory.OpenAsync(_location.Files, _location.Path, Config.NodeId, Config.ClusterName, Config.StorageEngine.Name, defaults with
        {
            SegmentBytes = segmentBytes,
            FirstSegmentBytes = Math.Min(defaults.FirstSegmentBytes, segmentBytes),
            DiskReserveBytes = Config.DataDirectory is null ? 0 : _environment.DiskReserveBytes,
            Logger = _loggers.CreateLogger("ShardForge.Log"),
        });
    }

    private EndPoint? AdvertisedEndPoint =>
        Config.Members.TryGetValue(Config.NodeId, out EndPoint? member) ? member : Config.AdvertisedEndPoint ?? _network.ListenEndPoint;

    // Links are dialled while the metadata starts, so it cannot be asked yet; what it says later is the same and more.
    private HandshakeHello Hello() => _metadata?.Hello((ulong)_directory.Log.DurablePosition) ?? new HandshakeHello
    {
        ClusterName = Config.ClusterName,
        NodeId = Config.NodeId,
        ClusterId = _directory?.Identity.ClusterId ?? default,
        InstanceId = _directory?.Identity.InstanceId ?? default,
        OpenCounter = (ulong)(_directory?.Identity.OpenCount ?? 0),
        LogEnd = (ulong)(_directory?.Log.DurablePosition ?? 0),
        FeatureLevel = FeatureLevels.Supported,
        AdvertisedEndPoint = _network is null ? null : AdvertisedEndPoint,
    };

    private async Task BringUpWhenFormedAsync()
    {
        try
        {
            await _metadata.Formed.WaitAsync(_stopping.Token).ConfigureAwait(false);
            await BringUpAsync(_stopping.Token).ConfigureAwait(false);
        }
        catch (Exception error)
        {
            // Told to whoever waits until the node is ready; operations go on waiting within their deadlines.
            if (!_stopping.IsCancellationRequested)
                LogNotBroughtUp(_logger, Config.NodeId, error);
            _broughtUp.TrySetException(error);
            _ = _broughtUp.Task.Exception;
        }
    }

    [LoggerMessage(EventId = 1001, Level = LogLevel.Information, Message = "Node {Node} of cluster {Cluster}: open, run {Run}, listening on {EndPoint}")]
    private static partial void LogOpened(ILogger logger, string node, string cluster, long run, EndPoint? endPoint);

    [LoggerMessage(EventId = 1002, Level = LogLevel.Error, Message = "Node {Node}: its replicas could not be brought up")]
    private static partial void LogNotBroughtUp(ILogger logger, string node, Exception error);
}
