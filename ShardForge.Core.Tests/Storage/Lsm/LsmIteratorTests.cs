using System.Text;
using CsCheck;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>Iterators in both directions against a sorted map.</summary>
internal sealed class LsmIteratorTests
{
    [Test]
    public void Any_moves_meet_what_a_sorted_map_has()
    {
        Gen<(int Kind, int Key)> write = Gen.Select(Gen.Int[0, 9], Gen.Int[0, 150]);
        Gen<(int Kind, int Key)> move = Gen.Select(Gen.Int[0, 7], Gen.Int[0, 155]);
        Gen.Select(write.Array[0, 300], move.Array[1, 60], Gen.Select(Gen.Int[0, 150], Gen.Int[0, 150])).Sample(
            (writes, moves, range) => CheckAsync(writes, moves, range.Item1, range.Item2).GetAwaiter().GetResult(), iter: 60, threads: 1);
    }

    [Test]
    public async Task A_step_allocates_nothing()
    {
        await using IStorageEngine engine = await StorageEngines.Lsm().OpenAsync(new StorageEngineContext { Directory = "/db", FileSystem = new InMemoryFileSystem(), WriteAheadLog = false });
        for (int round = 0; round < 3; round++)
        {
            for (int number = round; number < 3000; number += 3)
                await engine.PutAsync(Key(number), new byte[100]);
            if (round < 2)
                await engine.CompactAsync();
        }

        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        Assert.That(Walk(), Is.EqualTo(3000));
        long before = GC.GetAllocatedBytesForCurrentThread();
        int count = Walk();
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
        Assert.That(count, Is.EqualTo(3000));

        int Walk()
        {
            int entries = 0;
            for (bool isThere = iterator.SeekFirst(); isThere; isThere = iterator.MoveNext())
                entries += iterator.Key.Length > 0 && iterator.Value.Length == 100 ? 1 : 0;
            return entries;
        }
    }

    [Test]
    public async Task A_disposed_iterator_is_not_the_next_one()
    {
        await using IStorageEngine engine = await TinyLsm.Factory.OpenAsync(directory: null);
        for (int number = 0; number < 10; number++)
            await engine.PutAsync(Key(number), Key(number));
        IStorageIterator first = engine.Scan(KeyRange.All);
        Assert.That(first.MoveNext());
        first.Dispose();
        using IStorageIterator second = engine.Scan(KeyRange.All);
        Assert.That(second.MoveNext());
        Assert.Throws<ObjectDisposedException>(() => first.MoveNext());
        Assert.Throws<ObjectDisposedException>(() => _ = first.Key.Length);
        first.Dispose();
        Assert.That(second.MoveNext());
        Assert.That(second.Key.ToArray(), Is.EqualTo(Key(1)));
    }

    private static async Task CheckAsync((int Kind, int Key)[] writes, (int Kind, int Key)[] moves, int from, int to)
    {
        await using IStorageEngine engine = await TinyLsm.Factory.OpenAsync(directory: null);
        SortedDictionary<int, int> model = [];
        StorageBatch batch = new();
        for (int at = 0; at < writes.Length; at++)
        {
            (int kind, int key) = writes[at];
            batch.Clear();
            switch (kind)
            {
                case < 7:
                    batch.Put(Key(key), Key(at));
                    model[key] = at;
                    break;
                case 7:
                    batch.Delete(Key(key));
                    model.Remove(key);
                    break;
                case 8:
                    batch.DeleteRange(Key(key), Key(key + 5));
                    for (int removed = key; removed < key + 5; removed++)
                        model.Remove(removed);
                    break;
                default:
                    if (key % 8 == 0)
                        await engine.CompactAsync();
                    else if (key % 2 == 0)
                        await engine.FlushAsync();
                    continue;
            }

            await engine.WriteAsync(batch, StorageDurability.Buffered);
        }

        bool isBounded = from < to;
        KeyValuePair<int, int>[] entries = [.. model.Where(entry => !isBounded || (entry.Key >= from && entry.Key < to))];
        using IStorageIterator iterator = engine.Scan(isBounded ? KeyRange.Between(Key(from), Key(to)) : KeyRange.All);
        await engine.PutAsync(Key(from), Key(-1));
        int place = -1;
        bool isStarted = false;
        foreach ((int kind, int key) in moves)
        {
            bool isOn = place >= 0 && place < entries.Length;
            int next = kind switch
            {
                0 or 1 => isStarted ? (isOn ? place + 1 : entries.Length) : 0,
                2 or 3 => isOn ? place - 1 : -1,
                4 => 0,
                5 => entries.Length - 1,
                6 => Array.FindIndex(entries, entry => entry.Key >= key) is int found and >= 0 ? found : entries.Length,
                _ => Array.FindLastIndex(entries, entry => entry.Key <= key),
            };
            bool moved = kind switch
            {
                0 or 1 => iterator.MoveNext(),
                2 or 3 => iterator.MovePrevious(),
                4 => iterator.SeekFirst(),
                5 => iterator.SeekLast(),
                6 => iterator.Seek(Key(key)),
                _ => iterator.SeekForPrevious(Key(key)),
            };
            isStarted = true;
            place = next;
            bool expected = place >= 0 && place < entries.Length;
            Assert.That(moved, Is.EqualTo(expected), $"move {kind} {key}");
            if (!expected)
            {
                place = -1;
                continue;
            }

            Assert.That(iterator.Key.ToArray(), Is.EqualTo(Key(entries[place].Key)));
            Assert.That(iterator.Value.ToArray(), Is.EqualTo(Key(entries[place].Value)));
        }
    }

    private static byte[] Key(int number) => Encoding.UTF8.GetBytes($"key/{number:D6}");
}
