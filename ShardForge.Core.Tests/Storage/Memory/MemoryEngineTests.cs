using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;
using ShardForge.Testing;

namespace ShardForge.Tests.Storage.Memory;

/// <summary>What of the engine in memory is still there after a power cut, a kill, a failed file operation and damage.</summary>
internal sealed class MemoryEngineTests
{
    private const string Folder = "/data/engine";
    private static readonly string[] s_files = ["image", "redo"];

    [Test]
    public async Task After_a_power_cut_a_prefix_with_every_flushed_write_is_there([Range(1, 40)] int seed, [Values] bool log)
    {
        TestContext.Out.WriteLine($"seed {seed}");
        Random random = new(seed);
        FaultyFileSystem files = new();
        int written = 0, durable = 0;
        for (int life = 0; life < 4; life++)
        {
            IStorageEngine engine = await OpenAsync(files, log, redoBytesMax: 40_000);
            int found = await CountAsync(engine);
            Assert.That(found, Is.InRange(durable, written), $"life {life}");
            written = durable = found;
            for (int step = random.Next(30); step > 0; step--)
            {
                StorageDurability durability = random.Next(2) == 0 ? StorageDurability.Flushed : StorageDurability.Buffered;
                await engine.WriteAsync(Next(written++), durability);
                if (log && durability == StorageDurability.Flushed)
                    durable = written;
                if (random.Next(12) == 0)
                {
                    await engine.FlushAsync();
                    durable = written;
                }
            }

            files.PowerOff();
            await engine.DisposeAsync();
            files.PowerOn(random.Next());
        }
    }

    [Test]
    public async Task Whichever_file_operation_fails_nothing_acknowledged_is_lost_and_writes_end_with_a_reason([Values] bool log)
    {
        for (int n = 1; ; n++)
        {
            FaultyFileSystem files = new();
            int acknowledged = 0;
            files.FailAt(n);
            bool failed = false;
            try
            {
                await using IStorageEngine engine = await OpenAsync(files, log, redoBytesMax: 20_000);
                for (int number = 0; number < 10; number++)
                {
                    try
                    {
                        await engine.WriteAsync(Next(number), number % 3 == 0 ? StorageDurability.Buffered : StorageDurability.Flushed);
                        Assert.That(failed, Is.False, $"operation {n}: write {number} was taken after a failed one");
                        if (log && number % 3 != 0)
                            acknowledged = number + 1;
                        if (number == 5)
                        {
                            await engine.FlushAsync();
                            acknowledged = number + 1;
                        }
                    }
                    catch (ShardForgeException error)
                    {
                        Assert.That(error.IsTransient, Is.False);
                        failed = true;
                    }

                    Assert.That(await CountAsync(engine), Is.GreaterThanOrEqualTo(acknowledged), $"operation {n}: reads after write {number}");
                }
            }
            catch (IOException)
            {
                failed = true;
            }

            bool wasReached = files.OperationCount >= n;
            files.FailNothing();
            files.PowerCut(n);
            await using IStorageEngine reopened = await OpenAsync(files, log, redoBytesMax: 20_000);
            Assert.That(await CountAsync(reopened), Is.GreaterThanOrEqualTo(acknowledged), $"operation {n}: after the power cut");
            if (!wasReached)
            {
                Assert.That(n, Is.GreaterThan(20));
                return;
            }
        }
    }

    [Test]
    public async Task Buffered_writes_survive_the_end_of_the_process()
    {
        InMemoryFileSystem files = new();
        await using IStorageEngine engine = await OpenAsync(files, log: true);
        for (int number = 0; number < 20; number++)
            await engine.WriteAsync(Next(number), StorageDurability.Buffered);
        InMemoryFileSystem after = Copy(files);
        await using IStorageEngine reopened = await OpenAsync(after, log: true);
        Assert.That(await CountAsync(reopened), Is.EqualTo(20));
    }

    [Test]
    public async Task Torn_record_at_the_tail_is_dropped_and_the_log_goes_on_behind_the_one_before()
    {
        InMemoryFileSystem files = new();
        long whole;
        await using (IStorageEngine engine = await OpenAsync(files, log: true))
        {
            await engine.WriteAsync(Next(0), StorageDurability.Flushed);
            whole = Length(files, "redo");
            await engine.WriteAsync(Next(1), StorageDurability.Buffered);
        }

        long full = Length(files, "redo");
        for (long length = whole; length < full; length++)
        {
            InMemoryFileSystem torn = Copy(files);
            using (IFile file = torn.Open($"{Folder}/redo", FileOpenMode.ReadWrite))
                file.SetLength(length);
            await using (IStorageEngine engine = await OpenAsync(torn, log: true))
            {
                Assert.That(await CountAsync(engine), Is.EqualTo(1), $"cut at {length}");
                await engine.WriteAsync(Next(1), StorageDurability.Flushed);
            }

            await using IStorageEngine reopened = await OpenAsync(torn, log: true);
            Assert.That(await CountAsync(reopened), Is.EqualTo(2), $"cut at {length}, after another write");
        }
    }

