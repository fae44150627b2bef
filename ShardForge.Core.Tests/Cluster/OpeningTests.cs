using System.Net;
using System.Net.Sockets;
using ShardForge.Storage;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>Settings and directories that cannot be used: a typed error that names the setting, and nothing on disk changed.</summary>
[Parallelizable(ParallelScope.All)]
public sealed class OpeningTests
{
    private static readonly IPEndPoint s_one = new(IPAddress.Loopback, 17_001), s_two = new(IPAddress.Loopback, 17_002);

    private static IEnumerable<TestCaseData> Impossible()
    {
        yield return Case("ClusterName", new ShardForgeConfig { ClusterName = "" });
        yield return Case("ClusterName", new ShardForgeConfig { ClusterName = new string('x', 129) });
        yield return Case("NodeId", new ShardForgeConfig { NodeId = " " });
        yield return Case("NodeId", new ShardForgeConfig { NodeId = "a\nb" });
        yield return Case("DataDirectory", new ShardForgeConfig { DataDirectory = "" });
        yield return Case("ShardCount", new ShardForgeConfig { ShardCount = 0 });
        yield return Case("ShardCount", new ShardForgeConfig { ShardCount = 4_097 });
        yield return Case("ReplicationFactor", new ShardForgeConfig { ReplicationFactor = 0 });
        yield return Case("ReplicationFactor", new ShardForgeConfig { ReplicationFactor = 2 });
        yield return Case("OperationTimeout", new ShardForgeConfig { OperationTimeout = TimeSpan.Zero });
        yield return Case("StorageEngine", new ShardForgeConfig { StorageEngine = null! });
        yield return Case("TimeProvider", new ShardForgeConfig { TimeProvider = null! });
        yield return Case("PartitionRule", new ShardForgeConfig { PartitionRule = null! });
        yield return Case("Members", new ShardForgeConfig { Members = null! });
        yield return Case("Members", new ShardForgeConfig { NodeId = "c", ListenEndPoint = s_one, Members = new Dictionary<string, EndPoint> { ["a"] = s_one, ["b"] = s_two } });
        yield return Case("Members", new ShardForgeConfig { NodeId = "a", ListenEndPoint = s_one, Members = new Dictionary<string, EndPoint> { ["a"] = s_one, ["b"] = s_one } });
        yield return Case("ListenEndPoint", new ShardForgeConfig { NodeId = "a", Members = new Dictionary<string, EndPoint> { ["a"] = s_one, ["b"] = s_two } });
        yield return Case("ListenEndPoint", new ShardForgeConfig
        {
            NodeId = "a",
            ListenEndPoint = new(IPAddress.Loopback, 0),
            Members = new Dictionary<string, EndPoint> { ["a"] = s_one, ["b"] = s_two },
        });
        yield return Case("ReplicationFactor", new ShardForgeConfig
        {
            NodeId = "a",
            ListenEndPoint = s_one,
            ReplicationFactor = 3,
            Members = new Dictionary<string, EndPoint> { ["a"] = s_one, ["b"] = s_two },
        });
        yield return Case("Join", new ShardForgeConfig { NodeId = "a", ListenEndPoint = s_one, Members = new Dictionary<string, EndPoint> { ["a"] = s_one }, Join = [s_two] });
        yield return Case("Limits", new ShardForgeConfig { Limits = new Limits { KeyBytesMax = 0 } });

        static TestCaseData Case(string setting, ShardForgeConfig config) => new TestCaseData(setting, config).SetArgDisplayNames(setting);
    }

    [TestCaseSource(nameof(Impossible))]
    public void An_impossible_setting_is_refused_by_name_and_nothing_is_written(string setting, ShardForgeConfig config)
    {
        using TempFolder folder = new();
        ShardForgeConfig onDisk = config.DataDirectory is null ? config with { DataDirectory = folder } : config;

        ConfigurationException? error = Assert.Throws<ConfigurationException>(() => ShardForgeCluster.Open(onDisk));

        Assert.That(error!.Setting, Is.EqualTo(setting), error.Message);
        Assert.That(Files(folder), Is.Empty);
    }

    [Test]
    public async Task A_directory_in_use_is_refused()
    {
        using TempFolder folder = new();
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig { DataDirectory = folder });

        ConfigurationException? error = Assert.Throws<ConfigurationException>(() => ShardForgeCluster.Open(new ShardForgeConfig { DataDirectory = folder }));

