using System.Buffers;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>What only this engine promises.</summary>
internal sealed class LsmEngineTests
{
    [Test]
    public async Task A_point_read_allocates_nothing([Values] bool fromTables)
    {
        await using IStorageEngine engine = await StorageEngines.Lsm().OpenAsync(new StorageEngineContext { Directory = "/db", FileSystem = new InMemoryFileSystem(), WriteAheadLog = false, VersionSuffixBytes = 8 });
        for (int number = 0; number < 200; number++)
            await engine.PutAsync(Key(number), new byte[100]);
        if (fromTables)
            await engine.CompactAsync();
        ArrayBufferWriter<byte> value = new(4096);
        byte[] hit = Key(77), miss = Key(777), suffix = new byte[8];
        for (int round = 0; round < 50; round++)
            Read();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int round = 0; round < 100; round++)
            Read();
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);

        void Read()
        {
            value.ResetWrittenCount();
            if (!engine.TryGet(hit, value) || engine.TryGet(miss, value) || !engine.TryGetVersion(hit, 8, suffix, value))
                throw new InvalidOperationException("The reads are wrong.");
        }
    }

    [Test]
    public async Task An_open_iterator_keeps_its_files_and_memory_past_compactions_and_dispose()
    {
        InMemoryFileSystem files = new();
        IStorageEngine engine = await TinyLsm.Factory.OpenAsync(new StorageEngineContext { Directory = "/db", FileSystem = files, WriteAheadLog = false });
        for (int number = 0; number < 100; number++)
            await engine.PutAsync(Key(number), new byte[100]);
        await engine.FlushAsync();
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        Assert.That(iterator.MoveNext());
        StorageBatch batch = new();
        batch.DeleteRange([0], [255]);
        await engine.WriteAsync(batch);
        await engine.CompactAsync();
        int count = 1;
        while (iterator.MoveNext())
            count++;
        Assert.That(count, Is.EqualTo(100));
        Assert.That(iterator.SeekFirst());
        await engine.DisposeAsync();
        Assert.Throws<ObjectDisposedException>(() => iterator.MoveNext());
        Assert.That(files.ListFiles("/db").Count(path => path.EndsWith(".sst", StringComparison.Ordinal)), Is.GreaterThan(0));
    }

    [Test]
    public async Task Reads_between_thousands_of_range_deletes_see_each_of_them()
    {
        await using IStorageEngine engine = await StorageEngines.Lsm().OpenAsync(new StorageEngineContext { Directory = "/db", FileSystem = new InMemoryFileSystem(), WriteAheadLog = false });
        StorageBatch batch = new();
        for (int number = 0; number < 3000; number++)
            batch.Put(Key(number), new byte[1]);
        await engine.WriteAsync(batch, StorageDurability.Buffered);
        ArrayBufferWriter<byte> value = new();
        for (int number = 0; number < 3000; number++)
        {
            batch.Clear();
            batch.DeleteRange(Key(number), [.. Key(number), 0]);
            if (number % 100 == 0)
                batch.Put(Key(number), new byte[2]);
            await engine.WriteAsync(batch, StorageDurability.Buffered);
            Assert.That(engine.TryGet(Key(number), value), Is.EqualTo(number % 100 == 0));
            Assert.That(engine.TryGet(Key(2999), value), Is.EqualTo(number < 2999));
        }

        await engine.CompactAsync();
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        int count = 0;
        for (; iterator.MoveNext(); count++)
            Assert.That(iterator.Value.Length, Is.EqualTo(2));
        Assert.That(count, Is.EqualTo(30));
    }

    [Test]
    public async Task Obsolete_files_go_and_an_empty_range_leaves_no_tables()
    {
        InMemoryFileSystem files = new();
        await using IStorageEngine engine = await TinyLsm.Factory.OpenAsync(new StorageEngineContext { Directory = "/db", FileSystem = files });
        for (int number = 0; number < 300; number++)
            await engine.PutAsync(Key(number), new byte[100]);
        StorageBatch batch = new();
        batch.DeleteRange([0], [255, 255]);
        await engine.WriteAsync(batch);
        await engine.CompactAsync();
        Assert.That(engine.GetStatistics().Levels.Sum(level => level.Files), Is.Zero);
        using CancellationTokenSource deadline = new(TimeSpan.FromSeconds(20));
        while (files.ListFiles("/db").Count(path => path.EndsWith(".sst", StringComparison.Ordinal) || path.EndsWith(".log", StringComparison.Ordinal)) > 1)
        {
            deadline.Token.ThrowIfCancellationRequested();
            await Task.Yield();
        }
    }

    [Test]
    public async Task Memtables_of_many_engines_stay_within_the_write_buffer()
    {
        using StorageResources resources = new(new StorageResourceOptions { WriteBufferBytes = 3 * 1024 * 1024, BackgroundJobs = 1 });
        List<IStorageEngine> engines = [];
        for (int number = 0; number < 4; number++)
            engines.Add(await StorageEngines.Lsm().OpenAsync(new StorageEngineContext { Directory = $"/db{number}", FileSystem = new InMemoryFileSystem(), Resources = resources, WriteAheadLog = false }));
        for (int number = 0; number < 2000; number++)
        {
            foreach (IStorageEngine engine in engines)
                await engine.PutAsync(Key(number), new byte[1000]);
        }

        Assert.That(engines.Sum(engine => engine.GetStatistics().Flushes), Is.GreaterThan(4));
        Assert.That(engines.Sum(engine => engine.GetStatistics().MemtableBytes), Is.LessThan(2 * 3 * 1024 * 1024));
        foreach (IStorageEngine engine in engines)
            await engine.DisposeAsync();
    }

    [TestCase("BlockBytes")]
    [TestCase("MemtableBytes")]
    [TestCase("BloomBitsPerKey")]
    [TestCase("LevelZeroStopTables")]
    public void An_impossible_option_is_refused_by_name(string name)
    {
        LsmOptions options = name switch
        {
            "BlockBytes" => new() { BlockBytes = 1 },
            "MemtableBytes" => new() { MemtableBytes = -1 },
            "BloomBitsPerKey" => new() { BloomBitsPerKey = 1000 },
            _ => new() { LevelZeroStopTables = 3 },
        };
        ConfigurationException? error = Assert.Throws<ConfigurationException>(() => StorageEngines.Lsm(options));
        Assert.That(error!.Setting, Is.EqualTo($"LsmOptions.{name}"));
    }

    private static byte[] Key(int number) => [1, (byte)(number >> 8), (byte)number, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
}
