using System.Buffers;
using ShardForge.Storage;

namespace ShardForge.Testing;

public static partial class StorageEngineConformance
{
    private static IEnumerable<StorageEngineConformanceCase> SnapshotCases() =>
    [
        Case("A snapshot keeps its state through overwrites, deletes, flushes and compactions", SnapshotKeepsAsync),
        Case("Snapshots are independent of each other", SnapshotsAsync),
        Case("A snapshot taken of the empty engine stays empty", EmptySnapshotAsync),
        Case("A disposed snapshot, or one of another engine, is refused", SnapshotMisuseAsync),
    ];

    private static async Task SnapshotKeepsAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a", "b", "c").ConfigureAwait(false);
        using IStorageSnapshot snapshot = engine.CreateSnapshot();
        StorageBatch batch = new();
        batch.Put(B("a"), B("changed"));
        batch.Delete(B("b"));
        batch.DeleteRange(B("c"), B("d"));
        batch.Put(B("bb"), B("new"));
        await engine.WriteAsync(batch, StorageDurability.Flushed, run.CancellationToken).ConfigureAwait(false);
        foreach (string step in new[] { "after the writes", "after the flush", "after the compaction", "after more writes" })
        {
            if (step == "after the flush")
                await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
            if (step == "after the compaction")
                await engine.CompactAsync(default, run.CancellationToken).ConfigureAwait(false);
            if (step == "after more writes")
                await run.PutAsync(engine, "a", "b", "c", "d").ConfigureAwait(false);
            run.ReadsAt(engine, snapshot, B("a"), B("value of a"), step);
            run.ReadsAt(engine, snapshot, B("b"), B("value of b"), step);
            run.ReadsAt(engine, snapshot, B("bb"), null, step);
            run.Scans(engine, KeyRange.All, snapshot, step, B("a"), B("b"), B("c"));
        }

        run.Scans(engine, KeyRange.All, null, "the present", B("a"), B("b"), B("bb"), B("c"), B("d"));
    }

    private static async Task SnapshotsAsync(ConformanceRun run)
    {
        const int Count = 20;
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        IStorageSnapshot?[] snapshots = new IStorageSnapshot?[Count];
        for (int number = 0; number < Count; number++)
        {
            await engine.WriteAsync(Put(B("k"), [(byte)number]), StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
            snapshots[number] = engine.CreateSnapshot();
        }

        foreach (int gone in Enumerable.Range(0, Count).OrderBy(_ => run.Random.Next()).ToArray())
        {
            for (int number = 0; number < Count; number++)
            {
                if (snapshots[number] is { } snapshot)
                    run.ReadsAt(engine, snapshot, B("k"), [(byte)number], $"snapshot {number}");
            }

            snapshots[gone]!.Dispose();
            snapshots[gone] = null;
            if (gone == Count / 2)
                await engine.CompactAsync(default, run.CancellationToken).ConfigureAwait(false);
        }

        await run.ReadsAsync(engine, B("k"), [Count - 1], "the present").ConfigureAwait(false);
    }

    private static async Task EmptySnapshotAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        using IStorageSnapshot snapshot = engine.CreateSnapshot();
        await run.PutAsync(engine, "a").ConfigureAwait(false);
        await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
        run.ReadsAt(engine, snapshot, B("a"), null, "put after the snapshot");
        run.Scans(engine, KeyRange.All, snapshot, "scan of the snapshot");
    }

    private static async Task SnapshotMisuseAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        IStorageEngine other = await run.OpenAsync(run.Root is null ? null : Path.Combine(run.Root, "other")).ConfigureAwait(false);
        using IStorageSnapshot foreign = other.CreateSnapshot();
        await run.ThrowsAsync<ArgumentException>(() => engine.TryGet(B("a"), new ArrayBufferWriter<byte>(), foreign), "TryGet at another engine's snapshot").ConfigureAwait(false);
        await run.ThrowsAsync<ArgumentException>(() => engine.Scan(default, new StorageScanOptions { Snapshot = foreign }).Dispose(), "Scan at another engine's snapshot").ConfigureAwait(false);
        IStorageSnapshot snapshot = engine.CreateSnapshot();
        snapshot.Dispose();
        snapshot.Dispose();
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.TryGet(B("a"), new ArrayBufferWriter<byte>(), snapshot), "TryGet at a disposed snapshot").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.Scan(default, new StorageScanOptions { Snapshot = snapshot }).Dispose(), "Scan at a disposed snapshot").ConfigureAwait(false);
    }
}
