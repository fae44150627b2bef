using System.Globalization;
using System.Net;
using ShardForge.Common;
using ShardForge.Network;
using ShardForge.Routing;
using ShardForge.Testing.Network;

namespace ShardForge.Testing;

/// <summary>A whole cluster in this process, for unit tests. Owns its ports and folders; disposing removes them. Its methods may be called concurrently.</summary>
/// <remarks>
/// <para>Ready, here: the node is up and reaches a leader of every shard that has a majority of its replicas up. Kill, PowerCut and Stop of a dead
/// node do nothing.</para>
/// <para>A kill takes the node's files and links away at once, as the end of its process would: what the operating system had, stays; what was only in
/// the process is gone. A power cut also takes, by seed, what was not flushed. Flushes do not reach the disk, since no power is really cut; that makes a test
/// cluster faster than a real one (<see cref="ShardForgeTestClusterOptions.FlushesReachDisk"/>).</para>
/// </remarks>
public sealed class ShardForgeTestCluster : IAsyncDisposable
{
    private const int NodesMax = 16, StartAttemptsMax = 5, DiskReserveBytes = 1024 * 1024;

    private readonly ShardForgeTestClusterOptions _options;
    private readonly Lock _gate = new();
    private volatile TestNode[] _nodes;     // another array where one is added
    private readonly NetworkFaults _faults;
    private readonly ITransport _transport;
    private readonly string? _folder;
    private int _disposed;

    private ShardForgeTestCluster(ShardForgeTestClusterOptions options, int seed)
    {
        _options = options;
        Seed = seed;
        _faults = new NetworkFaults(seed);
        _transport = options.Transport == TestTransport.Tcp ? new TcpTransport() : new InMemoryTransport(new InMemoryNetwork());
        bool needsFiles = options.Durable || !options.StorageEngine.UsesFileSystem;
        _folder = needsFiles ? Directory.CreateTempSubdirectory("shardforge-cluster-").FullName : null;
        Dictionary<string, EndPoint> members = new(StringComparer.Ordinal);
        int[] ports = options.Transport == TestTransport.Tcp ? FreePorts(options.Nodes) : [.. Enumerable.Range(1, options.Nodes)];
        for (int i = 0; i < options.Nodes; i++)
            members.Add(NameOf(i), new IPEndPoint(IPAddress.Loopback, ports[i]));

        _nodes = new TestNode[options.Nodes];
        for (int i = 0; i < _nodes.Length; i++)
            _nodes[i] = NewNode(i, (IPEndPoint)members[NameOf(i)], members, []);
    }

    /// <summary>Number of nodes, up or down.</summary>
    public int Count => _nodes.Length;

    /// <summary>What the cluster's own randomness comes from; print it where a test fails.</summary>
    public int Seed { get; }

    /// <summary>A node that is up.</summary>
    /// <param name="node">0 to <see cref="Count"/> - 1.</param>
    /// <exception cref="InvalidOperationException">The node is down.</exception>
    public ShardForgeCluster this[int node] => At(node).Cluster
        ?? throw new InvalidOperationException($"Node {node} is down. Restart it first.");

    internal NetworkFaults Faults => _faults;

    /// <summary>The files of a node, up or down.</summary>
    internal FaultyFileSystem FilesOf(int node) => At(node).Files;

    /// <summary>Adds a node: it is empty, joins those that are up, and is ready when the task ends. It gets replicas a little later.</summary>
    /// <param name="cancellationToken">Ends the wait; the node stays.</param>
    /// <returns>Its index: the former <see cref="Count"/>.</returns>
    /// <exception cref="InvalidOperationException">There are as many nodes as there may be.</exception>
    /// <exception cref="TimeoutException">It was not ready within <see cref="ShardForgeTestClusterOptions.ReadyTimeout"/>; it is up.</exception>
    public async Task<int> AddNodeAsync(CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_disposed != 0, this);
        TestNode added;
        lock (_gate)
        {
            int index = _nodes.Length;
            if (index >= NodesMax)
                throw new InvalidOperationException($"There are {index} nodes already; more are not possible.");
            IPEndPoint address = new(IPAddress.Loopback, _options.Transport == TestTransport.Tcp ? FreePorts(1)[0] : index + 1);
            EndPoint[] join = [.. _nodes.Select(static node => node.Address)];
            added = NewNode(index, address, new Dictionary<string, EndPoint>(StringComparer.Ordinal), join);
            _nodes = [.. _nodes, added];
        }

