using Microsoft.Extensions.Time.Testing;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>Values that expire: for readers at their moment, for the disk with the next compaction.</summary>
[FixtureLifeCycle(LifeCycle.InstancePerTestCase)]
internal sealed class LsmTimeToLiveTests
{
    private static readonly LsmOptions s_options = TinyLsm.Options with { TimeToLive = TimeSpan.FromMinutes(1) };
    private readonly FakeTimeProvider _time = new();
    private readonly InMemoryFileSystem _files = new();

    [Test]
    public async Task A_value_is_gone_once_its_time_is_over_and_a_new_put_gives_it_a_new_one()
    {
        await using IStorageEngine engine = await OpenAsync();
        await engine.PutAsync(Key(1), new byte[3]);
        await engine.PutAsync(Key(2), new byte[3]);
        _time.Advance(TimeSpan.FromSeconds(40));
        await engine.PutAsync(Key(2), new byte[4]);
        Assert.That(await engine.GetAsync(Key(1)), Is.EqualTo(new byte[3]));
        _time.Advance(TimeSpan.FromSeconds(30));
        Assert.That(await engine.GetAsync(Key(1)), Is.Null);
        Assert.That(await engine.GetAsync(Key(2)), Is.EqualTo(new byte[4]));
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        Assert.That(iterator.MoveNext() && iterator.Key.SequenceEqual(Key(2)) && iterator.Value.Length == 4);
        Assert.That(iterator.MoveNext(), Is.False);
        Assert.That(iterator.SeekFirst() && iterator.SeekLast() && !iterator.MovePrevious());
    }

    [Test]
    public async Task A_snapshot_and_a_transaction_keep_what_lived_when_they_began_also_past_a_compaction()
    {
        await using IStorageEngine engine = await OpenAsync();
        await engine.PutAsync(Key(1), new byte[3]);
        using IStorageSnapshot snapshot = engine.CreateSnapshot();
        await using IStorageTransaction transaction = await engine.BeginTransactionAsync();
        _time.Advance(TimeSpan.FromHours(1));
        await engine.CompactAsync();
        Assert.That(await engine.GetManyAsync([Key(1)], snapshot), Is.EqualTo(new byte[]?[] { new byte[3] }));
        Assert.That(await transaction.GetAsync(Key(1)), Is.EqualTo(new byte[3]));
        Assert.That(await engine.GetAsync(Key(1)), Is.Null);
        await transaction.PutAsync(Key(1), new byte[9]);
        await transaction.CommitAsync();
        Assert.That(await engine.GetAsync(Key(1)), Is.EqualTo(new byte[9]));
    }

    [Test]
    public async Task Compactions_give_the_space_of_expired_values_back()
    {
        await using IStorageEngine engine = await OpenAsync();
        for (int number = 0; number < 200; number++)
            await engine.PutAsync(Key(number), new byte[100]);
        await engine.CompactAsync();
        Assert.That(engine.GetStatistics().Levels.Sum(level => level.Entries), Is.EqualTo(200));
        _time.Advance(TimeSpan.FromHours(1));
        await engine.CompactAsync();
        Assert.That(engine.GetStatistics().Levels.Sum(level => level.Entries), Is.Zero);
    }

    [Test]
    public async Task Tables_from_outside_live_from_their_writing_on()
    {
        await using ILsmEngine engine = (ILsmEngine)await OpenAsync();
        _files.CreateDirectory("/out");
        using (LsmTableWriter writer = new("/out/1.sst", s_options, _files, timeProvider: _time))
        {
            writer.Put(Key(1), new byte[3]);
            writer.Finish();
        }

        using (LsmTableWriter writer = new("/out/2.sst", TinyLsm.Options, _files))
        {
            writer.Put(Key(2), new byte[3]);
            writer.Finish();
        }

        await engine.IngestAsync(["/out/1.sst"]);
        Assert.That(await engine.GetAsync(Key(1)), Is.EqualTo(new byte[3]));
        _time.Advance(TimeSpan.FromMinutes(2));
        Assert.That(await engine.GetAsync(Key(1)), Is.Null);
        Assert.ThrowsAsync<ArgumentException>(async () => await engine.IngestAsync(["/out/2.sst"]));
    }

    [Test]
    public async Task A_directory_keeps_to_what_it_was_made_with_and_a_node_refuses_it()
    {
        await using (IStorageEngine engine = await OpenAsync())
            await engine.PutAsync(Key(1), new byte[3]);
        ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(async () => await TinyLsm.Factory.OpenAsync(Context));
        Assert.That(error!.Setting, Is.EqualTo("StorageEngine"));
        Assert.That((await StorageEngines.VerifyAsync(Context)).IsIntact);
        await StorageEngines.RepairAsync(Context, "/repaired");
        await using (IStorageEngine engine = await StorageEngines.Lsm(s_options).OpenAsync(Context with { Directory = "/repaired" }))
            Assert.That(await engine.GetAsync(Key(1)), Is.EqualTo(new byte[3]));
        error = Assert.ThrowsAsync<ConfigurationException>(async () => await StorageEngines.Lsm(s_options).OpenAsync(Context with { VersionSuffixBytes = 8, WriteAheadLog = false }));
        Assert.That(error!.Setting, Is.EqualTo("LsmOptions.TimeToLive"));
        Assert.Throws<ConfigurationException>(() => StorageEngines.Lsm(new LsmOptions { TimeToLive = TimeSpan.Zero }));
    }

    private StorageEngineContext Context => new() { Directory = "/db", FileSystem = _files, TimeProvider = _time };

    private static byte[] Key(int number) => [(byte)(number >> 8), (byte)number];

    private ValueTask<IStorageEngine> OpenAsync() => StorageEngines.Lsm(s_options).OpenAsync(Context);
}
