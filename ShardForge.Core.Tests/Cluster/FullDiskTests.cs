using System.Diagnostics;
using System.Net;
using NUnit.Framework;
using ShardForge.Storage;
using ShardForge.Testing;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>R34 through the public surface: a disk fills up, and there is room again.</summary>
public sealed class FullDiskTests
{
    private const int ValueBytes = 16 * 1024;
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);

    [Test]
    public async Task R34_A_full_disk_refuses_puts_and_takes_deletes_on_a_single_node()
    {
        FaultyFileSystem files = new();
        ShardForgeConfig config = new() { DataDirectory = "/data", ShardCount = 2, StorageEngine = SmallEngine() };
        NodeEnvironment environment = new() { FileSystem = files, LogSegmentBytes = 1024 * 1024, DiskReserveBytes = 2 * 1024 * 1024, Seed = 1 };
        Dictionary<string, string?> expected;
        await using (ShardForgeCluster node = await ShardForgeCluster.OpenWithoutWaitAsync(config, environment, CancellationToken.None))
        {
            await node.WaitUntilReadyAsync();
            await TestData.UntilAsync(() => files.FileExists("/data/reserve"), "the reserve is there");
            expected = await FillAndRecoverAsync(node, [files]);
        }

        await using ShardForgeCluster again = await ShardForgeCluster.OpenWithoutWaitAsync(config, environment, CancellationToken.None);
        await VerifyAsync(again, expected);
    }

    [Test]
    public async Task R34_A_full_disk_refuses_puts_takes_deletes_and_elects_in_a_cluster()
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new() { Durable = false, ShardCount = 2, StorageEngine = SmallEngine() });
        FaultyFileSystem[] files = [.. Enumerable.Range(0, 3).Select(cluster.FilesOf)];
        int killed = cluster.LeaderOf(Bytes("k00000"));
        Dictionary<string, string?> expected = await FillAndRecoverAsync(cluster[(killed + 1) % 3], files, async () =>
        {
            await cluster.KillAsync(killed);
            await TestData.UntilAsync(() => cluster.LeaderOf(Bytes("k00000")) is >= 0 and int other && other != killed, "another leader");
        });
        await cluster.RestartAsync(killed);
        for (int node = 0; node < 3; node++)
            await VerifyAsync(cluster[node], expected);
    }

    // Fills the disk to the last byte, looks at what is refused and what is not, makes room.
    private static async Task<Dictionary<string, string?>> FillAndRecoverAsync(ShardForgeCluster node, FaultyFileSystem[] files, Func<Task>? whileFull = null)
    {
        Dictionary<string, string?> expected = [];
        int next = 0;
        for (; next < 100; next++)
            await PutAsync(node, expected, next);
        foreach (FaultyFileSystem file in files)
            file.CapacityBytes = Used(file);

        OverloadedException? refused = null;
        for (; refused is null && next < 5_000; next++)
        {
            try
            {
                await PutAsync(node, expected, next);
            }
            catch (OverloadedException error)
            {
                refused = error;
            }
        }

        Assert.That(refused?.IsTransient, Is.True, "puts are refused in the end");
        Assert.That(await node.GetAsync(Bytes("k00007")), Is.Not.Null, "gets go on");
        for (int i = 0; i < 60; i++)
            await DeleteAsync(node, expected, i);
        await node.WriteAsync(new WriteBatch().Delete(Bytes("k00060")));
        expected["k00060"] = null;
        byte[]? value = await node.GetAsync(Bytes("k00061"));
        Assert.That(await node.CompareAndSetAsync(Bytes("k00061"), value, null), Is.True);
        expected["k00061"] = null;
        Assert.That(async () => await node.PutAsync(Bytes("x"), Bytes("y")), Throws.InstanceOf<OverloadedException>());

        if (whileFull is not null)
        {
            await whileFull();
            await DeleteAsync(node, expected, 62);
            Assert.That(await node.GetAsync(Bytes("k00063")), Is.Not.Null);
        }

        foreach (FaultyFileSystem file in files)
            file.CapacityBytes = long.MaxValue;
        await UntilAsync(async () =>
        {
            try
            {
                await PutAsync(node, expected, next);
                return true;
            }
            catch (OverloadedException)
            {
                return false;
            }
        }, "puts go on when there is room");
        await VerifyAsync(node, expected);
        return expected;
    }

    private static async Task PutAsync(ShardForgeCluster node, Dictionary<string, string?> expected, int i)
    {
        string key = $"k{i:D5}", value = new((char)('a' + (i % 26)), ValueBytes);
        await node.PutAsync(Bytes(key), Bytes(value));
        expected[key] = value;
    }

    private static async Task DeleteAsync(ShardForgeCluster node, Dictionary<string, string?> expected, int i)
    {
        await node.DeleteAsync(Bytes($"k{i:D5}"));
        expected[$"k{i:D5}"] = null;
    }

    private static async Task VerifyAsync(ShardForgeCluster node, Dictionary<string, string?> expected)
    {
        foreach ((string key, string? value) in expected)
        {
            byte[]? found = await node.GetAsync(Bytes(key));
            Assert.That(found is null ? null : System.Text.Encoding.UTF8.GetString(found), Is.EqualTo(value), key);
        }
    }

    private static IStorageEngineFactory SmallEngine() => StorageEngines.Lsm(new LsmOptions { MemtableBytes = 256 * 1024 });

    private static long Used(FaultyFileSystem files) => files.CapacityBytes - files.GetFreeBytes("/");

    private static async Task UntilAsync(Func<Task<bool>> condition, string what)
    {
        long start = Stopwatch.GetTimestamp();
        while (!await condition())
        {
            Assert.That(Stopwatch.GetElapsedTime(start), Is.LessThan(s_limit), what);
            await Task.Delay(10);
        }
    }
}
