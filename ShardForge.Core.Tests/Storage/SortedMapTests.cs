using NUnit.Framework;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage;

internal sealed class SortedMapTests
{
    private sealed class BytesOrder : IComparer<byte[]>
    {
        public int Compare(byte[]? x, byte[]? y) => x.AsSpan().SequenceCompareTo(y);
    }

    [Test]
    public void Random_edits_give_what_a_sorted_dictionary_gives_and_old_versions_stay([Values(1, 2, 3)] int seed, [Values(40, 3000)] int keys)
    {
        TestContext.Out.WriteLine($"seed {seed}, keys {keys}");
        Random random = new(seed);
        SortedDictionary<byte[], byte[]> model = new(new BytesOrder());
        SortedMapEditor editor = new(SortedMap.Empty);
        List<(SortedMap Map, KeyValuePair<byte[], byte[]>[] Expected)> versions = [];
        for (int step = 0; step < 6000; step++)
        {
            byte[] key = Key(random, keys);
            switch (random.Next(20))
            {
                case < 11:
                    byte[] value = [(byte)step, (byte)(step >> 8)];
                    editor.Put(key, value);
                    model[key] = value;
                    break;
                case < 17:
                    Assert.That(editor.Remove(key), Is.EqualTo(model.Remove(key)));
                    break;
                case 17:
                    byte[]? end = random.Next(40) == 0 ? null : Key(random, keys);
                    if (end is null && random.Next(4) != 0)
                        break;
                    editor.RemoveRange(key, end);
                    foreach (byte[] gone in model.Keys.Where(k => k.AsSpan().SequenceCompareTo(key) >= 0 && (end is null || k.AsSpan().SequenceCompareTo(end) < 0)).Take(keys).ToArray())
                        model.Remove(gone);
                    break;
                default:
                    Assert.That(editor.TryGet(key, out byte[]? found), Is.EqualTo(model.TryGetValue(key, out byte[]? expected)));
                    Assert.That(found, Is.EqualTo(expected));
                    break;
            }

            if (step % 500 == 0)
                versions.Add((editor.ToMap(), [.. model]));
        }

        foreach ((SortedMap map, KeyValuePair<byte[], byte[]>[] expected) in versions)
            AssertSame(map, expected, random, keys);
    }

    private static byte[] Key(Random random, int keys)
    {
        int number = random.Next(keys);
        return number == 0 ? [] : [(byte)(number >> 8), (byte)number];
    }

    private static void AssertSame(SortedMap map, KeyValuePair<byte[], byte[]>[] expected, Random random, int keys)
    {
        Assert.That(map.Count, Is.EqualTo(expected.Length));
        Assert.That(map.Bytes, Is.EqualTo(expected.Sum(e => e.Key.Length + e.Value.Length)));
        SortedMapCursor cursor = map.GetCursor();
        int at = 0;
        for (bool found = cursor.ToFirst(); found; found = cursor.ToNext(), at++)
            Assert.That(cursor.Key.AsSpan().SequenceEqual(expected[at].Key) && cursor.Value.AsSpan().SequenceEqual(expected[at].Value), $"entry {at}");
        Assert.That(at, Is.EqualTo(expected.Length));
        for (bool found = cursor.ToLast(); found; found = cursor.ToPrevious())
            Assert.That(cursor.Key.AsSpan().SequenceEqual(expected[--at].Key), $"entry {at}");
        Assert.That(at, Is.Zero);
        for (int probe = 0; probe < 200; probe++)
        {
            byte[] key = Key(random, keys + 10);
            int first = Array.FindIndex(expected, e => e.Key.AsSpan().SequenceCompareTo(key) >= 0);
            int behind = Array.FindIndex(expected, e => e.Key.AsSpan().SequenceCompareTo(key) > 0);
            first = first < 0 ? expected.Length : first;
            behind = behind < 0 ? expected.Length : behind;
            AssertAt(cursor, cursor.ToFirstAtOrAfter(key), expected, first);
            AssertAt(cursor, cursor.ToLastBefore(key), expected, first - 1);
            AssertAt(cursor, cursor.ToLastAtOrBefore(key), expected, behind - 1);
        }
    }

    private static void AssertAt(SortedMapCursor cursor, bool found, KeyValuePair<byte[], byte[]>[] expected, int index)
    {
        Assert.That(found, Is.EqualTo(index >= 0 && index < expected.Length));
        if (found)
            Assert.That(cursor.Key, Is.EqualTo(expected[index].Key));
    }
}
