using ShardForge.Storage;

namespace ShardForge.Testing;

public static partial class StorageEngineConformance
{
    private static IEnumerable<StorageEngineConformanceCase> IteratorCases() =>
    [
        Case("An iterator starts before the first entry", IteratorStartAsync),
        Case("An iterator past an end stays there until it seeks", IteratorEndsAsync),
        Case("A seek finds the first entry at or after, or the last at or before", IteratorSeeksAsync),
        Case("An iterator stays in its range", IteratorBoundsAsync),
        Case("An iterator turns round anywhere", IteratorTurnsAsync),
        Case("An empty range has no entries", IteratorEmptyRangeAsync),
        Case("An iterator reads the moment of its creation", IteratorMomentAsync),
        Case("An iterator outlives overwrites, deletes, flushes, compactions and its snapshot", IteratorOutlivesAsync),
        Case("Iterators of one engine do not disturb each other", IteratorsSideBySideAsync),
    ];

    private static async Task IteratorStartAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a", "b").ConfigureAwait(false);
        using (IStorageIterator iterator = engine.Scan(KeyRange.All))
        {
            await run.ThrowsAsync<InvalidOperationException>(() => _ = iterator.Key.Length, "Key before the first move").ConfigureAwait(false);
            await run.ThrowsAsync<InvalidOperationException>(() => _ = iterator.Value.Length, "Value before the first move").ConfigureAwait(false);
            run.True(iterator.MoveNext(), "the first MoveNext finds nothing");
            run.Same(B("a"), iterator.Key, "first key");
            run.Same(B("value of a"), iterator.Value, "first value");
        }

