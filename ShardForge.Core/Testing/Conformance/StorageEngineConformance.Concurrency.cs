using System.Buffers.Binary;
using ShardForge.Storage;

namespace ShardForge.Testing;

public static partial class StorageEngineConformance
{
    private static IEnumerable<StorageEngineConformanceCase> ConcurrencyCases() =>
    [
        Case("Readers and scans see whole batches only, while writers write and the engine flushes and compacts", ConcurrentBatchesAsync),
        Case("A reader never sees a key go back in time", MonotonicReadsAsync),
        Case("Writes that run side by side are all there", ParallelWritesAsync),
    ];

    private static async Task ConcurrentBatchesAsync(ConformanceRun run)
    {
        const int Keys = 12, Rounds = 60;
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await WriteRoundAsync(0).ConfigureAwait(false);
        int stop = 0;
        Task[] readers = [ConformanceRun.OnThread(() => ReadUntilStopped(useSnapshot: false)), ConformanceRun.OnThread(() => ReadUntilStopped(useSnapshot: true))];
        try
        {
            for (int round = 1; round <= Rounds; round++)
            {
                await WriteRoundAsync(round).ConfigureAwait(false);
                if (round % 20 == 10)
                    await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
                if (round % 20 == 0)
                    await engine.CompactAsync(default, run.CancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            Volatile.Write(ref stop, 1);
            await Task.WhenAll(readers).ConfigureAwait(false);
        }

        // Every round replaces all keys: deletes the old ones as a range, then puts its own.
        ValueTask WriteRoundAsync(int round)
        {
            StorageBatch batch = new();
            batch.DeleteRange(K(0), K(1 << 20));
            for (int number = 0; number < Keys; number++)
                batch.Put(K((number * 100) + (round % 7)), BitConverter.GetBytes(round));
            return engine.WriteAsync(batch, round % 3 == 0 ? StorageDurability.Flushed : StorageDurability.Buffered, run.CancellationToken);
        }

        void ReadUntilStopped(bool useSnapshot)
        {
            do
            {
                using IStorageSnapshot? snapshot = useSnapshot ? engine.CreateSnapshot() : null;
                using IStorageIterator iterator = engine.Scan(KeyRange.All, new StorageScanOptions { Snapshot = snapshot });
                int? round = null;
                int count = 0;
                for (; iterator.MoveNext(); count++)
                {
                    int found = BinaryPrimitives.ReadInt32LittleEndian(iterator.Value);
                    round ??= found;
                    run.Equal(round.Value, found, $"round of entry {count} in one scan");
                }

                run.Equal(Keys, count, $"entries in a scan of round {round}");
                if (snapshot is not null)
                    run.ReadsAt(engine, snapshot, K(round!.Value % 7), BitConverter.GetBytes(round.Value), "a read beside the scan");
            }
            while (Volatile.Read(ref stop) == 0);
        }
    }

    private static async Task MonotonicReadsAsync(ConformanceRun run)
    {
        const int Rounds = 150;
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        int acknowledged = 0, stop = 0;
        await engine.WriteAsync(Put(B("k"), BitConverter.GetBytes(0)), StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
        Task reader = ConformanceRun.OnThread(() =>
        {
            int last = 0;
            do
            {
                int atLeast = Volatile.Read(ref acknowledged);
                byte[]? read = run.Get(engine, B("k"), null);
                run.True(read is not null, "the key is absent");
                int value = BinaryPrimitives.ReadInt32LittleEndian(read);
                run.True(value >= last && value >= atLeast, $"read {value} after {last} was read and {atLeast} acknowledged");
                last = value;
            }
            while (Volatile.Read(ref stop) == 0);
        });
        try
        {
            for (int round = 1; round <= Rounds; round++)
            {
                await engine.WriteAsync(Put(B("k"), BitConverter.GetBytes(round)), StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
                Volatile.Write(ref acknowledged, round);
                if (round == Rounds / 2)
                    await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            Volatile.Write(ref stop, 1);
            await reader.ConfigureAwait(false);
        }
    }

    private static async Task ParallelWritesAsync(ConformanceRun run)
    {
        const int Count = 400;
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        Task[] writes = new Task[Count];
        for (int number = 0; number < Count; number++)
        {
            StorageDurability durability = number % 4 == 0 ? StorageDurability.Flushed : StorageDurability.Buffered;
            writes[number] = engine.WriteAsync(Put(K(number), BitConverter.GetBytes(number)), durability, run.CancellationToken).AsTask();
        }

        await Task.WhenAll(writes).ConfigureAwait(false);
        for (int number = 0; number < Count; number++)
            await run.ReadsAsync(engine, K(number), BitConverter.GetBytes(number), "written side by side").ConfigureAwait(false);
    }
}
