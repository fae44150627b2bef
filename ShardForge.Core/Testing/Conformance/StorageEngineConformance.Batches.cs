using ShardForge.Storage;

namespace ShardForge.Testing;

public static partial class StorageEngineConformance
{
    private static IEnumerable<StorageEngineConformanceCase> BatchCases() =>
    [
        Case("A batch is applied in its order", BatchOrderAsync),
        Case("An empty batch does nothing", EmptyBatchAsync),
        Case("A batch can be used again, and its writes stay as they were", BatchReuseAsync),
        Case("A range delete removes its start and not its end", DeleteRangeAsync),
        Case("A range delete acts on what is before it in the batch, not behind", DeleteRangeOrderAsync),
        Case("A large batch is written whole", LargeBatchAsync),
    ];

    private static async Task BatchOrderAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        StorageBatch batch = new();
        batch.Put(B("a"), B("1"));
        batch.Put(B("a"), B("2"));
        batch.Put(B("b"), B("1"));
        batch.Delete(B("b"));
        batch.Delete(B("c"));
        batch.Put(B("c"), B("3"));
        run.Equal(6, batch.Count, "Count of the batch");
        await engine.WriteAsync(batch, StorageDurability.Flushed, run.CancellationToken).ConfigureAwait(false);
        await run.ReadsAsync(engine, B("a"), B("2"), "put twice").ConfigureAwait(false);
        await run.ReadsAsync(engine, B("b"), null, "put, then deleted").ConfigureAwait(false);
        await run.ReadsAsync(engine, B("c"), B("3"), "deleted, then put").ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "scan", B("a"), B("c"));
    }

    private static async Task EmptyBatchAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await engine.WriteAsync(new StorageBatch(), StorageDurability.Flushed, run.CancellationToken).ConfigureAwait(false);
        await engine.WriteAsync(new StorageBatch(), StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "scan");
    }

    private static async Task BatchReuseAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        StorageBatch batch = new();
        for (int round = 0; round < 20; round++)
        {
            batch.Clear();
            batch.Put(K(round), [(byte)round]);
            batch.Put(K(1000), [(byte)round]);
            await engine.WriteAsync(batch, round % 2 == 0 ? StorageDurability.Buffered : StorageDurability.Flushed, run.CancellationToken).ConfigureAwait(false);
        }

        for (int round = 0; round < 20; round++)
            await run.ReadsAsync(engine, K(round), [(byte)round], "written by an earlier use").ConfigureAwait(false);
        await run.ReadsAsync(engine, K(1000), [19], "written by every use").ConfigureAwait(false);
    }

    private static async Task DeleteRangeAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a", "b", "bb", "c", "d").ConfigureAwait(false);
        using IStorageSnapshot before = engine.CreateSnapshot();
        StorageBatch batch = new();
        batch.DeleteRange(B("b"), B("c"));
        batch.DeleteRange(B("d"), B("d"));
        batch.DeleteRange(B("d"), B("a"));
        await engine.WriteAsync(batch, StorageDurability.Flushed, run.CancellationToken).ConfigureAwait(false);
        foreach (bool flushed in new[] { false, true })
        {
            if (flushed)
                await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
            await run.ReadsAsync(engine, B("b"), null, "the start of the range").ConfigureAwait(false);
            await run.ReadsAsync(engine, B("bb"), null, "inside the range").ConfigureAwait(false);
            await run.ReadsAsync(engine, B("c"), B("value of c"), "the end of the range").ConfigureAwait(false);
            run.Scans(engine, KeyRange.All, null, "scan", B("a"), B("c"), B("d"));
            run.Scans(engine, KeyRange.All, before, "scan of the snapshot before", B("a"), B("b"), B("bb"), B("c"), B("d"));
            run.ReadsAt(engine, before, B("bb"), B("value of bb"), "before the range delete");
        }

        await run.PutAsync(engine, "bb").ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "scan after a put into the deleted range", B("a"), B("bb"), B("c"), B("d"));
        await engine.CompactAsync(default, run.CancellationToken).ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "scan after the compaction", B("a"), B("bb"), B("c"), B("d"));
    }

    private static async Task DeleteRangeOrderAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "k1").ConfigureAwait(false);
        StorageBatch batch = new();
        batch.Put(B("k2"), B("early"));
        batch.DeleteRange(B("k"), B("l"));
        batch.Put(B("k3"), B("late"));
        await engine.WriteAsync(batch, StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "scan", B("k3"));
        StorageBatch everything = new();
        everything.DeleteRange([], [0xFF]);
        await engine.WriteAsync(everything, StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "scan after deleting all");
    }

    private static async Task LargeBatchAsync(ConformanceRun run)
    {
        const int Count = 5000;
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        StorageBatch batch = new();
        byte[] value = new byte[200];
        for (int number = 0; number < Count; number++)
        {
            value[0] = (byte)number;
            batch.Put(K(number * 7 % Count), value);
        }

        await engine.WriteAsync(batch, StorageDurability.Flushed, run.CancellationToken).ConfigureAwait(false);
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        for (int number = 0; number < Count; number++)
        {
            run.True(iterator.MoveNext(), $"the scan ends at entry {number} of {Count}");
            run.Same(K(number), iterator.Key, $"key {number}");
            run.Equal(value.Length, iterator.Value.Length, $"bytes of value {number}");
        }

        run.True(!iterator.MoveNext(), "the scan has more than was written");
    }
}