    [Test]
    public async Task Every_damaged_byte_of_what_was_promised_is_reported()
    {
        InMemoryFileSystem files = new();
        long promised = 0;
        await using (IStorageEngine engine = await OpenAsync(files, log: true))
        {
            await engine.WriteAsync(Next(0), StorageDurability.Flushed);
            await engine.FlushAsync();
            for (int number = 1; number < 4; number++)
            {
                long before = Length(files, "redo");
                await engine.WriteAsync(Next(number), StorageDurability.Flushed);
                promised = number < 3 ? Length(files, "redo") : before;
            }
        }

        foreach (string name in s_files)
        {
            long bytes = name == "redo" ? promised : Length(files, name);
            for (long at = 0; at < bytes; at += at % 4096 < 120 ? 1 : 131)     // behind the records are zeros
            {
                InMemoryFileSystem damaged = Copy(files);
                Flip(damaged, name, at);
                CorruptionException? error = Assert.ThrowsAsync<CorruptionException>(async () => await (await OpenAsync(damaged, log: true)).DisposeAsync(), $"{name}, byte {at}");
                Assert.That(error!.Path, Does.EndWith(name));
            }
        }
    }

    [Test]
    public async Task A_missing_file_is_reported([Values("image", "redo")] string name)
    {
        InMemoryFileSystem files = new();
        await using (IStorageEngine engine = await OpenAsync(files, log: true))
            await engine.WriteAsync(Next(0), StorageDurability.Flushed);
        files.Delete($"{Folder}/{name}");
        Assert.ThrowsAsync<CorruptionException>(async () => await (await OpenAsync(files, log: true)).DisposeAsync());
    }

    [Test]
    public async Task Opened_alone_and_inside_a_node_by_turns_it_keeps_what_was_durable()
    {
        InMemoryFileSystem files = new();
        int written = 0;
        for (int round = 0; round < 6; round++)
        {
            bool log = round % 2 == 0;
            await using IStorageEngine engine = await OpenAsync(files, log);
            Assert.That(await CountAsync(engine), Is.EqualTo(written), $"round {round}");
            await engine.WriteAsync(Next(written++), StorageDurability.Flushed);
            if (!log)
                await engine.FlushAsync();
            if (!log && round == 3)
                await engine.WriteAsync(Next(written), StorageDurability.Flushed);
        }
    }

    [Test]
    public async Task A_long_log_is_replaced_by_an_image()
    {
        InMemoryFileSystem files = new();
        await using (IStorageEngine engine = await OpenAsync(files, log: true, redoBytesMax: 6000))
        {
            for (int number = 0; number < 200; number++)
                await engine.WriteAsync(Next(number), StorageDurability.Buffered);
            Assert.That(Length(files, "redo"), Is.LessThan(20_000));
            Assert.That(engine.GetStatistics().Flushes, Is.GreaterThan(0));
        }

        await using IStorageEngine reopened = await OpenAsync(files, log: true);
        Assert.That(await CountAsync(reopened), Is.EqualTo(200));
    }

    private static async Task<IStorageEngine> OpenAsync(IFileSystem files, bool log, long redoBytesMax = 1 << 20) =>
        await StorageEngines.InMemory(new MemoryOptions { RedoLogBytesMax = redoBytesMax })
            .OpenAsync(new StorageEngineContext { Directory = Folder, FileSystem = files, WriteAheadLog = log });

    /// <summary>Write n puts key n and removes a filler, so that a state that is no prefix has a hole.</summary>
    private static StorageBatch Next(int number)
    {
        StorageBatch batch = new();
        batch.Put(BitConverter.GetBytes(number), new byte[30]);
        return batch;
    }

    /// <summary>How many writes are there; they must be the first ones.</summary>
    private static async Task<int> CountAsync(IStorageEngine engine)
    {
        int count = 0;
        while (await engine.GetAsync(BitConverter.GetBytes(count)) is not null)
            count++;
        Assert.That(engine.GetStatistics().KeyCountEstimate, Is.EqualTo(count), "a write is there without one before it");
        return count;
    }

    private static long Length(IFileSystem files, string name)
    {
        using IFile file = files.Open($"{Folder}/{name}", FileOpenMode.Read);
        return file.Length;
    }

    private static void Flip(IFileSystem files, string name, long at)
    {
        using IFile file = files.Open($"{Folder}/{name}", FileOpenMode.ReadWrite);
        byte[] one = new byte[1];
        file.Read(one, at);
        one[0] ^= 0x04;
        file.Write(one, at);
    }

    private static InMemoryFileSystem Copy(IFileSystem files)
    {
        InMemoryFileSystem copy = new();
        copy.CreateDirectory(Folder);
        foreach (string path in files.ListFiles(Folder))
        {
            using IFile source = files.Open(path, FileOpenMode.Read), target = copy.Open(path, FileOpenMode.CreateNew);
            byte[] bytes = new byte[source.Length];
            source.Read(bytes, 0);
            target.Write(bytes, 0);
        }

        return copy;
    }
}
