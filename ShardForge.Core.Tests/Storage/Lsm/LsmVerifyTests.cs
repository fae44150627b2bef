using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>What verification reports, with file and offset, and what a repair saves.</summary>
internal sealed class LsmVerifyTests
{
    private const string Root = "/db", Target = "/repaired";
    private const int Keys = 400;

    [Test]
    public async Task A_whole_directory_is_intact_and_every_entry_is_counted([Values] bool closed)
    {
        InMemoryFileSystem files = await BuildAsync(closed);
        StorageVerification found = await StorageEngines.VerifyAsync(Context(files));
        Assert.That(found.IsIntact, string.Join('\n', found.Damage));
        Assert.That(found.Entries, Is.GreaterThanOrEqualTo(Keys));
        Assert.That(found.Bytes, Is.GreaterThan(10_000));
        Assert.That(found.Files, Is.GreaterThan(3));
    }

    [Test]
    public async Task Every_damaged_block_is_reported_with_its_file_and_offset()
    {
        InMemoryFileSystem files = await BuildAsync(closed: true);
        string[] tables = [.. files.ListFiles(Root).Where(path => path.EndsWith(".sst", StringComparison.Ordinal)).Order()];
        Change(files, tables[0], 40);
        Change(files, tables[1], 30);
        StorageVerification found = await StorageEngines.VerifyAsync(Context(files));
        Assert.That(found.Damage.Select(damage => damage.Path), Is.EquivalentTo(new[] { tables[0], tables[1] }));
        Assert.That(found.Damage.Select(damage => damage.Offset), Is.All.EqualTo(16), "both in the first block, which begins behind the header");
        Assert.That(found.Damage[0].Reason, Does.Contain("CRC-32C"));
    }

    [TestCase("CURRENT")]
    [TestCase("MANIFEST")]
    [TestCase("ENGINE")]
    [TestCase(".sst", 40)]
    [TestCase(".sst", -20)]
    [TestCase(".sst", -70)]
    [TestCase(".log", 60)]
    public async Task What_is_whole_is_saved_and_opens(string file, int at = 36)
    {
        InMemoryFileSystem files = await BuildAsync(closed: true);
        string path = files.ListFiles(Root).Where(path => path.Contains(file, StringComparison.Ordinal)).Order().First();
        Change(files, path, at);
        Assert.That((await StorageEngines.VerifyAsync(Context(files))).Damage.Select(damage => damage.Path), Does.Contain(path));
        StorageRepair repair = await StorageEngines.RepairAsync(Context(files), Target);
        Assert.That(repair.Damage, Is.Not.Empty);
        await using IStorageEngine engine = await TinyLsm.Factory.OpenAsync(Context(files) with { Directory = Target });
        int count = 0;
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        while (iterator.MoveNext())
        {
            count++;
            Assert.That(iterator.Value.ToArray(), Is.EqualTo(Value(BitConverter.ToInt32(iterator.Key))));
        }

        // A data block or the end of a log is lost; nothing else is.
        Assert.That(count, Is.GreaterThan(file is ".log" ? Keys - 100 : Keys - 10));
        if (file is not (".sst" or ".log"))
            Assert.That(count, Is.EqualTo(Keys));
        engine.GetStatistics();
    }

    [Test]
    public async Task Only_a_closed_directory_of_this_engine_is_looked_at()
    {
        InMemoryFileSystem files = new();
        Assert.ThrowsAsync<ConfigurationException>(async () => await StorageEngines.VerifyAsync(Context(files)));
        await using (await TinyLsm.Factory.OpenAsync(Context(files)))
            Assert.ThrowsAsync<ConfigurationException>(async () => await StorageEngines.VerifyAsync(Context(files)));
        await using (await StorageEngines.InMemory().OpenAsync(Context(files) with { Directory = "/other" })) { }
        ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(async () => await StorageEngines.RepairAsync(Context(files) with { Directory = "/other" }, Target));
        Assert.That(error!.Setting, Is.EqualTo("StorageEngine"));
        Assert.ThrowsAsync<ArgumentException>(async () => await StorageEngines.RepairAsync(Context(files), "/other"));
        Assert.That((await StorageEngines.VerifyAsync(Context(files))).IsIntact);
    }

    private static StorageEngineContext Context(IFileSystem files) => new() { Directory = Root, FileSystem = files };

    private static byte[] Value(int number) => [.. BitConverter.GetBytes(number * 7), .. new byte[100]];

    private static void Change(IFileSystem files, string path, int at)
    {
        using IFile file = files.Open(path, FileOpenMode.ReadWrite);
        byte[] one = new byte[1];
        long offset = at < 0 ? file.Length + at : at;
        file.Read(one, offset);
        one[0] ^= 0x55;
        file.Write(one, offset);
    }

    /// <summary>Tables in several levels, and a log with the last 50 keys.</summary>
    private static async Task<InMemoryFileSystem> BuildAsync(bool closed)
    {
        InMemoryFileSystem files = new();
        IStorageEngine engine = await TinyLsm.Factory.OpenAsync(Context(files));
        StorageBatch batch = new();
        for (int number = 0; number < Keys; number++)
        {
            if (number == Keys - 20)
                await engine.CompactAsync();
            batch.Clear();
            batch.Put(BitConverter.GetBytes(number), Value(number));
            await engine.WriteAsync(batch, StorageDurability.Buffered);
        }

        await engine.FlushAsync();
        if (closed)
        {
            await engine.DisposeAsync();
            return files;
        }

        // As a killed process leaves it, between two changes of the background.
        using CancellationTokenSource deadline = new(TimeSpan.FromSeconds(30));
        InMemoryFileSystem? copy;
        while ((copy = TryCopy(files)) is null)
        {
            deadline.Token.ThrowIfCancellationRequested();
            await Task.Yield();
        }

        await engine.DisposeAsync();
        return copy;
    }

    /// <summary>Null: a file came, went or grew meanwhile.</summary>
    private static InMemoryFileSystem? TryCopy(InMemoryFileSystem files)
    {
        InMemoryFileSystem copy = new();
        copy.CreateDirectory(Root);
        string[] paths = Paths();
        try
        {
            foreach (string path in paths)
            {
                using IFile from = files.Open(path, FileOpenMode.Read);
                using IFile to = copy.Open(path, FileOpenMode.CreateNew);
                byte[] bytes = new byte[from.Length];
                from.Read(bytes, 0);
                to.Write(bytes, 0);
            }

            return Paths().SequenceEqual(paths) && paths.All(path => Length(files, path) == Length(copy, path)) ? copy : null;
        }
        catch (FileNotFoundException)
        {
            return null;
        }

        string[] Paths() => [.. files.ListFiles(Root).Where(path => !path.EndsWith("LOCK", StringComparison.Ordinal)).Order()];
    }

    private static long Length(IFileSystem files, string path)
    {
        using IFile file = files.Open(path, FileOpenMode.Read);
        return file.Length;
    }
}
