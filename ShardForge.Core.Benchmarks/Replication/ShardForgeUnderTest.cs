using System.Net;
using System.Net.Sockets;
using ShardForge.Common;
using ShardForge.Testing;

namespace ShardForge.Benchmarks.Replication;

/// <summary>Three nodes in this process, linked over TCP, each with a directory of its own on the real disk.</summary>
internal sealed class ShardForgeUnderTest(int shardCount) : IClusterUnderTest
{
    private const int Nodes = 3;
    private readonly string _folder = Directory.CreateTempSubdirectory("shardforge-replication-").FullName;
    private readonly ShardForgeCluster?[] _nodes = new ShardForgeCluster?[Nodes];
    private readonly FaultyFileSystem?[] _files = new FaultyFileSystem?[Nodes];
    private readonly ShardForgeConfig[] _configs = new ShardForgeConfig[Nodes];

    public string Name => "ShardForge";

    public int Count => Nodes;

    public ShardForgeCluster this[int node] => _nodes[node] ?? throw new InvalidOperationException($"Node {node} is down.");

    public async Task StartAsync()
    {
        Dictionary<string, EndPoint> members = [];
        int[] ports = FreePorts();
        for (int i = 0; i < Nodes; i++)
            members.Add($"n{i + 1}", new IPEndPoint(IPAddress.Loopback, ports[i]));
        for (int i = 0; i < Nodes; i++)
        {
            _configs[i] = new ShardForgeConfig
            {
                ClusterName = "bench",
                NodeId = $"n{i + 1}",
                DataDirectory = Path.Combine(_folder, $"n{i + 1}"),
                ListenEndPoint = (IPEndPoint)members[$"n{i + 1}"],
                Members = members,
                ShardCount = shardCount,
            };
        }

        await OpenAllAsync();
    }

    public async Task RestartAsync()
    {
        foreach (ShardForgeCluster? node in _nodes)
            await node!.DisposeAsync();
        await OpenAllAsync();
    }

    /// <summary>As kill -9, as far as one process can: its files take nothing any more, its links are gone without a word.</summary>
    public async Task KillAsync(int node)
    {
        NodeRuntime runtime = this[node].Node;
        _nodes[node] = null;
        _files[node]!.PowerOff();
        await runtime.KillAsync();
        _files[node]!.EndProcess();
    }

    public async Task ReopenAsync(int node)
    {
        _files[node] = new FaultyFileSystem(PhysicalFileSystem.Instance, Path.Combine(_folder, $"n{node + 1}.lost"), flushInner: true);
        _nodes[node] = await ShardForgeCluster.OpenAsync(_configs[node], new NodeEnvironment { FileSystem = _files[node] }, CancellationToken.None);
    }

    /// <summary>The next open of each node is over files that can die under it.</summary>
    public async Task MakeKillableAsync()
    {
        for (int i = 0; i < Nodes; i++)
            await this[i].DisposeAsync();
        await Task.WhenAll(Enumerable.Range(0, Nodes).Select(ReopenAsync));
    }

    public ValueTask PutAsync(int caller, byte[] key, byte[] value) => this[caller % Nodes].PutAsync(key, value);

    public ValueTask<byte[]?> GetAsync(int caller, byte[] key) => this[caller % Nodes].GetAsync(key);

    public Usage Measure() => Usage.OfProcesses([]) with
    {
        Flushes = _nodes.Sum(static node => node!.Node.Work.Flushes),
        Entries = _nodes.Sum(static node => node!.Node.Work.Entries),
    };

    public async ValueTask DisposeAsync()
    {
        foreach (ShardForgeCluster? node in _nodes)
        {
            if (node is not null)
                await node.DisposeAsync();
        }

        Directory.Delete(_folder, recursive: true);
    }

    internal static int[] FreePorts()
    {
        Socket[] held = new Socket[2 * Nodes];
        for (int i = 0; i < held.Length; i++)
        {
            held[i] = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            held[i].Bind(new IPEndPoint(IPAddress.Loopback, 0));
        }

        int[] ports = [.. held.Select(static socket => ((IPEndPoint)socket.LocalEndPoint!).Port)];
        foreach (Socket socket in held)
            socket.Dispose();
        return ports;
    }

    private Task OpenAllAsync() => Task.WhenAll(Enumerable.Range(0, Nodes).Select(async i => _nodes[i] = await ShardForgeCluster.OpenAsync(_configs[i])));
}
