using Microsoft.Data.Sqlite;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Sqlite;

internal sealed class SqliteEngineTests
{
    private const int Count = 400;
    private string _root = "";

    [SetUp]
    public void CreateFolder() => _root = Directory.CreateTempSubdirectory("shardforge-sqlite-tests-").FullName;

    [TearDown]
    public void RemoveFolder() => Directory.Delete(_root, recursive: true);

    private string Folder => Path.Combine(_root, "engine");

    private string DatabasePath => Path.Combine(Folder, "data.db");

    [TestCase(10)]
    [TestCase(2000)]
    public async Task Statistics_count_bytes_to_files_and_estimate_keys(int count)
    {
        await using IStorageEngine engine = await StorageEngines.Sqlite().OpenAsync(Folder);
        StorageBatch batch = new();
        for (int number = 0; number < count; number++)
            batch.Put(BitConverter.GetBytes(number), new byte[100]);
        await engine.WriteAsync(batch);
        StorageStatistics statistics = engine.GetStatistics();
        Assert.That(statistics.DiskBytesWritten, Is.GreaterThan(count * 100));
        Assert.That(statistics.KeyCountEstimate, count < 64 ? Is.EqualTo(count) : Is.InRange(count / 2, 3 * count));
    }

    [Test]
    public async Task A_damaged_byte_gives_the_right_answer_or_an_error_never_a_wrong_one([Values(1, 2)] int seed)
    {
        TestContext.Out.WriteLine($"seed {seed}");
        await FillAsync();
        byte[] whole = await File.ReadAllBytesAsync(DatabasePath);
        Random random = new(seed);
        int reported = 0;
        for (int round = 0; round < 30; round++)
        {
            long at = random.Next(4) == 0 ? (random.Next(whole.Length / 4096) * 4096) + random.Next(120) : random.Next(whole.Length);
            byte[] damaged = [.. whole];
            damaged[at] ^= (byte)(1 << random.Next(8));
            await File.WriteAllBytesAsync(DatabasePath, damaged);
            try
            {
                await using IStorageEngine engine = await StorageEngines.Sqlite().OpenAsync(Folder);
                await AssertWholeAsync(engine, $"byte {at}");
            }
            catch (CorruptionException error)
            {
                Assert.That(error.Path, Does.EndWith("data.db"));
                reported++;
            }
            catch (ConfigurationException)
            {
                Assert.That(at, Is.LessThan(100), "only the header says whose database it is");
            }
        }

        Assert.That(reported, Is.GreaterThan(10));
    }

    [Test]
    public async Task A_damaged_row_is_noticed_by_the_read_when_the_open_did_not_check([Values(1, 2)] int seed)
    {
        TestContext.Out.WriteLine($"seed {seed}");
        await FillAsync();
        byte[] whole = await File.ReadAllBytesAsync(DatabasePath);
        Random random = new(seed);
        int noticed = 0;
        for (int round = 0; round < 20; round++)
        {
            // A row, or a copy of one that was left in the free space of a page: then there is nothing to notice.
            byte[] damaged = [.. whole];
            int at = whole.AsSpan().IndexOf(Key(random.Next(Count))) + random.Next(8);
            damaged[at] ^= (byte)(1 << random.Next(8));
            await File.WriteAllBytesAsync(DatabasePath, damaged);
            await using IStorageEngine engine = await StorageEngines.Sqlite(new SqliteOptions { VerifyOnOpenBytesMax = 0 }).OpenAsync(Folder);
            int errors = 0;
            for (int number = 0; number < Count; number++)
            {
                try
                {
                    Assert.That(await engine.GetAsync(Key(number)), Is.EqualTo(Value(number)), $"key {number}, byte {at}");
                    Assert.That(await engine.GetAsync(Key(-number - 1)), Is.Null);
                }
                catch (CorruptionException)
                {
                    errors++;
                }
            }

            if (errors == 0)
                Assert.That(Walk(engine), Is.EqualTo(Count), $"byte {at}");
            else
                Assert.Throws<CorruptionException>(() => Walk(engine), $"byte {at}");
            noticed += Math.Min(errors, 1);
        }

        Assert.That(noticed, Is.GreaterThan(5));
    }

    [Test]
    public async Task A_missing_an_empty_and_a_foreign_file_are_reported()
    {
        await FillAsync();
        await File.WriteAllBytesAsync(DatabasePath, []);
        Assert.That(Assert.ThrowsAsync<CorruptionException>(OpenAndCloseAsync)!.Path, Does.EndWith("data.db"));
        await File.WriteAllBytesAsync(DatabasePath, new byte[8192]);
        Assert.ThrowsAsync<CorruptionException>(OpenAndCloseAsync);
        File.Delete(DatabasePath);
        Assert.ThrowsAsync<CorruptionException>(OpenAndCloseAsync);
        Assert.That(File.Exists(DatabasePath), Is.False);
    }

