using System.Buffers;
using System.Buffers.Binary;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>What an owner's filter may drop: versions below a limit that is durable, under no snapshot that is older than the limit.</summary>
internal sealed class LsmCompactionFilterTests
{
    private static readonly byte[] s_limitKey = [0, 0, 0, 0, 0, 0, 0, 0, 0];

    [Test]
    public async Task R28_versions_below_a_durable_limit_go_and_the_newest_at_or_below_it_stays()
    {
        await using IStorageEngine engine = await OpenAsync();
        for (ulong version = 1; version <= 40; version++)
            await PutAsync(engine, "a", version);
        await PutAsync(engine, "b", 3);
        await SetLimitAsync(engine, 30);
        await engine.CompactAsync();
        Assert.That(Versions(engine, "a"), Is.EqualTo(Enumerable.Range(30, 11).Select(version => (ulong)version)));
        Assert.That(Versions(engine, "b"), Is.EqualTo(new ulong[] { 3 }));
    }

    [Test]
    public async Task R28_a_snapshot_older_than_the_limit_keeps_what_it_sees_until_it_is_disposed()
    {
        await using IStorageEngine engine = await OpenAsync();
        for (ulong version = 1; version <= 40; version++)
            await PutAsync(engine, "a", version);
        using (IStorageSnapshot snapshot = engine.CreateSnapshot())
        {
            await SetLimitAsync(engine, 30);
            await engine.CompactAsync();
            Assert.That(Versions(engine, "a", snapshot), Has.Count.EqualTo(40));
        }

        using (engine.CreateSnapshot())
            await engine.CompactAsync();
        Assert.That(Versions(engine, "a"), Has.Count.EqualTo(11));
    }

    [Test]
    public async Task A_dropped_entry_lets_no_older_value_of_its_key_come_to_light()
    {
        DropValues filter = new();
        await using IStorageEngine engine = await OpenAsync(filter);
        for (int round = 0; round < 30; round++)
        {
            for (int number = 0; number < 60; number++)
                await engine.WriteAsync(Batch(Key("k" + number, 1), round % 2 == 0 ? "keep" : "drop"), StorageDurability.Buffered);
        }

        await engine.CompactAsync();
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        Assert.That(iterator.MoveNext(), Is.False);
        Assert.That(filter.Count, Is.GreaterThan(0));
    }

    private static ValueTask<IStorageEngine> OpenAsync(ICompactionFilterSource? filter = null) => TinyLsm.Factory.OpenAsync(new StorageEngineContext
    {
        Directory = "/db",
        FileSystem = new InMemoryFileSystem(),
        VersionSuffixBytes = 8,
        WriteAheadLog = false,
        CompactionFilter = filter ?? new VersionLimit(),
    });

    private static async Task SetLimitAsync(IStorageEngine engine, ulong limit)
    {
        StorageBatch batch = new();
        byte[] value = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(value, limit);
        batch.Put(s_limitKey, value);
        await engine.WriteAsync(batch);
        await engine.FlushAsync();
    }

    private static ValueTask PutAsync(IStorageEngine engine, string key, ulong version) =>
        engine.WriteAsync(Batch(Key(key, version), new string('v', 200)), StorageDurability.Buffered);

    private static StorageBatch Batch(byte[] key, string value)
    {
        StorageBatch batch = new();
        batch.Put(key, System.Text.Encoding.UTF8.GetBytes(value));
        return batch;
    }

    private static byte[] Key(string key, ulong version)
    {
        byte[] encoded = [1, .. System.Text.Encoding.UTF8.GetBytes(key), 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        BinaryPrimitives.WriteUInt64BigEndian(encoded.AsSpan(encoded.Length - 8), ~version);
        return encoded;
    }

    private static List<ulong> Versions(IStorageEngine engine, string key, IStorageSnapshot? snapshot = null)
    {
        List<ulong> versions = [];
        using IStorageIterator iterator = engine.Scan(KeyRange.Between(Key(key, ulong.MaxValue), Key(key, 0)), new StorageScanOptions { Snapshot = snapshot });
        for (bool found = iterator.SeekLast(); found; found = iterator.MovePrevious())
            versions.Add(~BinaryPrimitives.ReadUInt64BigEndian(iterator.Key[^8..]));
        return versions;
    }

    /// <summary>The rule of versions: above the limit all stay, at or below it the newest.</summary>
    private sealed class VersionLimit : ICompactionFilterSource, ICompactionFilter
    {
        private readonly byte[] _group = new byte[64];
        private ulong _limit;
        private int _groupBytes = -1;

        public ICompactionFilter? Begin(CompactionScope scope)
        {
            ArrayBufferWriter<byte> value = new();
            return scope.TryGetDurable(s_limitKey, value) ? new VersionLimit { _limit = BinaryPrimitives.ReadUInt64BigEndian(value.WrittenSpan) } : null;
        }

        public CompactionVerdict Decide(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value, bool isBottom)
        {
            if (key[0] == 0 || ~BinaryPrimitives.ReadUInt64BigEndian(key[^8..]) > _limit)
                return CompactionVerdict.Keep;
            if (key[..^8].SequenceEqual(_group.AsSpan(0, Math.Max(0, _groupBytes))))
                return CompactionVerdict.DropUnique;
            _groupBytes = key.Length - 8;
            key[..^8].CopyTo(_group);
            return CompactionVerdict.Keep;
        }
    }

    private sealed class DropValues : ICompactionFilterSource, ICompactionFilter
    {
        public int Count { get; private set; }

        public ICompactionFilter? Begin(CompactionScope scope) => this;

        public CompactionVerdict Decide(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value, bool isBottom)
        {
            if (!value.SequenceEqual("drop"u8))
                return CompactionVerdict.Keep;
            Count++;
            return CompactionVerdict.Drop;
        }
    }
}
