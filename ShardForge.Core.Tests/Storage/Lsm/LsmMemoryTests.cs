using System.Buffers;
using System.Diagnostics;
using NUnit.Framework;
using ShardForge.Storage;
using ShardForge.Storage.Lsm.Memtables;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>Memory stays within the budgets, however much is loaded and read. SHARDFORGE_LONG=1 loads 10 million keys with the default budgets and looks at the process.</summary>
[NonParallelizable]
internal sealed class LsmMemoryTests
{
    private static readonly byte[] s_value = Enumerable.Range(0, 100).Select(at => (byte)(at < 50 ? at * at : 0)).ToArray();

    [Test]
    public async Task Memtables_and_blocks_stay_within_their_budgets()
    {
        StorageResourceOptions budgets = new() { WriteBufferBytes = 6 * 1024 * 1024, BlockCacheBytes = 2 * 1024 * 1024 };
        (long memtables, long blocks) = await LoadAndReadAsync(budgets, keys: 120_000);
        Assert.That(memtables, Is.GreaterThan(0).And.AtMost(budgets.WriteBufferBytes + (3 * NativeChunkPool.ChunkBytes)), "each of three memtables may have begun a chunk");
        Assert.That(blocks, Is.GreaterThan(0).And.LessThan(budgets.BlockCacheBytes * 5 / 4), "what is pinned comes on top");
    }

    [Test]
    public async Task Ten_million_keys_need_no_more_than_the_budgets_and_what_the_process_needs_anyway()
    {
        if (Environment.GetEnvironmentVariable("SHARDFORGE_LONG") != "1")
            Assert.Ignore("SHARDFORGE_LONG=1 runs it; it loads 10 million keys.");
        GC.Collect();
        int collections = GC.CollectionCount(2);
        using Process process = Process.GetCurrentProcess();
        long before = process.WorkingSet64;
        StorageResourceOptions budgets = new() { WriteBufferBytes = 128L << 20, BlockCacheBytes = 256L << 20 };
        await LoadAndReadAsync(budgets, keys: 10_000_000);
        process.Refresh();
        TestContext.Out.WriteLine($"working set {before >> 20} MiB before, {process.WorkingSet64 >> 20} MiB after, peak {process.PeakWorkingSet64 >> 20} MiB; gen-2 collections {GC.CollectionCount(2) - collections}, managed heap {GC.GetGCMemoryInfo().TotalCommittedBytes >> 20} MiB");

        // Above the budgets: maps of logs, indexes and filters.
        Assert.That(process.PeakWorkingSet64 - before, Is.LessThan(budgets.BlockCacheBytes + budgets.WriteBufferBytes + (64L << 20)));
    }

    /// <returns>The most that memtables and cached blocks had.</returns>
    private static async Task<(long Memtables, long Blocks)> LoadAndReadAsync(StorageResourceOptions budgets, int keys)
    {
        string directory = Directory.CreateTempSubdirectory("shardforge-lsm-memory-").FullName;
        try
        {
            using StorageResources resources = new(budgets);
            await using IStorageEngine engine = await StorageEngines.Lsm().OpenAsync(new StorageEngineContext { Directory = directory, Resources = resources });
            long memtables = 0, blocks = 0;
            StorageBatch batch = new();
            byte[] key = new byte[16];
            for (int number = 0; number < keys; number++)
            {
                batch.Clear();
                batch.Put(Key(key, number, keys), s_value);
                await engine.WriteAsync(batch, StorageDurability.Buffered);
                if (number % 1000 == 0)
                    memtables = Math.Max(memtables, engine.GetStatistics().MemtableBytes);
            }

            await engine.CompactAsync();
            ArrayBufferWriter<byte> value = new();
            for (int number = 0; number < keys; number += 3)
            {
                value.ResetWrittenCount();
                Assert.That(engine.TryGet(Key(key, number, keys), value));
                if (number % 1000 == 0)
                    blocks = Math.Max(blocks, engine.GetStatistics().BlockCacheBytes);
            }

            return (memtables, blocks);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    /// <summary>All of them, in an order that is none.</summary>
    private static byte[] Key(byte[] target, int number, int keys)
    {
        BitConverter.TryWriteBytes(target, (ulong)((number * 2_654_435_761L) % keys) * 0x9E3779B97F4A7C15);
        return target;
    }
}