    [Test]
    public async Task Another_applications_database_and_a_newer_format_are_refused([Values("application_id", "user_version")] string mark)
    {
        await FillAsync();
        using (SqliteConnection connection = new($"Data Source={DatabasePath};Pooling=False"))
        {
            connection.Open();
            using SqliteCommand newer = new("PRAGMA user_version = 2", connection), foreign = new("PRAGMA application_id = 7", connection);
            (mark == "user_version" ? newer : foreign).ExecuteNonQuery();
        }

        ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(OpenAndCloseAsync);
        Assert.That(error!.Setting, Is.EqualTo(mark == "user_version" ? "DataDirectory" : "StorageEngine"));
    }

    [Test]
    public async Task Buffered_writes_survive_the_end_of_the_process()
    {
        await using IStorageEngine engine = await StorageEngines.Sqlite().OpenAsync(Folder);
        for (int number = 0; number < Count; number++)
            await engine.WriteAsync(Put(number), StorageDurability.Buffered);
        string after = CopyOfOpenFolder("after");
        await using IStorageEngine reopened = await StorageEngines.Sqlite().OpenAsync(after);
        await AssertWholeAsync(reopened, "after the kill");
    }

    [Test]
    public async Task Damage_in_what_was_flushed_of_the_write_ahead_file_is_reported()
    {
        await using IStorageEngine engine = await StorageEngines.Sqlite().OpenAsync(Folder);
        for (int number = 0; number < 4; number++)
            await engine.WriteAsync(Put(number), StorageDurability.Flushed);
        string whole = CopyOfOpenFolder("whole");
        long flushedBytes = new FileInfo(Path.Combine(whole, "data.db-wal")).Length;
        await engine.WriteAsync(Put(4), StorageDurability.Buffered);
        byte[] log = await File.ReadAllBytesAsync(CopyOfOpenFolder("later") + "/data.db-wal");
        Assert.That(log, Has.Length.GreaterThan(flushedBytes));
        for (long at = 0; at < log.Length; at += 379)
        {
            string after = CopyOfOpenFolder($"after-{at}");
            byte[] damaged = [.. log];
            damaged[at] ^= 0x20;
            await File.WriteAllBytesAsync(Path.Combine(after, "data.db-wal"), damaged);
            if (at < flushedBytes)
            {
                Assert.That(Assert.ThrowsAsync<CorruptionException>(() => OpenAndCloseAsync(after), $"byte {at}")!.Path, Does.EndWith("data.db-wal"));
                continue;
            }

            await using IStorageEngine reopened = await StorageEngines.Sqlite().OpenAsync(after);
            Assert.That(await reopened.GetAsync(Key(3)), Is.EqualTo(Value(3)), $"byte {at}");
            Assert.That(await reopened.GetAsync(Key(4)), Is.Null, $"byte {at}: a torn end is dropped");
        }

        File.Delete(Path.Combine(whole, "data.db-wal"));
        Assert.ThrowsAsync<CorruptionException>(() => OpenAndCloseAsync(whole));
    }

    [Test]
    public async Task After_a_kill_at_any_moment_the_promise_fits_the_write_ahead_file()
    {
        await using IStorageEngine engine = await StorageEngines.Sqlite().OpenAsync(Folder);
        for (int round = 0; round < 40; round++)
        {
            StorageBatch batch = new();
            batch.Put(Key(round), new byte[300_000]);
            await engine.WriteAsync(batch, round % 3 == 0 ? StorageDurability.Buffered : StorageDurability.Flushed);
            if (round % 10 == 4)
                await engine.CompactAsync();
            if (round % 4 != 0)
                continue;
            string after = CopyOfOpenFolder($"after-{round}");
            for (int life = 0; life < 2; life++)
            {
                await using IStorageEngine reopened = await StorageEngines.Sqlite(new SqliteOptions { VerifyOnOpenBytesMax = 0 }).OpenAsync(after);
                Assert.That(await reopened.GetAsync(Key(round)), Has.Length.EqualTo(300_000));
            }

            Directory.Delete(after, recursive: true);
        }
    }

    [Test]
    public async Task A_full_database_refuses_writes_transiently_and_goes_on()
    {
        await using IStorageEngine engine = await StorageEngines.Sqlite(new SqliteOptions { DatabaseBytesMax = 1024 * 1024 }).OpenAsync(Folder);
        int written = 0;
        ShardForgeException? error = null;
        while (error is null)
        {
            StorageBatch batch = new();
            batch.Put(Key(written), new byte[50_000]);
            try
            {
                await engine.WriteAsync(batch, StorageDurability.Buffered);
                written++;
                Assert.That(written, Is.LessThan(100));
            }
            catch (ShardForgeException full)
            {
                error = full;
            }
        }

        Assert.That(error.IsTransient, Is.True, error.Message);
        Assert.That(await engine.GetAsync(Key(written)), Is.Null);
        for (int number = 0; number < written; number++)
            Assert.That(await engine.GetAsync(Key(number)), Has.Length.EqualTo(50_000));
        for (int number = 0; number < 5; number++)
            await engine.DeleteAsync(Key(number));
        await engine.PutAsync(Key(written), new byte[50_000]);
        Assert.That(await engine.GetAsync(Key(written)), Has.Length.EqualTo(50_000));
    }

