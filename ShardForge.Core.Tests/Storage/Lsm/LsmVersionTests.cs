using System.Buffers;
using System.Buffers.Binary;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>The point read of a version against a model: versions of a key are written in ascending order, some are deleted, snapshots look back.</summary>
internal sealed class LsmVersionTests
{
    private const int SuffixBytes = 8;

    [Test]
    public async Task R26_the_newest_version_at_or_below_is_found_at_every_level([Values(1, 2, 3)] int seed)
    {
        Random random = new(seed);
        await using IStorageEngine engine = await TinyLsm.Factory.OpenAsync(new StorageEngineContext { Directory = "/db", FileSystem = new InMemoryFileSystem(), VersionSuffixBytes = SuffixBytes, WriteAheadLog = false });
        SortedDictionary<(int Key, ulong Version), byte[]> state = [];
        List<(IStorageSnapshot Snapshot, SortedDictionary<(int, ulong), byte[]> State)> snapshots = [];
        ulong version = 0;
        StorageBatch batch = new();
        for (int step = 0; step < 1500; step++)
        {
            batch.Clear();
            int key = random.Next(12);
            switch (random.Next(20))
            {
                case < 15:
                    byte[] value = new byte[random.Next(60)];
                    random.NextBytes(value);
                    version += (ulong)random.Next(1, 3);
                    batch.Put(Encode(key, version), value);
                    state[(key, version)] = value;
                    break;
                case 15:
                    // Collected: an old version goes.
                    (int Key, ulong Version)[] own = [.. state.Keys.Where(entry => entry.Key == key)];
                    if (own.Length > 1)
                    {
                        batch.Delete(Encode(key, own[0].Version));
                        state.Remove(own[0]);
                    }

                    break;
                case 16 when step % 50 == 0:
                    batch.DeleteRange(Encode(key, ulong.MaxValue), [.. Encode(key, 0), 0]);
                    foreach ((int Key, ulong Version) entry in state.Keys.Where(entry => entry.Key == key).ToArray())
                        state.Remove(entry);
                    break;
                case 17 when snapshots.Count < 3:
                    snapshots.Add((engine.CreateSnapshot(), new(state)));
                    break;
                case 18 when snapshots.Count > 0:
                    snapshots[0].Snapshot.Dispose();
                    snapshots.RemoveAt(0);
                    break;
                case 19 when step % 10 == 0:
                    await engine.CompactAsync(random.Next(2) == 0 ? KeyRange.All : KeyRange.From(Encode(key, ulong.MaxValue)));
                    break;
                default:
                    break;
            }

            await engine.WriteAsync(batch, StorageDurability.Buffered);
            Check(engine, null, state, random.Next(12), (ulong)random.NextInt64((long)version + 3), $"seed {seed} step {step}");
            foreach ((IStorageSnapshot snapshot, SortedDictionary<(int, ulong), byte[]> then) in snapshots)
                Check(engine, snapshot, then, random.Next(12), (ulong)random.NextInt64((long)version + 3), $"seed {seed} step {step}, a snapshot");
        }

        foreach ((IStorageSnapshot snapshot, _) in snapshots)
            snapshot.Dispose();
        Assert.That(engine.GetStatistics().Compactions, Is.GreaterThan(5));
    }

    private static void Check(IStorageEngine engine, IStorageSnapshot? snapshot, SortedDictionary<(int Key, ulong Version), byte[]> state, int key, ulong at, string where)
    {
        (int Key, ulong Version)[] visible = [.. state.Keys.Where(entry => entry.Key == key && entry.Version <= at)];
        byte[] suffix = new byte[SuffixBytes];
        ArrayBufferWriter<byte> value = new();
        bool found = engine.TryGetVersion(Encode(key, at), SuffixBytes, suffix, value, snapshot);
        Assert.That(found, Is.EqualTo(visible.Length > 0), $"{where}: key {key} at {at}");
        if (!found)
            return;
        Assert.That(~BinaryPrimitives.ReadUInt64BigEndian(suffix), Is.EqualTo(visible[^1].Version), $"{where}: key {key} at {at}");
        Assert.That(value.WrittenSpan.SequenceEqual(state[visible[^1]]), $"{where}: value of key {key} at {at}");
    }

    private static byte[] Encode(int key, ulong version)
    {
        byte[] encoded = [(byte)'v', (byte)key, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        BinaryPrimitives.WriteUInt64BigEndian(encoded.AsSpan(4), ~version);
        return encoded;
    }
}
