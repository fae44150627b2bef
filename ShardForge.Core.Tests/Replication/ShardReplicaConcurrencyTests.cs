using NUnit.Framework;
using ShardForge.Mvcc;
using ShardForge.Replication;
using ShardForge.Storage;
using static ShardForge.Tests.Replication.Requests;

namespace ShardForge.Tests.Replication;

/// <summary>Many threads on one leader: what the scripted runs, on one thread, cannot meet.</summary>
internal sealed class ShardReplicaConcurrencyTests
{
    private const int WorkerCount = 8, OperationCount = 300;

    [Test]
    public async Task Increments_by_compare_and_set_are_neither_lost_nor_doubled()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync(configure: options => options with { RunContinuationsInline = false, EntriesInFlightMax = 2 });
        int[] done = await Task.WhenAll(Enumerable.Range(0, WorkerCount).Select(_ => OnPool(async () =>
        {
            int count = 0;
            for (int i = 0; i < OperationCount; i++)
            {
                string? seen = Text((await shard.Leader.ExecuteAsync(Get("counter"), CancellationToken.None)).Value);
                ShardResponse response = await shard.Leader.ExecuteAsync(CompareAndSet("counter", seen, $"{(seen is null ? 0 : int.Parse(seen)) + 1}"), CancellationToken.None);
                count += response.Status == ShardStatus.Ok ? 1 : 0;
            }

            return count;
        })));
        Assert.That(Text((await shard.Leader.ExecuteAsync(Get("counter"), CancellationToken.None)).Value), Is.EqualTo($"{done.Sum()}"));
    }

    [Test]
    public async Task A_snapshot_sees_batches_whole_and_each_reader_sees_them_in_order()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync(configure: options => options with { RunContinuationsInline = false });
        ITimestampSource timestamps = shard.Oracle.CreateSource();
        Task[] writers = [.. Enumerable.Range(0, WorkerCount).Select(worker => OnPool(async () =>
        {
            for (int i = 0; i < OperationCount; i++)
            {
                ShardResponse response = await shard.Leader.ExecuteAsync(Batch([("x", $"{worker}.{i}"), ("y", $"{worker}.{i}"), ($"own{worker}", $"{i}")]), CancellationToken.None);
                Assert.That(response.Status, Is.EqualTo(ShardStatus.Ok));
                Assert.That(Text((await shard.Leader.ExecuteAsync(Get($"own{worker}"), CancellationToken.None)).Value), Is.EqualTo($"{i}"));
            }

            return 0;
        }))];
        Task[] readers = [.. Enumerable.Range(0, 2).Select(_ => OnPool(async () =>
        {
            while (!Array.TrueForAll(writers, writer => writer.IsCompleted))
            {
                ulong readAt = (await timestamps.NextAsync(CancellationToken.None)).Value;
                ShardResponse page = await shard.Leader.ExecuteAsync(Scan(readAt, KeyRange.From(Bytes("x"))), CancellationToken.None);
                Assert.That(page.Status, Is.EqualTo(ShardStatus.Ok));
                Assert.That(page.Entries.Select(entry => Text(entry.Value)).Distinct().Count(), Is.LessThanOrEqualTo(1), Page(page));
                ShardResponse again = await shard.Leader.ExecuteAsync(Get("x", readAt), CancellationToken.None);
                Assert.That(Text(again.Value), Is.EqualTo(page.Entries.Count == 0 ? null : Text(page.Entries[0].Value)), "the same snapshot later");
            }

            return 0;
        }))];
        await Task.WhenAll([.. writers, .. readers]);
        Assert.That(shard.Replicas.Select(replica => replica.Fault), Is.All.Null);
        Assert.That(VersionCount(shard[2].Engine, "x"), Is.EqualTo(WorkerCount * OperationCount), "no two at one timestamp");
    }

    private static int VersionCount(IStorageEngine engine, string key)
    {
        int count = 0;
        using IStorageIterator iterator = engine.Scan(MvccKey.PrefixRange(KeySpace.Version, Bytes(key)));
        while (iterator.MoveNext())
            count++;
        return count;
    }

    private static async Task<int> OnPool(Func<Task<int>> work)
    {
        await Task.Yield();
        return await work();
    }
}
