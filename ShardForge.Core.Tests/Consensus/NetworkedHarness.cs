using System.Diagnostics;
using System.Net;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;
using ShardForge.Network;
using ShardForge.Testing.Network;
using ShardForge.Tests.Network;

namespace ShardForge.Tests.Consensus;

/// <summary>Replicas on DotNext over the real peer links and the real node log; the bytes of both are in memory.</summary>
internal sealed class NetworkedHarness : RaftGroupHarness
{
    private static readonly ShardId s_shard = new(3);
    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(20);
    private readonly InMemoryNetwork _wires = new();
    private readonly NetworkFaults _faults = new(seed: 11);
    private readonly RaftConfiguration _configuration;
    private readonly Node[] _nodes;

    private NetworkedHarness(int count)
    {
        _configuration = new([.. Enumerable.Range(0, count).Select(static replica => new RaftMember(IdOf(replica), $"n{replica}"))]);
        _nodes = [.. Enumerable.Range(0, count).Select(static replica => new Node(replica))];
    }

    public override int Count => _nodes.Length;

    public static async ValueTask<RaftGroupHarness> CreateAsync(int count)
    {
        NetworkedHarness harness = new(count);
        foreach (Node node in harness._nodes)
            harness.OpenNetwork(node);
        foreach (Node node in harness._nodes)
            await harness.OpenAsync(node, isNew: true);
        return harness;
    }

    public override IRaftGroup? TryGroup(int replica) => _nodes[replica].Group;

    public override RecordingStateMachine Machine(int replica) => _nodes[replica].Machine;

    public override void Cut(int left, int right)
    {
        _faults.BlockLink(left, right);
        _faults.BlockLink(right, left);
    }

    public override void Heal() => _faults.Heal();

    public override async ValueTask KillAsync(int replica)
    {
        Node node = _nodes[replica];
        node.Group = null;
        node.Network!.Kill();
        await node.Log!.KillAsync();
        await node.Raft!.DisposeAsync();
        await node.Network.DisposeAsync();
        node.Machine.Recover(node.Log.Replicas.Single().Generation);
    }

    public override async ValueTask RestartAsync(int replica)
    {
        OpenNetwork(_nodes[replica]);
        await OpenAsync(_nodes[replica], isNew: false);
    }

    public override async ValueTask WaitUntilAsync(Func<bool> condition, string what)
    {
        long start = Stopwatch.GetTimestamp();
        while (!condition())
        {
            if (Stopwatch.GetElapsedTime(start) > s_deadline)
                Assert.Fail($"Waited {s_deadline.TotalSeconds} s in vain for {what}.\n{string.Join('\n', _nodes.Select(static node => $"{node.Group?.Status} commit {node.Group?.CommitIndex} applied {node.Group?.AppliedIndex}"))}");
            await Task.Delay(1);
        }
    }

    public override async ValueTask WaitElectionAsync() => await Task.Delay(500);

    public override async ValueTask DisposeAsync()
    {
        foreach (Node node in _nodes.Where(static node => node.Group is not null))
        {
            await node.Raft!.DisposeAsync();
            await node.Log!.DisposeAsync();
            await node.Network!.DisposeAsync();
        }
    }

    private void OpenNetwork(Node node)
    {
        node.Network = PeerNetwork.Open(new PeerNetworkOptions
        {
            Transport = new FaultyTransport(new InMemoryTransport(_wires), _faults, node.Number),
            LocalHello = () => PeerWorld.Hello($"n{node.Number}"),
            Policy = new SameClusterPolicy(),
            ListenEndPoint = PeerWorld.AnyPort,
            Seed = node.Number,
        });
    }

    private async Task OpenAsync(Node node, bool isNew)
    {
        node.Log = ShardForge.Consensus.NodeLog.NodeLog.Open(node.Files, "/log", new NodeLogOptions { SegmentBytes = 1024 * 1024 });
        IReplicaLog log = isNew
            ? await node.Log.CreateReplicaAsync(IdOf(node.Number), default, _configuration.Encode())
            : node.Log.Replicas.Single();
        RaftNodeOptions options = DotNextHarness.CreateOptions() with { FileSystem = node.Files, Seed = node.Number };
        node.Raft = new RaftNode(new PeerRaftLink(node.Network!), options);
        node.Log.Failed += node.Raft.FailAll;
        foreach (Node other in _nodes.Where(other => other != node && other.Network is not null))
        {
            node.Network!.SetAddress($"n{other.Number}", other.Network!.ListenEndPoint!);
            other.Network.SetAddress($"n{node.Number}", node.Network.ListenEndPoint!);
        }

        node.Network!.Start();
        node.Group = await node.Raft.OpenGroupAsync(s_shard, log, node.Machine, new RaftGroupOptions { IsNew = isNew, IsPreferredFirstLeader = node.Number == 0 });
    }

    private sealed class Node(int number)
    {
        public int Number => number;

        public InMemoryFileSystem Files { get; } = new();

        public RecordingStateMachine Machine => field ??= new RecordingStateMachine(Files, "/shard");

        public PeerNetwork? Network { get; set; }

        public ShardForge.Consensus.NodeLog.NodeLog? Log { get; set; }

        public RaftNode? Raft { get; set; }

        public IRaftGroup? Group { get; set; }
    }
}
