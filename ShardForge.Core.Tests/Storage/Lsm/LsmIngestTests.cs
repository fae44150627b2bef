using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>Sorted tables from outside: one write of all their entries, whatever is there already.</summary>
[FixtureLifeCycle(LifeCycle.InstancePerTestCase)]
internal sealed class LsmIngestTests
{
    private readonly InMemoryFileSystem _files = new();
    private int _tableCount;

    public LsmIngestTests() => _files.CreateDirectory("/out");

    [Test]
    public async Task Tables_go_to_the_deepest_level_where_they_overlap_nothing_and_are_not_written_again()
    {
        await using ILsmEngine engine = await OpenAsync();
        await engine.IngestAsync([Table(0, 100, "one"), Table(200, 300, "one")]);
        Assert.That(engine.GetStatistics().Levels[^1].Files, Is.EqualTo(2));
        await engine.IngestAsync([Table(100, 200, "two")]);
        Assert.That(engine.GetStatistics().Levels[^1].Files, Is.EqualTo(3));
        Assert.That(engine.GetStatistics().DiskBytesWritten, Is.LessThan(4096), "manifest and log only");
        await CheckAsync(engine, number => number is >= 100 and < 200 ? "two" : "one", 300);
    }

    [Test]
    public async Task What_is_taken_in_is_newer_than_what_was_written_before_and_older_than_what_comes_after([Values] bool log)
    {
        await using (ILsmEngine engine = await OpenAsync(log))
        {
            for (int number = 0; number < 300; number += 2)
                await engine.WriteAsync(Batch(number, "before"), StorageDurability.Buffered);
            using IStorageSnapshot snapshot = engine.CreateSnapshot();
            await engine.IngestAsync([Table(0, 300, "in")]);
            await engine.WriteAsync(Batch(7, "after"), StorageDurability.Buffered);
            await CheckAsync(engine, number => number == 7 ? "after" : "in", 300);
            Assert.That(await engine.GetManyAsync([Key(1), Key(2)], snapshot), Is.EqualTo(new byte[]?[] { null, "before"u8.ToArray() }));
            await engine.FlushAsync();
        }

        await using (ILsmEngine engine = await OpenAsync(log))
        {
            await CheckAsync(engine, number => number == 7 ? "after" : "in", 300);
            await engine.CompactAsync();
            await CheckAsync(engine, number => number == 7 ? "after" : "in", 300);
        }

        Assert.That((await StorageEngines.VerifyAsync(Context(log))).IsIntact);
    }

    [Test]
    public async Task An_open_transaction_that_writes_one_of_the_keys_conflicts()
    {
        await using ILsmEngine engine = await OpenAsync();
        await using IStorageTransaction transaction = await engine.BeginTransactionAsync();
        await transaction.PutAsync(Key(5), new byte[1]);
        await engine.IngestAsync([Table(0, 10, "in")]);
        Assert.That(await transaction.GetAsync(Key(4)), Is.Null);
        Assert.ThrowsAsync<TransactionConflictException>(async () => await transaction.CommitAsync());
    }

    [Test]
    public async Task Deletes_in_a_table_delete()
    {
        await using ILsmEngine engine = await OpenAsync();
        await engine.PutAsync(Key(1), new byte[1]);
        using (LsmTableWriter writer = new("/out/deletes.sst", TinyLsm.Options, _files))
        {
            writer.Delete(Key(1));
            writer.Put(Key(2), new byte[2]);
            writer.Finish();
        }

        await engine.IngestAsync(["/out/deletes.sst"]);
        Assert.That(await engine.GetAsync(Key(1)), Is.Null);
        Assert.That(await engine.GetAsync(Key(2)), Is.Not.Null);
    }

    [Test]
    public async Task Tables_that_overlap_or_are_damaged_or_an_engines_own_are_refused_and_nothing_is_written()
    {
        await using ILsmEngine engine = await OpenAsync();
        await engine.PutAsync(Key(1), new byte[1]);
        await engine.CompactAsync();
        string own = _files.ListFiles("/db").First(path => path.EndsWith(".sst", StringComparison.Ordinal));
        string good = Table(0, 10, "in"), damaged = Table(20, 30, "in");
        using (IFile file = _files.Open(damaged, FileOpenMode.ReadWrite))
            file.Write([0xFF, 0xFE, 0xFD], 30);
        Assert.ThrowsAsync<ArgumentException>(async () => await engine.IngestAsync([good, Table(9, 12, "in")]));
        Assert.ThrowsAsync<ArgumentException>(async () => await engine.IngestAsync([good, own]));
        Assert.ThrowsAsync<ArgumentException>(async () => await engine.IngestAsync(["/out/missing.sst"]));
        Assert.ThrowsAsync<CorruptionException>(async () => await engine.IngestAsync([good, damaged]));
        Assert.That(await engine.GetAsync(Key(5)), Is.Null);
        await engine.IngestAsync([good]);
        Assert.That(await engine.GetAsync(Key(5)), Is.Not.Null);
    }

    [Test]
    public void A_table_takes_keys_in_ascending_order_only_and_is_removed_if_it_is_not_finished()
    {
        using (LsmTableWriter writer = new("/out/order.sst", null, _files))
        {
            writer.Put([2], []);
            Assert.Throws<ArgumentException>(() => writer.Put([2], []));
            Assert.Throws<ArgumentException>(() => writer.Delete([1]));
            Assert.Throws<LimitExceededException>(() => writer.Put(new byte[70_000], []));
            Assert.That(writer.Count, Is.EqualTo(1));
        }

        Assert.That(_files.FileExists("/out/order.sst"), Is.False);
    }

    private static byte[] Key(int number) => [(byte)(number >> 8), (byte)number];

    private static StorageBatch Batch(int number, string value)
    {
        StorageBatch batch = new();
        batch.Put(Key(number), System.Text.Encoding.UTF8.GetBytes(value));
        return batch;
    }

    private static async Task CheckAsync(IStorageEngine engine, Func<int, string> expected, int count)
    {
        ReadOnlyMemory<byte>[] keys = [.. Enumerable.Range(0, count).Select(number => (ReadOnlyMemory<byte>)Key(number))];
        byte[]?[] values = await engine.GetManyAsync(keys);
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        for (int number = 0; number < count; number++)
        {
            Assert.That(values[number] is { } value ? System.Text.Encoding.UTF8.GetString(value) : null, Is.EqualTo(expected(number)), $"key {number}");
            Assert.That(iterator.MoveNext() && iterator.Key.SequenceEqual(Key(number)) && iterator.Value.SequenceEqual(values[number]), $"key {number} in a scan");
        }

        Assert.That(iterator.MoveNext(), Is.False);
    }

    private string Table(int first, int behind, string value)
    {
        string path = $"/out/{++_tableCount}.sst";
        using LsmTableWriter writer = new(path, TinyLsm.Options, _files);
        for (int number = first; number < behind; number++)
            writer.Put(Key(number), System.Text.Encoding.UTF8.GetBytes(value));
        writer.Finish();
        return path;
    }

    private StorageEngineContext Context(bool log) => new() { Directory = "/db", FileSystem = _files, WriteAheadLog = log };

    private async Task<ILsmEngine> OpenAsync(bool log = true) => (ILsmEngine)await TinyLsm.Factory.OpenAsync(Context(log));
}
