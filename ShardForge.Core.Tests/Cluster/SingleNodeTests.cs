using ShardForge.Storage;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>One node alone is a complete database.</summary>
[Parallelizable(ParallelScope.All)]
public sealed class SingleNodeTests
{
    private static readonly string[] s_engines = ["lsm", "sqlite", "memory"];

    private static IStorageEngineFactory Engine(string name) => name switch
    {
        "lsm" => StorageEngines.Lsm(),
        "sqlite" => StorageEngines.Sqlite(),
        _ => StorageEngines.InMemory(),
    };

    [Test]
    public async Task What_is_put_is_got_until_it_is_deleted([ValueSource(nameof(s_engines))] string engine)
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig { StorageEngine = Engine(engine) });

        Assert.That(await node.GetAsync(Bytes("k")), Is.Null);
        await node.PutAsync(Bytes("k"), Bytes("v"));
        Assert.That(Text(await node.GetAsync(Bytes("k"))), Is.EqualTo("v"));
        await node.PutAsync(Bytes("k"), Bytes("w"));
        Assert.That(Text(await node.GetAsync(Bytes("k"))), Is.EqualTo("w"));
        await node.DeleteAsync(Bytes("k"));
        Assert.That(await node.GetAsync(Bytes("k")), Is.Null);
    }

    [Test]
    public async Task A_write_that_does_not_wait_for_readiness_is_taken_fresh_and_reopened()
    {
        using TempFolder folder = new();
        for (int open = 0; open < 2; open++)
        {
            await using ShardForgeCluster node = ShardForgeCluster.Open(new ShardForgeConfig { DataDirectory = folder });
            await node.PutAsync(Bytes("k"), Bytes($"{open}"));
            Assert.That(Text(await node.GetAsync(Bytes("k"))), Is.EqualTo($"{open}"));
        }
    }

    [Test]
    public async Task The_empty_key_and_the_empty_value_are_allowed()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig());

        await node.PutAsync(default, default);

        Assert.That(await node.GetAsync(default), Is.EqualTo(Array.Empty<byte>()));
        Assert.That(await ScanAsync(node, KeyRange.All), Is.EqualTo(new[] { "=" }));
    }

    [Test]
    public async Task A_reopened_directory_holds_what_was_acknowledged([ValueSource(nameof(s_engines))] string engine)
    {
        using TempFolder folder = new();
        ShardForgeConfig config = new() { DataDirectory = folder, StorageEngine = Engine(engine) };
        await using (ShardForgeCluster node = await ShardForgeCluster.OpenAsync(config))
        {
            for (int i = 0; i < 200; i++)
                await node.PutAsync(Bytes($"k{i:D3}"), Bytes($"v{i}"));
            await node.DeleteAsync(Bytes("k000"));
        }

        await using ShardForgeCluster again = await ShardForgeCluster.OpenAsync(config);
        List<string> entries = await ScanAsync(again, KeyRange.All);
        Assert.That(entries, Is.EqualTo(Enumerable.Range(1, 199).Select(static i => $"k{i:D3}=v{i}")));
    }

    [Test]
    public async Task A_get_on_the_leader_is_answered_at_once_and_allocates_only_its_value()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig());
        byte[] key = Bytes("key");
        await node.PutAsync(key, new byte[100]);
        for (int i = 0; i < 50; i++)
            Assert.That((await node.GetAsync(key))!, Has.Length.EqualTo(100));
        long before = GC.GetAllocatedBytesForCurrentThread();
        bool atOnce = true;
        for (int i = 0; i < 100; i++)
            atOnce &= node.GetAsync(key).IsCompletedSuccessfully;
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThanOrEqualTo(100 * 128));
        Assert.That(atOnce, Is.True);
    }

    [Test]
    public async Task Compare_and_set_writes_only_what_was_expected()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig());
        byte[] key = Bytes("k");

        Assert.That(await node.CompareAndSetAsync(key, Bytes("x"), Bytes("a")), Is.False, "absent, a value expected");
        Assert.That(await node.CompareAndSetAsync(key, null, Bytes("a")), Is.True, "absent, absence expected");
        Assert.That(await node.CompareAndSetAsync(key, null, Bytes("b")), Is.False, "present, absence expected");
        Assert.That(await node.CompareAndSetAsync(key, Bytes("a"), Bytes("b")), Is.True);
        Assert.That(await node.CompareAndSetAsync(key, Bytes("b"), null), Is.True, "deletes");
        Assert.That(await node.GetAsync(key), Is.Null);
        Assert.That(await node.CompareAndSetAsync(key, null, []), Is.True, "the empty value is a value");
        Assert.That(await node.CompareAndSetAsync(key, null, Bytes("c")), Is.False);
        Assert.That(await node.CompareAndSetAsync(key, [], Bytes("c")), Is.True);
    }

    [Test]
    public async Task Of_many_compare_and_sets_from_one_value_exactly_one_wins()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig());
        byte[] key = Bytes("k");
        for (int round = 0; round < 20; round++)
        {
            byte[]? before = await node.GetAsync(key);
            bool[] won = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => node.CompareAndSetAsync(key, before, Bytes($"{round}/{i}")).AsTask()));
            Assert.That(won.Count(static it => it), Is.EqualTo(1));
        }
    }

    [Test]
    public async Task A_scan_is_in_key_order_over_all_shards_both_ways_and_stops_at_its_limit()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig { ShardCount = 5 });
        string[] keys = [.. Enumerable.Range(0, 100).Select(static i => $"k{i:D2}")];
        await Task.WhenAll(keys.Select(key => node.PutAsync(Bytes(key), Bytes(key)).AsTask()));
        string[] all = [.. keys.Select(static key => $"{key}={key}")];

        Assert.That(await ScanAsync(node, KeyRange.All), Is.EqualTo(all));
        Assert.That(await ScanAsync(node, KeyRange.All, new ScanOptions { Reverse = true }), Is.EqualTo(all.Reverse()));
        Assert.That(await ScanAsync(node, KeyRange.Prefix(Bytes("k1"))), Is.EqualTo(all[10..20]));
        Assert.That(await ScanAsync(node, KeyRange.Between(Bytes("k05"), Bytes("k08"))), Is.EqualTo(all[5..8]));
        Assert.That(await ScanAsync(node, KeyRange.From(Bytes("k97"))), Is.EqualTo(all[97..]));
        Assert.That(await ScanAsync(node, KeyRange.All, new ScanOptions { Limit = 3 }), Is.EqualTo(all[..3]));
        Assert.That(await ScanAsync(node, KeyRange.All, new ScanOptions { Limit = 3, Reverse = true }), Is.EqualTo(all[^3..].Reverse()));
        Assert.That(await ScanAsync(node, KeyRange.All, new ScanOptions { Limit = 0 }), Is.Empty);
        Assert.That(await ScanAsync(node, KeyRange.Between(Bytes("k08"), Bytes("k05"))), Is.Empty);
        Assert.That(() => node.ScanAsync(KeyRange.All, new ScanOptions { Limit = -1 }), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public async Task A_scan_reads_the_moment_of_its_first_move()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig { ShardCount = 4, Limits = new Limits { ScanPageBytesMax = 1024 } });
        byte[] value = new byte[500];
        for (int i = 0; i < 40; i++)
            await node.PutAsync(Bytes($"k{i:D2}"), value);

        List<string> seen = [];
        await foreach (KeyValuePair<byte[], byte[]> entry in node.ScanAsync(KeyRange.All))
        {
            if (seen.Count == 0)
            {
                for (int i = 0; i < 40; i++)
                    await node.DeleteAsync(Bytes($"k{i:D2}"));
                await node.PutAsync(Bytes("later"), value);
            }

            seen.Add(Text(entry.Key)!);
        }

        Assert.That(seen, Is.EqualTo(Enumerable.Range(0, 40).Select(static i => $"k{i:D2}")));
    }

    [Test]
    public async Task A_batch_in_one_shard_is_written_and_the_last_operation_on_a_key_wins()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig { PartitionRule = PartitionRule.UpTo((byte)'/') });
        await node.PutAsync(Bytes("u/3"), Bytes("old"));
        WriteBatch batch = new WriteBatch().Put(Bytes("u/1"), Bytes("a")).Put(Bytes("u/1"), Bytes("b")).Put(Bytes("u/2"), Bytes("c")).Delete(Bytes("u/2")).Delete(Bytes("u/3"));
        Assert.That(batch.Count, Is.EqualTo(5));

        await node.WriteAsync(batch);
        await node.WriteAsync(new WriteBatch());

        Assert.That(await ScanAsync(node, KeyRange.Prefix(Bytes("u/"))), Is.EqualTo(new[] { "u/1=b" }));
    }

    [Test]
    public async Task A_batch_over_shards_is_written_as_one()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig { ShardCount = 64 });
        WriteBatch batch = new();
        for (int i = 0; i < 20; i++)
            batch.Put(Bytes($"k{i:00}"), Bytes("v"));
        await node.PutAsync(Bytes("k20"), Bytes("old"));

        await node.WriteAsync(batch.Delete(Bytes("k20")));

        Assert.That(await ScanAsync(node, KeyRange.All), Is.EqualTo(Enumerable.Range(0, 20).Select(i => $"k{i:00}=v")));
        for (int i = 0; i < 20; i++)
            Assert.That(Text(await node.GetAsync(Bytes($"k{i:00}"))), Is.EqualTo("v"));
    }

    [Test]
    public async Task What_is_over_a_limit_is_refused_by_name()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig());
        byte[] longKey = new byte[8193];

        LimitExceededException? key = Assert.ThrowsAsync<LimitExceededException>(async () => await node.PutAsync(longKey, default));
        LimitExceededException? read = Assert.ThrowsAsync<LimitExceededException>(async () => await node.GetAsync(longKey));
        LimitExceededException? value = Assert.ThrowsAsync<LimitExceededException>(async () => await node.PutAsync(Bytes("k"), new byte[(16 * 1024 * 1024) + 1]));

        Assert.Multiple(() =>
        {
            Assert.That((key!.Limit, key.Maximum, key.Actual), Is.EqualTo(("KeyBytesMax", 8192L, 8193L)));
            Assert.That(read!.Limit, Is.EqualTo("KeyBytesMax"));
            Assert.That(value!.Limit, Is.EqualTo("ValueBytesMax"));
            Assert.That(() => node.ScanAsync(KeyRange.From(longKey)), Throws.Nothing, "a bound may be a byte longer than a key");
            Assert.That(() => node.ScanAsync(KeyRange.From(new byte[8194])), Throws.InstanceOf<LimitExceededException>());
        });
    }

    [Test]
    public async Task The_largest_key_and_value_are_held()
    {
        using TempFolder folder = new();
        ShardForgeConfig config = new() { DataDirectory = folder };
        byte[] key = [.. Enumerable.Repeat((byte)0, 8192)];
        byte[] value = new byte[16 * 1024 * 1024];
        value.AsSpan().Fill(7);
        await using (ShardForgeCluster node = await ShardForgeCluster.OpenAsync(config))
        {
            await node.PutAsync(key, value);
            Assert.That(await node.GetAsync(key), Is.EqualTo(value));
        }

        await using ShardForgeCluster again = await ShardForgeCluster.OpenAsync(config);
        Assert.That(await again.GetAsync(key), Is.EqualTo(value));
    }

    [Test]
    public async Task A_disposed_node_says_so()
    {
        ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig());
        await node.DisposeAsync();
        await node.DisposeAsync();
        node.Dispose();

        Assert.Multiple(() =>
        {
            Assert.ThrowsAsync<ObjectDisposedException>(async () => await node.GetAsync(Bytes("k")));
            Assert.ThrowsAsync<ObjectDisposedException>(async () => await node.PutAsync(Bytes("k"), Bytes("v")));
            Assert.ThrowsAsync<ObjectDisposedException>(async () => await node.BeginTransactionAsync());
            Assert.Throws<ObjectDisposedException>(() => node.GetStatus());
        });
    }

    [Test]
    public async Task A_token_cancelled_before_the_call_writes_nothing()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig());
        using CancellationTokenSource source = new();
        await source.CancelAsync();

        Assert.CatchAsync<OperationCanceledException>(async () => await node.PutAsync(Bytes("k"), Bytes("v"), null, source.Token));

        Assert.That(await node.GetAsync(Bytes("k")), Is.Null);
    }

    [Test]
    public async Task Status_names_the_node_and_every_shard_with_its_leader()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig { NodeId = "solo", ShardCount = 3 });

        ClusterStatus status = node.GetStatus();

        Assert.Multiple(() =>
        {
            Assert.That(status.NodeId, Is.EqualTo("solo"));
            Assert.That(status.IsReady, Is.True);
            Assert.That(status.Health, Is.EqualTo(ClusterHealth.Healthy), string.Join("; ", status.Problems));
            Assert.That(status.Nodes.Select(static it => it.NodeId), Is.EqualTo(new[] { "solo" }));
            Assert.That(status.Shards.Select(static it => it.LeaderNodeId), Is.EqualTo(new[] { "solo", "solo", "solo" }));
            Assert.That(node.ListenEndPoint, Is.Null);
        });
    }
}
