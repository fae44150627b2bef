using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>How compactions run: beside flushes and each other, with progress, until they are stopped.</summary>
internal sealed class LsmCompactionTests
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    // So slow that what is asserted beside a compaction happens long before it ends by itself.
    private const long SlowBytesPerSecond = 2000;

    [Test]
    public async Task A_flush_does_not_wait_behind_a_compaction_on_the_only_thread()
    {
        using StorageResources resources = new(new StorageResourceOptions { BackgroundJobs = 1, CompactionBytesPerSecond = SlowBytesPerSecond });
        await using IStorageEngine engine = await OpenAsync(resources, TinyLsm.Options);
        await FillScatteredAsync(engine, 0, 300);
        await WaitUntilAsync(() => engine.GetStatistics().CompactionsRunning == 1);
        for (int round = 1; round < 4; round++)
        {
            await FillScatteredAsync(engine, round * 1000, 20);
            await engine.FlushAsync().AsTask().WaitAsync(s_patience);
        }

        Assert.That(engine.GetStatistics().CompactionsRunning, Is.EqualTo(1), "the first one is still running");
    }

    [Test]
    public async Task Compactions_that_do_not_conflict_run_side_by_side([Values] LsmCompactionStyle style)
    {
        using StorageResources resources = new(new StorageResourceOptions { BackgroundJobs = 4, CompactionBytesPerSecond = 200_000 });
        await using IStorageEngine engine = await OpenAsync(resources, TinyLsm.Options with { CompactionStyle = style });
        using CancellationTokenSource deadline = new(s_patience);
        for (int round = 0; engine.GetStatistics() is { CompactionsRunning: < 2 } now;)
        {
            deadline.Token.ThrowIfCancellationRequested();
            if (now.Levels[0].Files < 6)
                await FillScatteredAsync(engine, round++ * 100, 100);
            await Task.Yield();
        }
    }

    [Test]
    public async Task A_compaction_of_a_range_tells_how_far_it_is_and_leaves_no_table_as_it_was()
    {
        using StorageResources resources = new();
        await using ILsmEngine engine = (ILsmEngine)await OpenAsync(resources, TinyLsm.Options);
        for (int round = 0; round < 3; round++)
            await FillAsync(engine, 0, 1000);
        await engine.CompactAsync();
        Reports reports = new();
        await engine.CompactAsync(KeyRange.All, reports);
        Assert.That(reports.All, Has.Count.GreaterThan(2));
        Assert.That(reports.All.Select(report => report.BytesDone), Is.Ordered.Ascending);
        Assert.That(reports.All[^1].BytesDone, Is.EqualTo(reports.All[^1].BytesTotal).And.GreaterThan(50_000));
        Assert.That(reports.All.SkipLast(1).All(report => report.BytesTotal >= report.BytesDone));
        StorageStatistics after = engine.GetStatistics();
        Assert.That(after.Levels.Sum(level => level.Entries), Is.EqualTo(1000));
        Assert.That(after.SpaceAmplification, Is.InRange(1, 2));
        Assert.That(after.WriteAmplification, Is.GreaterThan(1));
        Assert.That(after.CompactionBytesRead, Is.GreaterThan(reports.All[^1].BytesDone));
    }

    [Test]
    public async Task A_cancelled_compaction_ends_and_the_engine_goes_on()
    {
        using StorageResources resources = new(new StorageResourceOptions { BackgroundJobs = 2, CompactionBytesPerSecond = SlowBytesPerSecond });
        await using IStorageEngine engine = await OpenAsync(resources, TinyLsm.Options);
        await FillScatteredAsync(engine, 0, 300);
        using CancellationTokenSource stop = new();
        Task compaction = engine.CompactAsync(KeyRange.All, stop.Token).AsTask();
        await WaitUntilAsync(() => engine.GetStatistics().CompactionsRunning > 0);
        await stop.CancelAsync();
        Assert.CatchAsync<OperationCanceledException>(async () => await compaction.WaitAsync(s_patience));
        await FillAsync(engine, 3000, 50);
        Assert.That(await engine.GetAsync(Key(3020)), Is.Not.Null);
    }

    [Test]
    public async Task What_a_progress_throws_ends_the_task_and_not_the_engine()
    {
        using StorageResources resources = new();
        await using ILsmEngine engine = (ILsmEngine)await OpenAsync(resources, TinyLsm.Options);
        await FillAsync(engine, 0, 300);
        Assert.ThrowsAsync<NotSupportedException>(async () => await engine.CompactAsync(KeyRange.All, new Reports { Throws = true }));
        await engine.CompactAsync();
        await FillAsync(engine, 0, 300);
    }

    [Test]
    public async Task Keys_in_order_are_moved_down_and_not_written_again([Values] LsmCompactionStyle style)
    {
        using StorageResources resources = new();
        await using IStorageEngine engine = await OpenAsync(resources, TinyLsm.Options with { CompactionStyle = style, TableBytes = 4096, LevelZeroTables = 4, LevelBaseBytes = 1 << 20 });
        await FillAsync(engine, 0, 3000);
        await engine.FlushAsync();
        await WaitUntilAsync(() => engine.GetStatistics() is { CompactionsRunning: 0 } now && now.Levels[0].Files < 4);
        StorageStatistics after = engine.GetStatistics();
        Assert.That(after.TableMoves, Is.GreaterThan(3));
        Assert.That(after.CompactionBytesWritten, Is.Zero);
    }

    [TestCase(nameof(LsmOptions.CompactionStyle))]
    [TestCase(nameof(LsmOptions.LevelZeroTables))]
    [TestCase(nameof(LsmOptions.UniversalSizeRatioPercent))]
    [TestCase(nameof(LsmOptions.UniversalSpaceAmplificationPercent))]
    public void An_impossible_option_of_a_style_is_refused_by_name(string name)
    {
        LsmOptions options = name switch
        {
            nameof(LsmOptions.CompactionStyle) => new() { CompactionStyle = (LsmCompactionStyle)9 },
            nameof(LsmOptions.LevelZeroTables) => new() { CompactionStyle = LsmCompactionStyle.Tiered, LevelZeroTables = 1 },
            nameof(LsmOptions.UniversalSizeRatioPercent) => new() { UniversalSizeRatioPercent = -1 },
            _ => new() { UniversalSpaceAmplificationPercent = 0 },
        };
        Assert.That(Assert.Throws<ConfigurationException>(() => StorageEngines.Lsm(options))!.Setting, Is.EqualTo($"LsmOptions.{name}"));
    }

    private static ValueTask<IStorageEngine> OpenAsync(StorageResources resources, LsmOptions options) => StorageEngines.Lsm(options)
        .OpenAsync(new StorageEngineContext { Directory = "/db", FileSystem = new InMemoryFileSystem(), Resources = resources, WriteAheadLog = false });

    private static byte[] Key(int number) => [(byte)(number >> 8), (byte)number];

    private static Task FillAsync(IStorageEngine engine, int first, int count) => FillAsync(engine, Enumerable.Range(first, count));

    /// <summary>Keys all over a range, so that every table overlaps every other.</summary>
    private static Task FillScatteredAsync(IStorageEngine engine, int first, int count) => FillAsync(engine, Enumerable.Range(first, count).Select(number => number * 787 % 2000));

    private static async Task FillAsync(IStorageEngine engine, IEnumerable<int> numbers)
    {
        StorageBatch batch = new();
        byte[] value = new byte[100];
        foreach (int number in numbers)
        {
            batch.Clear();
            new Random(number).NextBytes(value);
            batch.Put(Key(number), value);
            await engine.WriteAsync(batch, StorageDurability.Buffered).AsTask().WaitAsync(s_patience);
        }
    }

    private static async Task WaitUntilAsync(Func<bool> condition)
    {
        using CancellationTokenSource deadline = new(s_patience);
        while (!condition())
        {
            deadline.Token.ThrowIfCancellationRequested();
            await Task.Yield();
        }
    }

    /// <summary>Takes reports on the thread that gives them.</summary>
    private sealed class Reports : IProgress<StorageCompactionProgress>
    {
        public List<StorageCompactionProgress> All { get; } = [];

        public bool Throws { get; init; }

        public void Report(StorageCompactionProgress value)
        {
            if (Throws)
                throw new NotSupportedException("This one does not want to know.");
            lock (All)
                All.Add(value);
        }
    }
}