        using (IStorageIterator iterator = engine.Scan(KeyRange.All))
        {
            run.True(!iterator.MovePrevious(), "MovePrevious at the start finds an entry");
            run.True(!iterator.MoveNext(), "MoveNext goes on after MovePrevious moved past the start");
            run.True(iterator.SeekFirst(), "SeekFirst finds nothing after that");
        }
    }

    private static async Task IteratorEndsAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a", "b").ConfigureAwait(false);
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        run.True(iterator.SeekLast(), "SeekLast finds nothing");
        run.True(!iterator.MoveNext(), "MoveNext behind the last entry");
        await run.ThrowsAsync<InvalidOperationException>(() => _ = iterator.Key.Length, "Key past the end").ConfigureAwait(false);
        run.True(!iterator.MoveNext(), "a second MoveNext past the end");
        run.True(!iterator.MovePrevious(), "MovePrevious past the end, which is invalid until a seek");
        run.True(iterator.Seek(B("b")), "a seek from past the end finds nothing");
        run.Same(B("b"), iterator.Key, "key after that seek");
        run.True(iterator.MovePrevious(), "MovePrevious after that seek");
        run.Same(B("a"), iterator.Key, "key before");
        run.True(!iterator.MovePrevious(), "MovePrevious before the first entry");
        await run.ThrowsAsync<InvalidOperationException>(() => _ = iterator.Value.Length, "Value past the start").ConfigureAwait(false);
        run.True(!iterator.MovePrevious(), "a second MovePrevious past the start");
        run.True(!iterator.MoveNext(), "MoveNext past the start, which is invalid until a seek");
        run.True(!iterator.Seek(B("c")), "a seek behind the last entry");
        run.True(!iterator.MovePrevious(), "MovePrevious after a seek that found nothing");
        run.True(iterator.SeekForPrevious(B("c")), "SeekForPrevious from past the end");
        run.Same(B("b"), iterator.Key, "key after SeekForPrevious");
        run.True(!iterator.SeekForPrevious(B("A")), "SeekForPrevious before the first entry");
        run.True(iterator.SeekFirst(), "SeekFirst from past the start");
        run.Same(B("a"), iterator.Key, "key after SeekFirst");
    }

    private static async Task IteratorSeeksAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "b", "bb", "d").ConfigureAwait(false);
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        foreach ((string target, string? after, string? before) in new (string, string?, string?)[]
        {
            ("", "b", null), ("a", "b", null), ("b", "b", "b"), ("ba", "bb", "b"), ("bb", "bb", "bb"), ("bba", "d", "bb"), ("c", "d", "bb"), ("d", "d", "d"), ("da", null, "d"), ("e", null, "d"),
        })
        {
            run.Equal(after is not null, iterator.Seek(B(target)), $"Seek '{target}'");
            if (after is not null)
                run.Same(B(after), iterator.Key, $"key after Seek '{target}'");
            run.Equal(before is not null, iterator.SeekForPrevious(B(target)), $"SeekForPrevious '{target}'");
            if (before is not null)
                run.Same(B("value of " + before), iterator.Value, $"value after SeekForPrevious '{target}'");
        }
    }

    private static async Task IteratorBoundsAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a", "b", "c", "d", "e").ConfigureAwait(false);
        run.Scans(engine, KeyRange.Between(B("b"), B("d")), null, "[b, d)", B("b"), B("c"));
        run.Scans(engine, KeyRange.Between(B("aa"), B("dd")), null, "[aa, dd)", B("b"), B("c"), B("d"));
        run.Scans(engine, KeyRange.From(B("d")), null, "[d, …)", B("d"), B("e"));
        run.Scans(engine, KeyRange.Prefix(B("c")), null, "prefix c", B("c"));
        run.Scans(engine, KeyRange.Prefix(B("")), null, "empty prefix", B("a"), B("b"), B("c"), B("d"), B("e"));
        using IStorageIterator iterator = engine.Scan(KeyRange.Between(B("b"), B("d")));
        run.True(iterator.Seek(B("a")), "Seek before the range finds nothing");
        run.Same(B("b"), iterator.Key, "key after a seek before the range");
        run.True(!iterator.MovePrevious(), "MovePrevious leaves the range at its start");
        run.True(!iterator.Seek(B("d")), "Seek to the end of the range finds an entry");
        run.True(!iterator.SeekForPrevious(B("aa")), "SeekForPrevious before the range finds an entry");
        run.True(iterator.SeekForPrevious(B("z")), "SeekForPrevious behind the range finds nothing");
        run.Same(B("c"), iterator.Key, "key after SeekForPrevious behind the range");
        run.True(!iterator.MoveNext(), "MoveNext leaves the range at its end");
        run.True(iterator.SeekForPrevious(B("d")), "SeekForPrevious to the end of the range finds nothing");
        run.Same(B("c"), iterator.Key, "key after SeekForPrevious to the end of the range");
    }

    private static async Task IteratorTurnsAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        for (int number = 0; number < 300; number++)
            await engine.WriteAsync(Put(K(number), [(byte)number]), StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        run.True(iterator.SeekFirst(), "SeekFirst finds nothing");
        int at = 0;
        for (int step = 0; step < 2000; step++)
        {
            bool forward = run.Random.Next(2) == 0;
            if (forward ? at == 299 : at == 0)
                continue;
            run.True(forward ? iterator.MoveNext() : iterator.MovePrevious(), $"step {step} from entry {at}, {(forward ? "forwards" : "backwards")}");
            at += forward ? 1 : -1;
            run.Same(K(at), iterator.Key, $"key after step {step}");
            run.Same([(byte)at], iterator.Value, $"value after step {step}");
        }
    }

    private static async Task IteratorEmptyRangeAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "an empty engine");
        await run.PutAsync(engine, "a", "b", "c").ConfigureAwait(false);
        foreach (KeyRange range in new[] { KeyRange.Between(B("b"), B("b")), KeyRange.Between(B("c"), B("a")), KeyRange.Between(B("bb"), B("bc")), KeyRange.From(B("d")), KeyRange.Between(B(""), B("")) })
        {
            run.Scans(engine, range, null, $"range {range}");
            using IStorageIterator iterator = engine.Scan(range);
            run.True(!iterator.MoveNext(), $"MoveNext in {range}");
            run.True(!iterator.Seek(B("b")), $"Seek b in {range}");
            run.True(!iterator.SeekForPrevious(B("b")), $"SeekForPrevious b in {range}");
        }
    }

    private static async Task IteratorMomentAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a", "c").ConfigureAwait(false);
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        await run.PutAsync(engine, "b").ConfigureAwait(false);
        await engine.WriteAsync(Put(B("c"), B("changed")), StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        await engine.DeleteAsync(B("a"), run.CancellationToken).ConfigureAwait(false);
        run.True(iterator.MoveNext(), "the first entry is gone");
        run.Same(B("a"), iterator.Key, "a key that was deleted after the iterator was made");
        run.True(iterator.MoveNext(), "the second entry is gone");
        run.Same(B("c"), iterator.Key, "second key");
        run.Same(B("value of c"), iterator.Value, "a value that was overwritten after the iterator was made");
        run.True(!iterator.MoveNext(), "an entry that was put after the iterator was made");
        run.Scans(engine, KeyRange.All, null, "a new iterator", B("b"), B("c"));
    }

    private static async Task IteratorOutlivesAsync(ConformanceRun run)
    {
        const int Count = 500;
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        for (int number = 0; number < Count; number++)
            await engine.WriteAsync(Put(K(number), K(number)), StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        IStorageSnapshot snapshot = engine.CreateSnapshot();
        using IStorageIterator iterator = engine.Scan(KeyRange.All, new StorageScanOptions { Snapshot = snapshot });
        StorageBatch batch = new();
        for (int number = 0; number < Count; number++)
        {
            if (number % 3 == 0)
                batch.Delete(K(number));
            else
                batch.Put(K(number), B("changed"));
        }

        await engine.WriteAsync(batch, StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        snapshot.Dispose();
        for (int number = 0; number < Count; number++)
        {
            if (number == Count / 4)
                await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
            if (number == Count / 2)
                await engine.CompactAsync(default, run.CancellationToken).ConfigureAwait(false);
            run.True(iterator.MoveNext(), $"the iterator ends at entry {number} of {Count}");
            run.Same(K(number), iterator.Key, $"key {number}");
            run.Same(K(number), iterator.Value, $"value {number}");
        }

        run.True(!iterator.MoveNext(), "the iterator has more entries than there were");
        iterator.Dispose();
        await run.ThrowsAsync<ObjectDisposedException>(() => iterator.MoveNext(), "MoveNext after dispose").ConfigureAwait(false);
        iterator.Dispose();
    }

    private static async Task IteratorsSideBySideAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a", "b", "c", "d").ConfigureAwait(false);
        using IStorageSnapshot snapshot = engine.CreateSnapshot();
        StorageScanOptions options = new() { Snapshot = snapshot };
        using IStorageIterator forwards = engine.Scan(KeyRange.All, options), backwards = engine.Scan(KeyRange.All, options), seeking = engine.Scan(KeyRange.All, options);
        string[] keys = ["a", "b", "c", "d"];
        run.True(backwards.SeekLast(), "SeekLast finds nothing");
        for (int at = 0; at < keys.Length; at++)
        {
            run.True(forwards.MoveNext(), $"entry {at} forwards");
            run.True(at == 0 || backwards.MovePrevious(), $"entry {at} backwards");
            run.True(seeking.Seek(B("b")), "a seek finds nothing");
            run.Same(B(keys[at]), forwards.Key, "key forwards");
            run.Same(B(keys[^(at + 1)]), backwards.Key, "key backwards");
            run.Same(B("value of b"), seeking.Value, "value after the seek");
            run.ReadsAt(engine, snapshot, B("c"), B("value of c"), "between the moves");
        }
    }
}
