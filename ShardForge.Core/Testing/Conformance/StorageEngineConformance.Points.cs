using System.Buffers;
using ShardForge.Storage;

namespace ShardForge.Testing;

public static partial class StorageEngineConformance
{
    private static IEnumerable<StorageEngineConformanceCase> PointCases() =>
    [
        Case("A key has the value that was put last", PutAndGetAsync),
        Case("A deleted key is absent, and can be put again", DeleteAsync),
        Case("The empty key and the empty value are a key and a value", EmptyKeyAndValueAsync),
        Case("Keys are plain bytes in unsigned order", BinaryKeysAsync),
        Case("Returned arrays belong to the caller", ReturnedArraysAsync),
        Case("Keys of 64 KiB and large values come back whole", LargeAsync),
        Case("What is over a limit is refused, by reads too, and nothing is written", LimitsAsync),
        Case("A version read gives the newest version at or below the wanted one", VersionsAsync),
    ];

    private static async Task PutAndGetAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.ReadsAsync(engine, B("a"), null, "before any write").ConfigureAwait(false);
        await engine.PutAsync(B("a"), B("1"), run.CancellationToken).ConfigureAwait(false);
        await run.ReadsAsync(engine, B("a"), B("1"), "after the put").ConfigureAwait(false);
        await engine.PutAsync(B("a"), B("22"), run.CancellationToken).ConfigureAwait(false);
        await run.ReadsAsync(engine, B("a"), B("22"), "after the second put").ConfigureAwait(false);
        await run.ReadsAsync(engine, B(""), null, "the empty key").ConfigureAwait(false);
        await run.ReadsAsync(engine, B("aa"), null, "a longer key").ConfigureAwait(false);
    }

    private static async Task DeleteAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await engine.DeleteAsync(B("a"), run.CancellationToken).ConfigureAwait(false);
        await run.ReadsAsync(engine, B("a"), null, "after the delete of an absent key").ConfigureAwait(false);
        await engine.PutAsync(B("a"), B("1"), run.CancellationToken).ConfigureAwait(false);
        await engine.DeleteAsync(B("a"), run.CancellationToken).ConfigureAwait(false);
        await run.ReadsAsync(engine, B("a"), null, "after the delete").ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "scan after the delete");
        await engine.PutAsync(B("a"), B("2"), run.CancellationToken).ConfigureAwait(false);
        await run.ReadsAsync(engine, B("a"), B("2"), "after the put behind the delete").ConfigureAwait(false);
    }

    private static async Task EmptyKeyAndValueAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await engine.PutAsync(B("b"), B(""), run.CancellationToken).ConfigureAwait(false);
        await run.ReadsAsync(engine, B("b"), B(""), "the empty value").ConfigureAwait(false);
        await run.ReadsAsync(engine, B(""), null, "the empty key before it is put").ConfigureAwait(false);
        await engine.PutAsync(B(""), B("nothing"), run.CancellationToken).ConfigureAwait(false);
        await run.ReadsAsync(engine, B(""), B("nothing"), "the empty key").ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "scan", B(""), B("b"));
        await engine.PutAsync(B(""), B(""), run.CancellationToken).ConfigureAwait(false);
        await run.ReadsAsync(engine, B(""), B(""), "the empty key with the empty value").ConfigureAwait(false);
        await engine.DeleteAsync(B(""), run.CancellationToken).ConfigureAwait(false);
        await run.ReadsAsync(engine, B(""), null, "the deleted empty key").ConfigureAwait(false);
    }

    private static async Task BinaryKeysAsync(ConformanceRun run)
    {
        byte[][] ordered = [[], [0], [0, 0], [0, 1], [0, 255], [1], [0x7F], [0x7F, 0xFF], [0x80], [0x80, 0], [0xFE], [0xFF], [0xFF, 0], [0xFF, 0xFF], [0xFF, 0xFF, 0xFF]];
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        foreach (byte[] key in ordered.OrderBy(_ => run.Random.Next()).ToArray())
            await engine.WriteAsync(Put(key, [.. key, 0, 255]), StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        foreach (byte[] key in ordered)
            await run.ReadsAsync(engine, key, [.. key, 0, 255], "binary key").ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "all", ordered);
        run.Scans(engine, KeyRange.Prefix(new byte[] { 0xFF }), null, "prefix FF", ordered.AsSpan(11));
        run.Scans(engine, KeyRange.Between(new byte[] { 0, 0 }, new byte[] { 0x80 }), null, "between 0000 and 80", ordered.AsSpan(2, 6));
    }

    private static async Task ReturnedArraysAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        byte[] key = B("key"), value = B("value");
        await engine.PutAsync(key, value, run.CancellationToken).ConfigureAwait(false);
        Array.Clear(key);
        Array.Clear(value);
        byte[]? read = await engine.GetAsync(B("key"), run.CancellationToken).ConfigureAwait(false);
        run.SameOrAbsent(B("value"), read, "after the caller changed what it had given");
        Array.Clear(read!);
        await run.ReadsAsync(engine, B("key"), B("value"), "after the caller changed what it had got").ConfigureAwait(false);
    }

    private static async Task LargeAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        byte[] longKey = new byte[64 * 1024], value = new byte[3 * 1024 * 1024 + 17];
        run.Random.NextBytes(longKey);
        run.Random.NextBytes(value);
        byte[] neighbour = [.. longKey];
        neighbour[^1] ^= 1;
        await engine.WriteAsync(Put(longKey, value), StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        await engine.WriteAsync(Put(neighbour, B("n")), StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
        await run.ReadsAsync(engine, longKey, value, "64 KiB key").ConfigureAwait(false);
        await run.ReadsAsync(engine, neighbour, B("n"), "its neighbour").ConfigureAwait(false);
        byte[] behind = [.. longKey, 0];
        using IStorageIterator iterator = engine.Scan(KeyRange.Between(longKey, behind));
        run.True(iterator.MoveNext(), "a range from a 64 KiB key to the one behind it is empty");
        run.Same(longKey, iterator.Key, "key in the range from a 64 KiB key to the one behind it");
        run.Same(value, iterator.Value, "its value");
        run.True(!iterator.MoveNext(), "more than one key there");
    }

    private static async Task LimitsAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        byte[] tooLong = new byte[(64 * 1024) + 1];
        ArrayBufferWriter<byte> value = new();
        LimitExceededException error = await run.ThrowsAsync<LimitExceededException>(() => engine.PutAsync(tooLong, B("v"), run.CancellationToken), "put").ConfigureAwait(false);
        run.Equal(64 * 1024, error.Maximum, "Maximum of the error");
        run.Equal(tooLong.Length, error.Actual, "Actual of the error");
        await run.ThrowsAsync<LimitExceededException>(() => engine.DeleteAsync(tooLong, run.CancellationToken), "delete").ConfigureAwait(false);
        await run.ThrowsAsync<LimitExceededException>(async () => await engine.GetAsync(tooLong, run.CancellationToken).ConfigureAwait(false), "GetAsync").ConfigureAwait(false);
        await run.ThrowsAsync<LimitExceededException>(() => engine.TryGet(tooLong, value), "TryGet").ConfigureAwait(false);
        await run.ThrowsAsync<LimitExceededException>(() => engine.PutAsync(B("k"), new byte[(64 * 1024 * 1024) + 1], run.CancellationToken), "put of a large value").ConfigureAwait(false);
        IStorageTransaction transaction = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await using (transaction.ConfigureAwait(false))
        {
            await run.ThrowsAsync<LimitExceededException>(() => transaction.PutAsync(tooLong, B("v"), run.CancellationToken), "put in a transaction").ConfigureAwait(false);
            await run.ThrowsAsync<LimitExceededException>(async () => await transaction.GetAsync(tooLong, run.CancellationToken).ConfigureAwait(false), "get in a transaction").ConfigureAwait(false);
        }

        run.Scans(engine, KeyRange.All, null, "scan after the refusals");
    }

    private static async Task VersionsAsync(ConformanceRun run)
    {
        const int SuffixBytes = 2;
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        StorageBatch batch = new();
        foreach ((string key, byte version) in new[] { ("a", (byte)9), ("a", (byte)5), ("ab", (byte)7), ("b", (byte)3) })
            batch.Put(Versioned(key, version), [version]);
        await engine.WriteAsync(batch, StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        using IStorageSnapshot snapshot = engine.CreateSnapshot();
        await engine.WriteAsync(Put(Versioned("a", 11), [11]), StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        foreach (bool flushed in new[] { false, true })
        {
            if (flushed)
                await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
            Expect("a", 255, 11, null);
            Expect("a", 255, 9, snapshot);
            Expect("a", 10, 9, null);
            Expect("a", 9, 9, null);
            Expect("a", 8, 5, null);
            Expect("a", 4, null, null);
            Expect("ab", 255, 7, null);
            Expect("ab", 6, null, null);
            Expect("b", 2, null, null);
            Expect("aa", 255, null, null);
            Expect("", 255, null, null);
        }

        await run.ThrowsAsync<ArgumentException>(() => engine.TryGetVersion([1], 2, new byte[2], new ArrayBufferWriter<byte>()), "a suffix longer than the key").ConfigureAwait(false);

        // Newest first: a version is stored as what it lacks to the highest one.
        static byte[] Versioned(string key, byte version) => [.. B(key), 0x00, (byte)(255 - version)];

        void Expect(string key, byte wanted, byte? found, IStorageSnapshot? at)
        {
            string what = $"version {wanted} of '{key}'";
            byte[] suffix = new byte[SuffixBytes];
            ArrayBufferWriter<byte> value = new();
            bool isFound = engine.TryGetVersion(Versioned(key, wanted), SuffixBytes, suffix, value, at);
            run.Equal(found is not null, isFound, what);
            run.Same(found is { } version ? [version] : [], value.WrittenSpan, what + ", value");
            if (found is { } expected)
                run.Same([0x00, (byte)(255 - expected)], suffix, what + ", suffix");
        }
    }

    private static StorageBatch Put(byte[] key, byte[] value)
    {
        StorageBatch batch = new();
        batch.Put(key, value);
        return batch;
    }
}