        Assert.That(error!.Setting, Is.EqualTo("DataDirectory"));
        await node.PutAsync(Bytes("k"), Bytes("v"));
    }

    [Test]
    public async Task A_directory_of_another_node_cluster_or_engine_is_refused_and_left_as_it_was()
    {
        using TempFolder folder = new();
        ShardForgeConfig config = new() { DataDirectory = folder };
        await using (ShardForgeCluster node = await ShardForgeCluster.OpenAsync(config))
            await node.PutAsync(Bytes("k"), Bytes("v"));
        string[] before = Contents(folder);

        ConfigurationException? otherNode = Assert.Throws<ConfigurationException>(() => ShardForgeCluster.Open(config with { NodeId = "other" }));
        ConfigurationException? otherCluster = Assert.Throws<ConfigurationException>(() => ShardForgeCluster.Open(config with { ClusterName = "other" }));
        ConfigurationException? otherEngine = Assert.Throws<ConfigurationException>(() => ShardForgeCluster.Open(config with { StorageEngine = StorageEngines.Sqlite() }));

        Assert.Multiple(() =>
        {
            Assert.That(otherNode!.Setting, Is.EqualTo("DataDirectory"));
            Assert.That(otherCluster!.Setting, Is.EqualTo("DataDirectory"));
            Assert.That(otherEngine!.Setting, Is.EqualTo("StorageEngine"));
            Assert.That(Contents(folder), Is.EqualTo(before));
        });
        await using ShardForgeCluster again = await ShardForgeCluster.OpenAsync(config);
        Assert.That(Text(await again.GetAsync(Bytes("k"))), Is.EqualTo("v"));
    }

    [Test]
    public async Task Initial_settings_of_a_formed_cluster_are_the_stored_ones()
    {
        using TempFolder folder = new();
        ShardForgeConfig config = new() { DataDirectory = folder, ShardCount = 3 };
        await using (ShardForgeCluster node = await ShardForgeCluster.OpenAsync(config))
            await node.PutAsync(Bytes("k"), Bytes("v"));

        await using ShardForgeCluster again = await ShardForgeCluster.OpenAsync(config with { ShardCount = 9, PartitionRule = PartitionRule.FixedLength(1) });

        Assert.That(again.GetStatus().Shards, Has.Count.EqualTo(3));
        Assert.That(Text(await again.GetAsync(Bytes("k"))), Is.EqualTo("v"));
    }

    [Test]
    public async Task An_address_in_use_is_refused_and_the_directory_stays_free()
    {
        using TempFolder folder = new();
        using Socket other = new(SocketType.Stream, ProtocolType.Tcp);
        other.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        other.Listen();
        ShardForgeConfig config = new() { DataDirectory = folder, ListenEndPoint = (IPEndPoint)other.LocalEndPoint! };

        ConfigurationException? error = Assert.Throws<ConfigurationException>(() => ShardForgeCluster.Open(config));

        Assert.That(error!.Setting, Is.EqualTo("ListenEndPoint"));
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(config with { ListenEndPoint = new(IPAddress.Loopback, 0) });
        Assert.That(((IPEndPoint)node.ListenEndPoint!).Port, Is.Not.Zero);
    }

    [Test]
    public void A_data_directory_that_is_a_file_is_refused()
    {
        using TempFolder folder = new();
        string file = Path.Combine(folder, "file");
        File.WriteAllText(file, "x");

        ConfigurationException? error = Assert.Throws<ConfigurationException>(() => ShardForgeCluster.Open(new ShardForgeConfig { DataDirectory = file }));

        Assert.That(error!.Setting, Is.EqualTo("DataDirectory"));
    }

    [Test]
    public async Task A_damaged_log_is_reported_with_file_and_offset()
    {
        using TempFolder folder = new();
        ShardForgeConfig config = new() { DataDirectory = folder };
        await using (ShardForgeCluster node = await ShardForgeCluster.OpenAsync(config))
        {
            for (int i = 0; i < 50; i++)
                await node.PutAsync(Bytes($"k{i}"), new byte[100]);
        }

        string segment = Directory.GetFiles(Path.Combine(folder, "log"), "*.seg").Order(StringComparer.Ordinal).First();
        byte[] bytes = await File.ReadAllBytesAsync(segment);
        int at = Array.FindIndex(bytes, 8192, static b => b != 0);
        bytes[at + 20] ^= 0xFF;
        await File.WriteAllBytesAsync(segment, bytes);

        CorruptionException? error = Assert.Throws<CorruptionException>(() => ShardForgeCluster.Open(config));

        Assert.That(error!.Path, Does.Contain("log"));
    }

    private static string[] Files(string folder) => [.. Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)];

    private static string[] Contents(string folder) =>
        [.. Files(folder).Select(static file => $"{file}: {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(file)))}")];
}