        await added.OpenAsync(cancellationToken).ConfigureAwait(false);
        await added.WaitUntilReadyAsync(cancellationToken).ConfigureAwait(false);
        return added.Index;
    }

    /// <summary>Deletes everything that a node has on its disk. Restarted, it comes back empty, in the place of what it was.</summary>
    /// <exception cref="InvalidOperationException">The node is running.</exception>
    public Task WipeAsync(int node) => At(node).WipeAsync();

    /// <summary>Starts a cluster; it is ready when the task ends.</summary>
    /// <param name="options">Null: three nodes, four shards, in-memory links, real files.</param>
    /// <param name="cancellationToken">Ends the start; nothing stays behind.</param>
    /// <exception cref="ArgumentOutOfRangeException">A number is out of its range.</exception>
    /// <exception cref="ConfigurationException">A setting cannot be used.</exception>
    /// <exception cref="TimeoutException">It was not ready within <see cref="ShardForgeTestClusterOptions.ReadyTimeout"/>.</exception>
    public static async Task<ShardForgeTestCluster> StartAsync(ShardForgeTestClusterOptions? options = null, CancellationToken cancellationToken = default)
    {
        ShardForgeTestClusterOptions checkedOptions = options ?? new ShardForgeTestClusterOptions();
        if (checkedOptions.Nodes is < 1 or > NodesMax)
            throw new ArgumentOutOfRangeException(nameof(options), checkedOptions.Nodes, $"ShardForgeTestClusterOptions.Nodes must be 1 to {NodesMax}.");
        int seed = checkedOptions.Seed ?? System.Security.Cryptography.RandomNumberGenerator.GetInt32(int.MaxValue);
        for (int attempt = 1; ; attempt++)
        {
            ShardForgeTestCluster cluster = new(checkedOptions, seed);
            try
            {
                await Task.WhenAll(cluster._nodes.Select(node => node.OpenAsync(cancellationToken))).ConfigureAwait(false);
                await Task.WhenAll(cluster._nodes.Select(node => node.WaitUntilReadyAsync(cancellationToken))).ConfigureAwait(false);
                return cluster;
            }
            catch (ConfigurationException error) when (error.Setting == nameof(ShardForgeConfig.ListenEndPoint) && attempt < StartAttemptsMax)
            {
                // Somebody else took the free port in between: others are drawn.
                await cluster.DisposeAsync().ConfigureAwait(false);
            }
            catch
            {
                await cluster.DisposeAsync().ConfigureAwait(false);
                throw;
            }
        }
    }

    /// <summary>As kill -9: no goodbye; what the operating system has, survives. A dead node: nothing happens.</summary>
    public Task KillAsync(int node) => At(node).EndAsync(EndOfNode.Kill);

    /// <summary>As a power cut: what was not flushed may be lost or torn, by seed (SQLite's own files: as a kill). A dead node: nothing happens.</summary>
    public Task PowerCutAsync(int node) => At(node).EndAsync(EndOfNode.PowerCut);

    /// <summary>Stops a node gracefully: leadership is handed over. A dead node: nothing happens.</summary>
    public Task StopAsync(int node) => At(node).EndAsync(EndOfNode.Stop);

    /// <summary>Opens a node on the data it left behind; it is ready when the task ends.</summary>
    /// <param name="node">A node that is down.</param>
    /// <param name="cancellationToken">Ends the wait; the node is down again then.</param>
    /// <exception cref="InvalidOperationException">The node is running.</exception>
    /// <exception cref="TimeoutException">It was not ready within <see cref="ShardForgeTestClusterOptions.ReadyTimeout"/>; it is up.</exception>
    public async Task RestartAsync(int node, CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_disposed != 0, this);
        await At(node).OpenAsync(cancellationToken).ConfigureAwait(false);
        await At(node).WaitUntilReadyAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Nodes in different groups cannot talk, either way; those not named form one more group; replaces an earlier partition.</summary>
    public void Partition(params int[][] groups)
    {
        ArgumentNullException.ThrowIfNull(groups);
        foreach (int[] group in groups)
        {
            foreach (int node in group)
                At(node);
        }

        _faults.Partition(groups);
    }

    /// <summary>Nothing gets from one node to the other; the opposite direction is left as it is.</summary>
    public void BlockLink(int from, int to) => _faults.BlockLink(At(from).Index, At(to).Index);

    /// <summary>Undoes partitions, blocks and delays.</summary>
    public void Heal()
    {
        _faults.Heal();
        TakeElectionSlack();
    }

    /// <summary>Everything between two nodes takes so much longer, each way.</summary>
    /// <param name="delay">Zero: as fast as it goes. While it lasts, nodes wait longer for their leaders by a multiple of it: a failover takes as much longer.</param>
    /// <exception cref="ArgumentOutOfRangeException">It is negative, or more than a minute.</exception>
    public void DelayLinks(TimeSpan delay)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(delay, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(delay, TimeSpan.FromMinutes(1));
        _faults.DelayLinks(delay);
        TakeElectionSlack();
    }

    /// <summary>Index of the node that leads the key's shard, -1 if none does now.</summary>
    public int LeaderOf(ReadOnlyMemory<byte> key)
    {
        int leader = -1;
        long term = -1;
        foreach (TestNode node in _nodes)
        {
            // A leader that was cut off may still believe it: the latest term counts.
            if (node.Cluster?.Node.FindLeadership(key) is { } leading && leading.Value > term)
            {
                term = leading.Value;
                leader = node.Index;
            }
        }

        return leader;
    }

    /// <summary>Stops the nodes and removes what the cluster had on the disk. May be called twice.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        await Task.WhenAll(_nodes.Select(static node => node.EndAsync(EndOfNode.Dispose))).ConfigureAwait(false);
        if (_folder is not null && Directory.Exists(_folder))
            Directory.Delete(_folder, recursive: true);
    }

    // A sign of a leader needs a way, an election two ways there and back.
    private TimeSpan ElectionSlack() => _faults.Delay * 4;

    private void TakeElectionSlack()
    {
        foreach (TestNode node in _nodes)
            node.Cluster?.Node.TakeElectionSlack();
    }

    private TestNode NewNode(int index, IPEndPoint address, IReadOnlyDictionary<string, EndPoint> members, IReadOnlyList<EndPoint> join)
    {
        string home = _folder ?? Path.GetFullPath("/shardforge");
        IFileSystem inner = _folder is null ? new InMemoryFileSystem() : PhysicalFileSystem.Instance;
        FaultyFileSystem files = new(inner, Path.Combine(home, $"{NameOf(index)}.lost"), _options.FlushesReachDisk);
        return new TestNode(this, index, files, new ShardForgeConfig
        {
            ClusterName = "test",
            NodeId = NameOf(index),
            DataDirectory = Path.Combine(home, NameOf(index)),
            ListenEndPoint = address,
            Members = members,
            Join = join,
            ShardCount = _options.ShardCount,
            ReplicationFactor = join.Count == 0 ? _options.ReplicationFactor : null,
            PartitionRule = _options.PartitionRule,
            OperationTimeout = _options.OperationTimeout,
            StorageEngine = _options.StorageEngine,
            LoggerFactory = _options.LoggerFactory,
            TimeProvider = _options.TimeProvider,
            Limits = _options.Limits,
        });
    }

    private static string NameOf(int index) => string.Create(CultureInfo.InvariantCulture, $"node-{index + 1}");

    private static int[] FreePorts(int count)
    {
        // All are held until all are known, so that no two are the same.
        List<System.Net.Sockets.Socket> held = [];
        try
        {
            for (int i = 0; i < count; i++)
            {
                System.Net.Sockets.Socket socket = new(System.Net.Sockets.AddressFamily.InterNetwork, System.Net.Sockets.SocketType.Stream, System.Net.Sockets.ProtocolType.Tcp);
                held.Add(socket);
                socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            }

            return [.. held.Select(static socket => ((IPEndPoint)socket.LocalEndPoint!).Port)];
        }
        finally
        {
            foreach (System.Net.Sockets.Socket socket in held)
                socket.Dispose();
        }
    }

    private TestNode At(int node)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(node);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(node, _nodes.Length);
        return _nodes[node];
    }

    /// <summary>Whether a majority of a shard's replicas is on nodes that are up.</summary>
    private bool HasMajorityUp(ShardRoute shard)
    {
        int up = 0;
        foreach (TestNode node in _nodes)
        {
            if (node.Cluster is not null && shard.Nodes.Contains(NameOf(node.Index)))
                up++;
        }

        return up > shard.Nodes.Count / 2;
    }

    private enum EndOfNode
    {
        Stop,
        Dispose,
        Kill,
        PowerCut,
    }

    /// <summary>A node, up or down, with the files that outlive it. Starts and ends come one at a time.</summary>
    [System.Diagnostics.CodeAnalysis.SuppressMessage("Design", "CA1001", Justification = "A semaphore without a wait handle holds nothing.")]
    private sealed class TestNode(ShardForgeTestCluster owner, int index, FaultyFileSystem files, ShardForgeConfig config)
    {
        private readonly SemaphoreSlim _turn = new(1, 1);
        private volatile ShardForgeCluster? _cluster;
        private int _run;

        public int Index => index;

        public FaultyFileSystem Files => files;

        public EndPoint Address => config.ListenEndPoint!;

        public ShardForgeCluster? Cluster => _cluster;

        public async Task OpenAsync(CancellationToken cancellationToken)
        {
            await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                if (_cluster is not null)
                    throw new InvalidOperationException($"Node {index} is running.");
                _cluster = await ShardForgeCluster.OpenWithoutWaitAsync(config, new NodeEnvironment
                {
                    FileSystem = files,
                    Transport = new FaultyTransport(owner._transport, owner._faults, index),
                    // Every run of every node draws its own: ids must not come again.
                    Seed = unchecked((((owner.Seed * 31) + index) * 1_000_003) + ++_run),
                    ElectionTimeout = owner._options.ElectionTimeout,
                    LogSegmentBytes = 8 * 1024 * 1024,
                    ElectionSlack = owner.ElectionSlack,
                    DiskReserveBytes = DiskReserveBytes,
                    SilenceAlarm = owner._options.ElectionTimeout * 5,
                }, cancellationToken).ConfigureAwait(false);
                _cluster.Node.TakeElectionSlack();      // it may have changed while the node was not to be seen
            }
            finally
            {
                _turn.Release();
            }
        }

        public async Task WaitUntilReadyAsync(CancellationToken cancellationToken)
        {
            NodeRuntime node = (_cluster ?? throw new InvalidOperationException($"Node {index} went down again.")).Node;
            using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            limit.CancelAfter(owner._options.ReadyTimeout);
            try
            {
                await node.WaitUntilBroughtUpAsync(limit.Token).ConfigureAwait(false);
                await node.WaitForLeadersAsync(owner.HasMajorityUp, limit.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException error) when (!cancellationToken.IsCancellationRequested)
            {
                throw new TimeoutException(
                    $"Node {index} was not ready within {owner._options.ReadyTimeout.TotalSeconds:0.#} s (seed {owner.Seed}): {string.Join(' ', node.GetStatus().Problems)}", error);
            }
        }

        public async Task WipeAsync()
        {
            await _turn.WaitAsync().ConfigureAwait(false);
            try
            {
                if (_cluster is not null)
                    throw new InvalidOperationException($"Node {index} is running. Kill or stop it first.");
                files.DeleteDirectory(config.DataDirectory!);
            }
            finally
            {
                _turn.Release();
            }
        }

        public async Task EndAsync(EndOfNode how)
        {
            await _turn.WaitAsync().ConfigureAwait(false);
            try
            {
                if (_cluster is not { } cluster)
                    return;
                _cluster = null;
                switch (how)
                {
                    case EndOfNode.Stop:
                        await cluster.Node.StopAsync().ConfigureAwait(false);
                        break;
                    case EndOfNode.Dispose or EndOfNode.Kill:    // what a disposed cluster leaves is deleted: nothing has to be written any more
                        files.PowerOff();
                        await cluster.Node.KillAsync().ConfigureAwait(false);
                        files.EndProcess();
                        break;
                    default:
                        files.PowerOff();
                        await cluster.Node.KillAsync().ConfigureAwait(false);
                        files.PowerOn(unchecked((owner.Seed * 17) + (index * 7_919) + _run));
                        break;
                }
            }
            finally
            {
                _turn.Release();
            }
        }
    }
}
