using System.Diagnostics;
using System.Net;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Metadata;
using ShardForge.Tests.Consensus;

namespace ShardForge.Tests.Metadata;

/// <summary>Nodes of one process with their metadata services and real Raft groups for group 0; disks, logs and links in memory. Time is real.</summary>
internal sealed class MetadataNodes : IAsyncDisposable
{
    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(20);
    private readonly Dictionary<string, Node> _nodes = new(StringComparer.Ordinal);
    private readonly RaftLinkHub _raft = new();
    private int _lastId;

    public MetadataHub Hub { get; } = new();

    public MetadataService this[string node] => _nodes[node].Service!;

    public IEnumerable<MetadataService> Services => _nodes.Values.Where(static node => node.Service is not null).Select(static node => node.Service!);

    public static IReadOnlyDictionary<string, EndPoint> Members(int count) =>
        Enumerable.Range(1, count).ToDictionary(static number => $"n{number}", static number => (EndPoint)MetadataHub.AddressOf(number), StringComparer.Ordinal);

    public InMemoryFileSystem DiskOf(string node) => _nodes[node].Disk;

    /// <summary>Starts a node as a process would; what is wired to the formation goes on in the background.</summary>
    public async Task<MetadataService> StartAsync(int number, Func<MetadataOptions, MetadataOptions>? change = null)
    {
        string nodeId = $"n{number}";
        if (!_nodes.TryGetValue(nodeId, out Node? node))
            _nodes.Add(nodeId, node = new() { Instance = new Guid(++_lastId, 0, 0, new byte[8]) });
        node.OpenCounter++;
        if (change is not null)
            node.Change = change;
        MetadataOptions options = new()
        {
            NodeId = nodeId,
            ClusterName = "test",
            InstanceId = node.Instance,
            OpenCounter = node.OpenCounter,
            AdvertisedEndPoint = MetadataHub.AddressOf(number),
            ShardCount = 4,
            NewClusterId = new Guid(++_lastId, 0, 0, new byte[8]),
            Directory = "/data",
            FileSystem = node.Disk,
            Link = Hub.CreateLink(nodeId, MetadataHub.AddressOf(number)),
        };
        node.Disk.CreateDirectory("/data/shards");
        node.Service = await MetadataService.StartAsync(node.Change is null ? options : node.Change(options));
        Hub.Add(node.Service);
        node.Wiring = WireAsync(node, nodeId);
        return node.Service;
    }

    /// <summary>As kill -9: what was not durable in the log is gone.</summary>
    public async Task KillAsync(int number)
    {
        Node node = _nodes[$"n{number}"];
        Hub.Remove($"n{number}");
        _raft.Remove($"n{number}");
        if (node.Service is not { } service)
            return;
        node.Service = null;
        await service.DisposeAsync();
        await node.Wiring;
        await CloseGroupAsync(node);
        node.Log?.Crash();
    }

    public async Task StopAsync(int number)
    {
        Node node = _nodes[$"n{number}"];
        MetadataService service = node.Service!;
        await service.StopAsync();
        Hub.Remove($"n{number}");
        await node.Wiring;
        await CloseGroupAsync(node);
        await service.DisposeAsync();
        node.Service = null;
    }

    public async Task WipeAsync(int number)
    {
        await KillAsync(number);
        _nodes.Remove($"n{number}");
    }

    public void Isolate(int number)
    {
        foreach (string other in _nodes.Keys)
        {
            Hub.Cut($"n{number}", other);
            _raft.Cut($"n{number}", other);
        }
    }

    public void Heal()
    {
        Hub.Heal();
        _raft.Heal();
    }

    public int LeaderNumber() => _nodes.Where(static node => node.Value.Service?.Replica?.TryGetServingTerm(out Term _) == true).Select(static node => int.Parse(node.Key[1..])).FirstOrDefault();

    public async Task<int> WaitForLeaderAsync(int except = 0)
    {
        await WaitAsync(() => LeaderNumber() is int leader && leader != 0 && leader != except, "a leader of group 0");
        return LeaderNumber();
    }

    public static async Task WaitAsync(Func<bool> condition, string what)
    {
        long start = Stopwatch.GetTimestamp();
        while (!condition())
        {
            if (Stopwatch.GetElapsedTime(start) > s_deadline)
                Assert.Fail($"Waited {s_deadline.TotalSeconds} s in vain for {what}.");
            await Task.Delay(2);
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (string node in _nodes.Keys.ToArray())
            await KillAsync(int.Parse(node[1..]));
    }

    private async Task WireAsync(Node node, string nodeId)
    {
        MetadataService service = node.Service!;
        ClusterState record;
        try
        {
            record = await service.Formed;
        }
        catch (Exception error) when (error is ConfigurationException or ObjectDisposedException)
        {
            return;
        }

        foreach (HostedReplica hosted in record.Version == ClusterState.FormationVersion ? record.ReplicasOn(nodeId) : [])
        {
            if (hosted.Shard != ShardId.Metadata)
                continue;
            bool isNew = node.Log is null;
            node.Log ??= new MemoryReplicaLog(hosted.Replica, RaftConfiguration.Decode(hosted.EncodeConfiguration()));
            node.Raft = new RaftNode(_raft.CreateLink(nodeId), DotNextHarness.CreateOptions() with { FileSystem = node.Disk });
            MetadataReplica replica = service.OpenReplica(node.Log.Replica, node.Log.Generation, node.Log.CompactedIndex);
            node.Group = await node.Raft.OpenGroupAsync(
                ShardId.Metadata, node.Log, replica, new RaftGroupOptions { IsNew = isNew, IsPreferredFirstLeader = isNew && hosted.PrefersToLead });
            service.Attach(node.Group);
        }
    }

    private static async Task CloseGroupAsync(Node node)
    {
        if (node.Raft is { } raft)
            await raft.DisposeAsync();
        node.Raft = null;
        node.Group = null;
    }

    private sealed class Node
    {
        public required Guid Instance { get; init; }

        public InMemoryFileSystem Disk { get; } = new();

        public MemoryReplicaLog? Log { get; set; }

        public ulong OpenCounter { get; set; }

        public Func<MetadataOptions, MetadataOptions>? Change { get; set; }

        public MetadataService? Service { get; set; }

        public RaftNode? Raft { get; set; }

        public IRaftGroup? Group { get; set; }

        public Task Wiring { get; set; } = Task.CompletedTask;
    }
}
