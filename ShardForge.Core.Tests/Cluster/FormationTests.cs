using System.Net;
using System.Net.Sockets;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>Nodes that are opened one by one, as three processes would, over TCP.</summary>
[Parallelizable(ParallelScope.All)]
public sealed class FormationTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(60);

    [Test]
    public async Task Three_nodes_form_one_cluster_and_find_each_other_again()
    {
        using TempFolder folder = new();
        ShardForgeConfig[] configs = Configs(folder, 3);
        Guid? clusterId;
        await using (Nodes nodes = Nodes.Open(configs))
        {
            await nodes.WaitUntilReadyAsync();
            await nodes[0].PutAsync(Bytes("k"), Bytes("v"));
            Assert.That(Text(await nodes[2].GetAsync(Bytes("k"))), Is.EqualTo("v"));
            clusterId = nodes[1].GetStatus().ClusterId;
            Assert.That(nodes[0].GetStatus().ClusterId, Is.EqualTo(clusterId));
            Assert.That(nodes[0].GetStatus().Nodes.Select(static node => node.NodeId), Is.EqualTo(new[] { "n1", "n2", "n3" }));
        }

        await using Nodes again = Nodes.Open(configs);
        await again.WaitUntilReadyAsync();
        Assert.That(again[2].GetStatus().ClusterId, Is.EqualTo(clusterId));
        Assert.That(Text(await again[1].GetAsync(Bytes("k"))), Is.EqualTo("v"));
    }

    [Test]
    public async Task Operations_before_the_cluster_is_formed_wait_and_go_on()
    {
        using TempFolder folder = new();
        ShardForgeConfig[] configs = Configs(folder, 3, operationTimeout: s_limit);
        await using Nodes nodes = Nodes.Open(configs[..1]);
        ValueTask put = nodes[0].PutAsync(Bytes("k"), Bytes("v"));
        Assert.That(put.IsCompleted, Is.False);

        nodes.Add(configs[1..]);

        await put.AsTask().WaitAsync(s_limit);
        Assert.That(Text(await nodes[1].GetAsync(Bytes("k"))), Is.EqualTo("v"));
    }

    [Test]
    public void Operations_that_wait_in_vain_end_at_their_deadline()
    {
        using TempFolder folder = new();
        ShardForgeConfig[] configs = Configs(folder, 3, operationTimeout: TimeSpan.FromMilliseconds(200));
        using ShardForgeCluster alone = ShardForgeCluster.Open(configs[0]);

        Assert.ThrowsAsync<ShardUnavailableException>(async () => await alone.PutAsync(Bytes("k"), Bytes("v")));
        Assert.ThrowsAsync<ShardUnavailableException>(async () => await alone.GetAsync(Bytes("k")));
        Assert.ThrowsAsync<ShardUnavailableException>(async () => await ScanAsync(alone, KeyRange.All));
        Assert.ThrowsAsync<ShardUnavailableException>(async () => await alone.BeginTransactionAsync());
        Assert.That(alone.GetStatus().IsReady, Is.False);
    }

    [Test]
    public async Task A_cancelled_wait_for_readiness_leaves_port_and_directory_free()
    {
        using TempFolder folder = new();
        ShardForgeConfig[] configs = Configs(folder, 3);
        using CancellationTokenSource soon = new(TimeSpan.FromMilliseconds(100));

        Assert.CatchAsync<OperationCanceledException>(() => ShardForgeCluster.OpenAsync(configs[0], soon.Token));

        await using Nodes nodes = Nodes.Open(configs);
        await nodes.WaitUntilReadyAsync();
    }

    [Test]
    public async Task R37_A_node_that_lost_its_directory_forms_no_cluster_and_takes_its_place_again()
    {
        using TempFolder folder = new();
        ShardForgeConfig[] configs = Configs(folder, 3);
        await using Nodes nodes = Nodes.Open(configs);
        await nodes.WaitUntilReadyAsync();
        await nodes[0].PutAsync(Bytes("k"), Bytes("v"));
        await nodes.StopAsync(2);
        Directory.Delete(configs[2].DataDirectory!, recursive: true);

        await using ShardForgeCluster wiped = await ShardForgeCluster.OpenAsync(configs[2]).WaitAsync(s_limit);

        Assert.That(wiped.GetStatus().ClusterId, Is.EqualTo(nodes[0].GetStatus().ClusterId));
        Assert.That(Text(await wiped.GetAsync(Bytes("k"))), Is.EqualTo("v"));
        await UntilAsync(() => wiped.GetStatus().Shards.All(static shard => shard.Replicas.Count == 3), "its replicas to be there again");
    }

    [Test]
    public async Task R38_A_second_node_with_the_id_of_a_running_one_is_refused()
    {
        using TempFolder folder = new();
        ShardForgeConfig[] configs = Configs(folder, 3);
        await using Nodes nodes = Nodes.Open(configs);
        await nodes.WaitUntilReadyAsync();
        using ShardForgeCluster second = ShardForgeCluster.Open(new ShardForgeConfig
        {
            NodeId = "n3",
            ClusterName = configs[0].ClusterName,
            DataDirectory = Path.Combine(folder, "second"),
            ListenEndPoint = new(IPAddress.Loopback, FreePorts(1)[0]),
            Join = [configs[0].Members["n1"]],
        });

        ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(() => second.WaitUntilReadyAsync().WaitAsync(s_limit));

        Assert.That(error!.Setting, Is.EqualTo("DataDirectory"), error.Message);
        await nodes[2].PutAsync(Bytes("k"), Bytes("v"));
    }

    [Test]
    public async Task A_node_that_moved_to_another_address_is_found_there()
    {
        using TempFolder folder = new();
        ShardForgeConfig[] configs = Configs(folder, 3);
        await using Nodes nodes = Nodes.Open(configs);
        await nodes.WaitUntilReadyAsync();
        await nodes.StopAsync(1);
        IPEndPoint moved = new(IPAddress.Loopback, FreePorts(1)[0]);
        Dictionary<string, EndPoint> members = new(configs[1].Members) { ["n2"] = moved };

        await using ShardForgeCluster again = await ShardForgeCluster.OpenAsync(configs[1] with { ListenEndPoint = moved, Members = members }).WaitAsync(s_limit);

        await UntilAsync(() => nodes[0].GetStatus().Nodes.Single(static node => node.NodeId == "n2") is { IsConnected: true } node && Equals(node.EndPoint, moved), "the others to know the address");
        await nodes.StopAsync(2);
        await again.PutAsync(Bytes("k"), Bytes("v"));
        Assert.That(Text(await nodes[0].GetAsync(Bytes("k"))), Is.EqualTo("v"));
    }

    [Test]
    public async Task Members_or_join_that_meet_another_cluster_fail_in_the_wait_for_readiness([Values] bool join)
    {
        using TempFolder folder = new();
        ShardForgeConfig[] configs = Configs(folder, 2);
        await using Nodes nodes = Nodes.Open(configs);
        await nodes.WaitUntilReadyAsync();
        IPEndPoint own = new(IPAddress.Loopback, FreePorts(1)[0]);
        ShardForgeConfig stranger = new() { NodeId = "n9", ClusterName = "other", DataDirectory = Path.Combine(folder, "n9"), ListenEndPoint = own };
        stranger = join
            ? stranger with { Join = [configs[0].Members["n1"]] }
            : stranger with { Members = new Dictionary<string, EndPoint> { ["n1"] = configs[0].Members["n1"], ["n9"] = own } };

        using ShardForgeCluster other = ShardForgeCluster.Open(stranger);
        ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(() => other.WaitUntilReadyAsync().WaitAsync(s_limit));

        Assert.That(error!.Setting, Is.EqualTo("ClusterName"), error.Message);
    }

    [Test]
    public async Task A_node_that_joins_reads_and_writes_through_the_others()
    {
        using TempFolder folder = new();
        ShardForgeConfig[] configs = Configs(folder, 3);
        await using Nodes nodes = Nodes.Open(configs);
        await nodes.WaitUntilReadyAsync();
        await nodes[0].PutAsync(Bytes("k"), Bytes("v"));

        await using ShardForgeCluster joined = ShardForgeCluster.Open(new ShardForgeConfig
        {
            NodeId = "n4",
            ClusterName = configs[0].ClusterName,
            DataDirectory = Path.Combine(folder, "n4"),
            ListenEndPoint = new(IPAddress.Loopback, FreePorts(1)[0]),
            Join = [configs[1].Members["n2"]],
        });
        await joined.WaitUntilReadyAsync().WaitAsync(s_limit);

        Assert.That(Text(await joined.GetAsync(Bytes("k"))), Is.EqualTo("v"));
        await joined.PutAsync(Bytes("j"), Bytes("w"));
        Assert.That(await ScanAsync(nodes[2], KeyRange.All), Is.EqualTo(new[] { "j=w", "k=v" }));
    }

    [Test]
    public async Task A_copy_of_a_directory_from_before_is_noticed_and_does_not_take_part()
    {
        using TempFolder folder = new();
        ShardForgeConfig[] configs = Configs(folder, 3);
        await using Nodes nodes = Nodes.Open(configs);
        await nodes.WaitUntilReadyAsync();
        await nodes.StopAsync(2);
        string copy = configs[2].DataDirectory! + ".copy";
        CopyFolder(configs[2].DataDirectory!, copy);
        // Two more runs that the copy does not know of; the cluster does.
        for (int run = 0; run < 2; run++)
        {
            await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(configs[2]).WaitAsync(s_limit);
            await node.PutAsync(Bytes("k"), Bytes($"{run}"));
        }

        Directory.Delete(configs[2].DataDirectory!, recursive: true);
        Directory.Move(copy, configs[2].DataDirectory!);
        ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(() => OpenAndWaitForRejectionAsync(configs[2]));

        Assert.That(error!.Setting, Is.EqualTo("DataDirectory"), error.Message);
        Assert.That(Text(await nodes[0].GetAsync(Bytes("k"))), Is.EqualTo("1"));
    }

    private static async Task OpenAndWaitForRejectionAsync(ShardForgeConfig config)
    {
        // The open itself throws where a peer answered that soon; else the node may even have seemed ready before the others were asked.
        using ShardForgeCluster node = ShardForgeCluster.Open(config);
        await UntilAsync(() => node.GetStatus().Problems.Any(static problem => problem.Contains("older copy", StringComparison.Ordinal)), "the copy to be noticed");
        await node.WaitUntilReadyAsync();
    }

    private static ShardForgeConfig[] Configs(string folder, int count, TimeSpan? operationTimeout = null)
    {
        int[] ports = FreePorts(count);
        Dictionary<string, EndPoint> members = Enumerable.Range(0, count).ToDictionary(i => $"n{i + 1}", i => (EndPoint)new IPEndPoint(IPAddress.Loopback, ports[i]));
        return [.. Enumerable.Range(0, count).Select(i => new ShardForgeConfig
        {
            ClusterName = "formation", NodeId = $"n{i + 1}", DataDirectory = Path.Combine(folder, $"n{i + 1}"), ShardCount = 3,
            ListenEndPoint = (IPEndPoint)members[$"n{i + 1}"], Members = members, OperationTimeout = operationTimeout ?? TimeSpan.FromSeconds(15),
        })];
    }

    private static int[] FreePorts(int count)
    {
        Socket[] held = [.. Enumerable.Range(0, count).Select(static _ =>
        {
            Socket socket = new(SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            return socket;
        })];
        int[] ports = [.. held.Select(static socket => ((IPEndPoint)socket.LocalEndPoint!).Port)];
        foreach (Socket socket in held)
            socket.Dispose();
        return ports;
    }

    private static void CopyFolder(string from, string to)
    {
        foreach (string file in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories))
        {
            string target = Path.Combine(to, Path.GetRelativePath(from, file));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(file, target);
        }
    }

    private sealed class Nodes : IAsyncDisposable
    {
        private readonly List<ShardForgeCluster?> _nodes = [];

        public ShardForgeCluster this[int index] => _nodes[index]!;

        public static Nodes Open(IEnumerable<ShardForgeConfig> configs)
        {
            Nodes nodes = new();
            nodes.Add(configs);
            return nodes;
        }

        public void Add(IEnumerable<ShardForgeConfig> configs)
        {
            foreach (ShardForgeConfig config in configs)
                _nodes.Add(ShardForgeCluster.Open(config));
        }

        public Task WaitUntilReadyAsync() => Task.WhenAll(_nodes.Select(static node => node!.WaitUntilReadyAsync())).WaitAsync(s_limit);

        public async Task StopAsync(int index)
        {
            await this[index].DisposeAsync();
            _nodes[index] = null;
        }

        public async ValueTask DisposeAsync() => await Task.WhenAll(_nodes.Select(static node => node is null ? Task.CompletedTask : node.DisposeAsync().AsTask()));
    }
}
