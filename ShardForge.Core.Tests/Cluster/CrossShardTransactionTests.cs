using NUnit.Framework;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>Transactions and batches whose keys lie in several shards, through the public surface of one node.</summary>
[Parallelizable(ParallelScope.All)]
public sealed class CrossShardTransactionTests
{
    private const int ShardCount = 16;

    private static Task<ShardForgeCluster> OpenAsync() => ShardForgeCluster.OpenAsync(new ShardForgeConfig { ShardCount = ShardCount });

    [Test]
    public async Task All_keys_are_written_or_none()
    {
        await using ShardForgeCluster node = await OpenAsync();
        await using ShardForgeTransaction first = await node.BeginTransactionAsync(), second = await node.BeginTransactionAsync();
        for (int i = 0; i < 20; i++)
        {
            await first.PutAsync(Bytes($"k{i:00}"), Bytes("first"));
            await second.PutAsync(Bytes($"k{i + 19:00}"), Bytes("second"));
        }

        await first.CommitAsync();
        TransactionConflictException? conflict = Assert.ThrowsAsync<TransactionConflictException>(async () => await second.CommitAsync());

        Assert.That(conflict!.IsTransient);
        Assert.That(await ScanAsync(node, KeyRange.All), Is.EqualTo(Enumerable.Range(0, 20).Select(i => $"k{i:00}=first")));
    }

    [Test]
    public async Task What_is_committed_is_seen_by_everything_that_begins_after_it()
    {
        await using ShardForgeCluster node = await OpenAsync();
        for (int round = 0; round < 20; round++)
        {
            string value = $"{round}";
            WriteBatch batch = new();
            for (int i = 0; i < 6; i++)
                batch.Put(Bytes($"k{i}"), Bytes(value));
            await node.WriteAsync(batch);
            Assert.That(await ScanAsync(node, KeyRange.All), Is.EqualTo(Enumerable.Range(0, 6).Select(i => $"k{i}={value}")));
            Assert.That(await ScanAsync(node, KeyRange.All, new ScanOptions { Reverse = true }), Is.EqualTo(Enumerable.Range(0, 6).Reverse().Select(i => $"k{i}={value}")));
            for (int i = 0; i < 6; i++)
                Assert.That(Text(await node.GetAsync(Bytes($"k{i}"))), Is.EqualTo(value));
            await node.PutAsync(Bytes("k0"), Bytes("own"));
            Assert.That(await node.CompareAndSetAsync(Bytes("k1"), Bytes(value), Bytes("won")));
        }
    }

    [Test]
    public async Task A_snapshot_sees_all_of_a_transaction_or_nothing()
    {
        await using ShardForgeCluster node = await OpenAsync();
        const int Keys = 12, Writers = 4, Rounds = 30;
        bool isDone = false;
        Task[] writers = [.. Enumerable.Range(0, Writers).Select(writer => Task.Run(async () =>
        {
            for (int round = 0; round < Rounds; round++)
            {
                WriteBatch batch = new();
                for (int i = 0; i < Keys; i++)
                    batch.Put(Bytes($"k{i:00}"), Bytes($"{writer}/{round}"));
                await node.WriteAsync(batch);
            }
        }))];
        Task reader = Task.Run(async () =>
        {
            while (!Volatile.Read(ref isDone))
            {
                string[] values = [.. (await ScanAsync(node, KeyRange.All)).Select(entry => entry.Split('=')[1]).Distinct()];
                Assert.That(values, Has.Length.LessThanOrEqualTo(1));
                await using ShardForgeTransaction transaction = await node.BeginTransactionAsync();
                string? first = Text(await transaction.GetAsync(Bytes("k00")));
                for (int i = 1; i < Keys; i++)
                    Assert.That(Text(await transaction.GetAsync(Bytes($"k{i:00}"))), Is.EqualTo(first));
                await transaction.CommitAsync();
            }
        });
        await Task.WhenAll(writers);
        Volatile.Write(ref isDone, true);
        await reader;
    }

    [Test]
    public async Task Transfers_keep_the_sum([Values] IsolationLevel isolation)
    {
        await using ShardForgeCluster node = await OpenAsync();
        const int Accounts = 10, Clients = 8, Transfers = 25;
        for (int i = 0; i < Accounts; i++)
            await node.PutAsync(Bytes($"a{i}"), BitConverter.GetBytes(100));
        await Task.WhenAll(Enumerable.Range(0, Clients).Select(client => Task.Run(async () =>
        {
            Random random = new(client);
            for (int i = 0; i < Transfers; i++)
            {
                int from = random.Next(Accounts), to = (from + random.Next(1, Accounts)) % Accounts, amount = random.Next(20);
                await node.RunInTransactionAsync(
                    async (transaction, token) =>
                    {
                        int a = BitConverter.ToInt32((await transaction.GetAsync(Bytes($"a{from}"), null, token))!);
                        int b = BitConverter.ToInt32((await transaction.GetAsync(Bytes($"a{to}"), null, token))!);
                        await transaction.PutAsync(Bytes($"a{from}"), BitConverter.GetBytes(a - amount), null, token);
                        await transaction.PutAsync(Bytes($"a{to}"), BitConverter.GetBytes(b + amount), null, token);
                        return 0;
                    },
                    new TransactionOptions { Isolation = isolation, MaxAttempts = 1000 });
                int sum = 0;
                await foreach (KeyValuePair<byte[], byte[]> entry in node.ScanAsync(KeyRange.All))
                    sum += BitConverter.ToInt32(entry.Value);
                Assert.That(sum, Is.EqualTo(Accounts * 100));
            }
        })));
    }

    [Test]
    public async Task Serializable_transactions_over_shards_do_not_skew([Values] bool scans)
    {
        await using ShardForgeCluster node = await OpenAsync();
        for (int pair = 0; pair < 8; pair++)
        {
            byte[] x = Bytes($"{pair}/x"), y = Bytes($"{pair}/y");
            await Task.WhenAll(Take(x, y), Take(y, x));
            Assert.That(new[] { await node.GetAsync(x), await node.GetAsync(y) }.Count(static value => value is not null), Is.EqualTo(1));
            async Task Take(byte[] other, byte[] own) => await Task.Run(async () => await node.RunInTransactionAsync(
                async (transaction, token) =>
                {
                    bool isTaken = scans
                        ? (await ScanAsync(transaction, KeyRange.Prefix(other.AsMemory(0, 2)))).Count > 0
                        : await transaction.GetAsync(other, null, token) is not null;
                    if (!isTaken)
                        await transaction.PutAsync(own, Bytes("mine"), null, token);
                    return 0;
                },
                new TransactionOptions { Isolation = IsolationLevel.Serializable, MaxAttempts = 100 }));
        }
    }

    [Test]
    public async Task A_cancelled_commit_is_whole_or_absent()
    {
        await using ShardForgeCluster node = await OpenAsync();
        for (int round = 0; round < 20; round++)
        {
            using CancellationTokenSource cancel = new();
            await using ShardForgeTransaction transaction = await node.BeginTransactionAsync();
            for (int i = 0; i < 5; i++)
                await transaction.PutAsync(Bytes($"{round:00}/{i}"), Bytes("v"));
            ValueTask commit = transaction.CommitAsync(cancel.Token);
            await cancel.CancelAsync();
            try
            {
                await commit;
            }
            catch (OperationCanceledException)
            {
            }

            Assert.That((await ScanAsync(node, KeyRange.Prefix(Bytes($"{round:00}/")))).Count, Is.EqualTo(0).Or.EqualTo(5));
        }
    }
}