    [Test]
    public async Task One_reader_too_many_is_refused_and_the_next_one_is_not()
    {
        await using IStorageEngine engine = await StorageEngines.Sqlite(new SqliteOptions { ReadersMax = 4 }).OpenAsync(Folder);
        await engine.WriteAsync(Put(1));
        List<IStorageSnapshot> snapshots = [.. Enumerable.Range(0, 4).Select(_ => engine.CreateSnapshot())];
        Assert.Throws<OverloadedException>(() => engine.CreateSnapshot().Dispose());
        snapshots[0].Dispose();
        Assert.That(await engine.GetAsync(Key(1)), Is.EqualTo(Value(1)));
        snapshots.ForEach(static snapshot => snapshot.Dispose());
    }

    [Test]
    public async Task On_files_that_sqlite_does_not_see_it_keeps_what_was_flushed()
    {
        InMemoryFileSystem files = new();
        StorageEngineContext context = new() { Directory = "/memory/engine", FileSystem = files, WriteAheadLog = false };
        await using (IStorageEngine engine = await StorageEngines.Sqlite().OpenAsync(context))
        {
            for (int number = 0; number < Count; number++)
                await engine.WriteAsync(Put(number), StorageDurability.Buffered);
            await engine.FlushAsync();
            await engine.CheckpointAsync("/memory/copy");
        }

        Assert.That(Directory.Exists("/memory/engine"), Is.False);
        foreach (string directory in new[] { "/memory/engine", "/memory/copy" })
        {
            await using IStorageEngine reopened = await StorageEngines.Sqlite().OpenAsync(context with { Directory = directory });
            await AssertWholeAsync(reopened, directory);
        }
    }

    [Test]
    public async Task Engines_refuse_each_others_directories()
    {
        await FillAsync();
        ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(async () => await StorageEngines.InMemory().OpenAsync(Folder));
        Assert.That(error!.Setting, Is.EqualTo("StorageEngine"));
        await OpenAndCloseAsync();
    }

    [Test]
    public async Task A_creation_that_was_cut_short_begins_again()
    {
        Directory.CreateDirectory(Folder);
        await File.WriteAllBytesAsync(DatabasePath, [1, 2, 3]);
        await FillAsync();
        await using IStorageEngine engine = await StorageEngines.Sqlite().OpenAsync(Folder);
        await AssertWholeAsync(engine, "after the second creation");
    }

    private Task OpenAndCloseAsync() => OpenAndCloseAsync(Folder);

    private static async Task OpenAndCloseAsync(string folder) => await (await StorageEngines.Sqlite().OpenAsync(folder)).DisposeAsync();

    /// <summary>What the operating system has of the open engine's files: what is left after a kill.</summary>
    private string CopyOfOpenFolder(string name)
    {
        string copy = Path.Combine(_root, name);
        Directory.CreateDirectory(copy);
        foreach (string path in Directory.GetFiles(Folder).Where(p => !p.EndsWith("LOCK", StringComparison.Ordinal) && !p.EndsWith("-shm", StringComparison.Ordinal)))
            File.Copy(path, Path.Combine(copy, Path.GetFileName(path)));
        return copy;
    }

    private async Task FillAsync()
    {
        await using IStorageEngine engine = await StorageEngines.Sqlite().OpenAsync(Folder);
        StorageBatch batch = new();
        for (int number = 0; number < Count; number++)
            batch.Put(Key(number), Value(number));
        await engine.WriteAsync(batch);
    }

    private static async Task AssertWholeAsync(IStorageEngine engine, string when)
    {
        for (int number = 0; number < Count; number++)
            Assert.That(await engine.GetAsync(Key(number)), Is.EqualTo(Value(number)), $"{when}: key {number}");
        Assert.That(Walk(engine), Is.EqualTo(Count), when);
    }

    private static int Walk(IStorageEngine engine)
    {
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        int count = 0;
        while (iterator.MoveNext())
            count++;
        return count;
    }

    private static StorageBatch Put(int number)
    {
        StorageBatch batch = new();
        batch.Put(Key(number), Value(number));
        return batch;
    }

    private static byte[] Key(int number) => [(byte)'k', .. BitConverter.GetBytes(number * 0x9E3779B1L)];

    private static byte[] Value(int number) => [.. Key(number), .. new byte[100], (byte)number];
}
