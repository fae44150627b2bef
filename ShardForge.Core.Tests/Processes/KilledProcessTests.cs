using System.Globalization;
using System.Net;
using System.Net.Sockets;
using NUnit.Framework;
using NUnit.Framework.Interfaces;

namespace ShardForge.Tests.Processes;

/// <summary>Real processes, real files, TCP, and SIGKILL in the middle of writes: every write that was acknowledged is there afterwards, through every node.</summary>
/// <remarks>
/// The acknowledged writes are kept by this process. Three rounds by default; the long form:
/// <c>SHARDFORGE_ROUNDS=20 dotnet test --filter FullyQualifiedName~KilledProcess</c>. What varies between runs is drawn from a seed,
/// which is printed; <c>SHARDFORGE_SEED</c> sets it.
/// </remarks>
[TestFixture]
[Category("Processes")]
[FixtureLifeCycle(LifeCycle.InstancePerTestCase)]
public sealed class KilledProcessTests : IDisposable
{
    private const int ShardCount = 4, WriterCount = 4, RoundsDefault = 3, ExamplesMax = 10;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(120);
    private readonly string _root = Directory.CreateTempSubdirectory("shardforge-processes-").FullName;
    private readonly int _rounds = ReadVariable("SHARDFORGE_ROUNDS") ?? RoundsDefault;
    private readonly int _seed = ReadVariable("SHARDFORGE_SEED") ?? Environment.TickCount & 0xFFFFFF;
    private readonly Random _random;

    public KilledProcessTests()
    {
        _random = new Random(_seed);
        TestContext.Out.WriteLine($"again: SHARDFORGE_SEED={_seed} SHARDFORGE_ROUNDS={_rounds} dotnet test --filter FullyQualifiedName~{nameof(KilledProcessTests)}");
    }

    public void Dispose()
    {
        if (TestContext.CurrentContext.Result.Outcome.Status == TestStatus.Failed)
            TestContext.Out.WriteLine($"kept: {_root}");
        else
            Directory.Delete(_root, recursive: true);
    }

    [Test]
    public async Task A_single_node_killed_in_the_middle_of_writes_holds_every_acknowledged_write()
    {
        WriteRecord record = new("n1");
        for (int round = 0; round <= _rounds; round++)
        {
            await using NodeProcess node = await NodeProcess.StartAsync(record, Path.Combine(_root, "n1"), "n1", ShardCount, new Dictionary<string, int>());
            await VerifyAsync(round, [node], [record]);
            if (round == _rounds)
                return;
            await node.StartWritersAsync(WriterCount, record.NextNumber);
            await WaitForMoreAsync(record);
            await node.KillAsync();
        }
    }

    [Test]
    public async Task Three_nodes_killed_all_at_once_in_the_middle_of_writes_hold_every_acknowledged_write()
    {
        WriteRecord[] records = [new("n1"), new("n2"), new("n3")];
        Dictionary<string, int> ports = FindPorts(records);
        for (int round = 0; round <= _rounds; round++)
        {
            NodeProcess[] nodes = [.. records.Select(record => StartNode(record, ports))];
            try
            {
                foreach (NodeProcess node in nodes)
                    await node.WaitUntilReadyAsync();
                await VerifyAsync(round, nodes, records);
                if (round == _rounds)
                    return;
                for (int at = 0; at < nodes.Length; at++)
                    await nodes[at].StartWritersAsync(WriterCount, records[at].NextNumber);
                await Task.WhenAll(records.Select(WaitForMoreAsync));
                await Task.WhenAll(nodes.Select(static node => node.KillAsync()));
            }
            finally
            {
                foreach (NodeProcess node in nodes)
                    await node.DisposeAsync();
            }
        }
    }

    [Test]
    public async Task Nodes_killed_one_at_a_time_in_the_middle_of_writes_lose_no_acknowledged_write()
    {
        WriteRecord[] records = [new("n1"), new("n2"), new("n3")];
        Dictionary<string, int> ports = FindPorts(records);
        NodeProcess[] nodes = [.. records.Select(record => StartNode(record, ports))];
        try
        {
            foreach (NodeProcess node in nodes)
                await node.WaitUntilReadyAsync();
            for (int round = 0; round < _rounds; round++)
            {
                int victim = _random.Next(nodes.Length);
                for (int at = 0; at < nodes.Length; at++)
                    await nodes[at].StartWritersAsync(WriterCount, records[at].NextNumber);
                await Task.WhenAll(records.Select(WaitForMoreAsync));
                await nodes[victim].KillAsync();

                // The others go on without it, and while it comes back.
                await Task.WhenAll(records.Where((_, at) => at != victim).Select(WaitForMoreAsync));
                await nodes[victim].DisposeAsync();
                nodes[victim] = StartNode(records[victim], ports);
                await nodes[victim].WaitUntilReadyAsync();
                await Task.WhenAll(records.Where((_, at) => at != victim).Select(WaitForMoreAsync));
                for (int at = 0; at < nodes.Length; at++)
                    await nodes[at].StopWritersAsync();
                await VerifyAsync(round, nodes, records);
            }
        }
        finally
        {
            foreach (NodeProcess node in nodes)
                await node.DisposeAsync();
        }
    }

    private NodeProcess StartNode(WriteRecord record, IReadOnlyDictionary<string, int> ports) =>
        NodeProcess.Start(record, Path.Combine(_root, record.NodeId), record.NodeId, ShardCount, ports);

    /// <summary>Somewhere in the middle: a number of further acknowledged writes drawn from the seed.</summary>
    private async Task WaitForMoreAsync(WriteRecord record)
    {
        int more;
        lock (_random)
            more = 20 + _random.Next(200);
        await record.WaitForAsync(record.AcknowledgedCount + more, s_patience);
    }

    private static async Task VerifyAsync(int round, IReadOnlyList<NodeProcess> nodes, IReadOnlyList<WriteRecord> records)
    {
        foreach (NodeProcess node in nodes)
        {
            Dictionary<string, long> content = await node.DumpAsync();
            string[] contradictions = [.. records.SelectMany(record => record.Contradictions(content))];
            if (contradictions.Length > 0)
                Assert.Fail($"round {round}, {content.Count} keys, {contradictions.Length} contradictions:\n{string.Join('\n', contradictions.Take(ExamplesMax))}");
        }

        TestContext.Out.WriteLine($"round {round}: {records.Sum(static record => record.AcknowledgedCount):N0} writes acknowledged so far, all there through {nodes.Count} node(s)");
    }

    /// <summary>Ports that are free now and below the range from which systems hand out ports of their own, so that they stay free.</summary>
    private static Dictionary<string, int> FindPorts(IEnumerable<WriteRecord> records)
    {
        const int First = 20_000, Count = 12_000;
        int port = First + (Environment.ProcessId * 37 % Count);
        Dictionary<string, int> ports = [];
        foreach (WriteRecord record in records)
        {
            do
                port = First + ((port - First + 1) % Count);
            while (!IsFree(port));
            ports.Add(record.NodeId, port);
        }

        return ports;
    }

    private static bool IsFree(int port)
    {
        try
        {
            using Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(IPAddress.Loopback, port));
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private static int? ReadVariable(string name) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : null;
}
