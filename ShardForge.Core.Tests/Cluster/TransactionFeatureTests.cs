using ShardForge.Storage;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>Savepoints, atomic changes at the leader, reads at an earlier moment.</summary>
[Parallelizable(ParallelScope.All)]
public sealed class TransactionFeatureTests
{
    [Test]
    public async Task A_savepoint_takes_back_what_was_written_after_it()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig());
        await using ShardForgeTransaction transaction = await node.BeginTransactionAsync(), other = await node.BeginTransactionAsync();
        await transaction.PutAsync(Bytes("a"), Bytes("1"));
        TransactionSavepoint first = transaction.SetSavepoint();
        await transaction.PutAsync(Bytes("a"), Bytes("2"));
        await transaction.PutAsync(Bytes("b"), Bytes("2"));
        TransactionSavepoint second = transaction.SetSavepoint();
        await transaction.DeleteAsync(Bytes("a"));
        transaction.RollbackTo(second);
        Assert.That(Text(await transaction.GetAsync(Bytes("a"))), Is.EqualTo("2"));
        transaction.RollbackTo(first);
        Assert.That(Text(await transaction.GetAsync(Bytes("a"))), Is.EqualTo("1"));
        Assert.Throws<InvalidOperationException>(() => transaction.RollbackTo(second));
        Assert.Throws<ArgumentException>(() => other.RollbackTo(first));
        await transaction.PutAsync(Bytes("c"), Bytes("3"));
        transaction.RollbackTo(first);
        await transaction.CommitAsync();
        Assert.That(await ScanAsync(node, KeyRange.All), Is.EqualTo(new[] { "a=1" }));
    }

    [Test]
    public async Task Changes_at_the_leader_are_neither_lost_nor_doubled()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig());
        await Task.WhenAll(Enumerable.Range(0, 16).Select(async i =>
        {
            for (int round = 0; round < 20; round++)
            {
                await node.AddAsync(Bytes("sum"), i);
                await node.MaxAsync(Bytes("max"), i * round);
                await node.MinAsync(Bytes("min"), -i * round);
                await node.AppendAsync(Bytes("text"), Bytes("x"));
            }
        }));
        Assert.That(await node.AddAsync(Bytes("sum"), 0), Is.EqualTo(20 * 120));
        Assert.That(await node.MaxAsync(Bytes("max"), long.MinValue), Is.EqualTo(15 * 19));
        Assert.That(await node.MinAsync(Bytes("min"), long.MaxValue), Is.EqualTo(-15 * 19));
        Assert.That(await node.AppendAsync(Bytes("text"), default), Is.EqualTo(320));
        ShardForgeException? error = Assert.ThrowsAsync<ShardForgeException>(async () => await node.AddAsync(Bytes("text"), 1));
        Assert.That(error!.IsTransient, Is.False);
        Assert.That((await node.GetAsync(Bytes("text")))!, Has.Length.EqualTo(320));
    }

    [Test]
    public async Task A_read_at_an_earlier_moment_shows_what_was_there()
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig());
        await node.WriteAsync(new WriteBatch().Put(Bytes("a"), Bytes("old")).Put(Bytes("b"), Bytes("old")));
        DateTimeOffset moment = await LaterAsync(node, DateTimeOffset.UtcNow);
        await node.WriteAsync(new WriteBatch().Put(Bytes("a"), Bytes("new")).Delete(Bytes("b")));
        Assert.That(Text(await node.GetAsync(Bytes("a"), new ReadOptions { At = moment })), Is.EqualTo("old"));
        Assert.That(Text(await node.GetAsync(Bytes("a"))), Is.EqualTo("new"));
        Assert.That(await ScanAsync(node, KeyRange.All, new ScanOptions { At = moment }), Is.EqualTo(new[] { "a=old", "b=old" }));
        Assert.ThrowsAsync<ArgumentOutOfRangeException>(async () => await node.GetAsync(Bytes("a"), new ReadOptions { At = DateTimeOffset.UtcNow.AddHours(1) }));
    }

    [Test]
    public async Task Versions_below_the_limit_of_history_are_collected_and_reads_below_it_fail([Values("lsm", "memory")] string engine)
    {
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig { ShardCount = 1, StorageEngine = engine == "lsm" ? StorageEngines.Lsm() : StorageEngines.InMemory() });
        for (int i = 0; i < 50; i++)
            await node.PutAsync(Bytes("a"), Bytes($"{i}"));
        await node.PutAsync(Bytes("b"), Bytes("x"));
        DateTimeOffset early = await LaterAsync(node, DateTimeOffset.UtcNow);
        await node.DeleteAsync(Bytes("b"));
        await node.PutAsync(Bytes("a"), Bytes("last"));
        ShardForge.Replication.ShardReplica replica = node.Node.Replicas.Single();
        Assert.That(CountVersions(replica), Is.EqualTo(53));
        await LaterAsync(node, DateTimeOffset.UtcNow);
        Timestamp now = await node.Node.Timestamps.NextAsync(CancellationToken.None);
        Assert.That(await replica.RaiseHistoryLimitAsync(now, CancellationToken.None));
        if (replica.CollectsInCompactions)
        {
            await replica.Engine.FlushAsync();
            await replica.Engine.CompactAsync();
        }
        else
        {
            await replica.CollectVersionsAsync(1_000, CancellationToken.None);
        }

        Assert.That(CountVersions(replica), Is.EqualTo(1), "one version of a; nothing of b, which is deleted");
        Assert.That(await ScanAsync(node, KeyRange.All), Is.EqualTo(new[] { "a=last" }));
        Assert.ThrowsAsync<HistoryGoneException>(async () => await node.GetAsync(Bytes("a"), new ReadOptions { At = early }));
    }

    private static int CountVersions(ShardForge.Replication.ShardReplica replica)
    {
        using IStorageIterator versions = replica.Engine.Scan(ShardForge.Mvcc.MvccKey.VersionRange(KeyRange.All));
        int count = 0;
        while (versions.MoveNext())
            count++;
        return count;
    }

    // Waits until the cluster's clock has passed a moment, so that what follows is after it.
    private static async Task<DateTimeOffset> LaterAsync(ShardForgeCluster node, DateTimeOffset moment)
    {
        Timestamp first = await node.Node.Timestamps.NextAsync(CancellationToken.None);
        long target = Math.Max(moment.ToUnixTimeMilliseconds(), first.Milliseconds) + 1;
        await UntilAsync(() => node.Node.Timestamps.NextAsync(CancellationToken.None).AsTask().GetAwaiter().GetResult().Milliseconds > target, "the clock goes on");
        return DateTimeOffset.FromUnixTimeMilliseconds(target);
    }
}
