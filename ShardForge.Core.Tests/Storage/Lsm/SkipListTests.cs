using System.Buffers.Binary;
using System.Text;
using NUnit.Framework;
using ShardForge.Storage.Lsm;
using ShardForge.Storage.Lsm.Memtables;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>The memtable's list against a sorted one, for keys of many shapes, and with readers beside the writer.</summary>
internal sealed class SkipListTests
{
    private static readonly string[] s_shapes = ["random", "binary", "decimal", "user", "ascending", "descending", "short", "prefixes", "one key", "long prefix"];

    [Test]
    public void It_holds_what_a_sorted_list_holds([ValueSource(nameof(s_shapes))] string shape)
    {
        using NativeChunkPool pool = new(4);
        using Arena arena = new(pool);
        SkipList list = new(arena);
        Random random = new(7);
        SortedSet<(byte[] Key, ulong Trailer)> model = new(Comparer<(byte[] Key, ulong Trailer)>.Create(static (left, right) => EntryTrailer.Compare(left.Key, left.Trailer, right.Key, right.Trailer)));
        for (int number = 0; number < 5000; number++)
        {
            byte[] key = Key(shape, number, random);
            ulong trailer = EntryTrailer.Of((ulong)number + 1, EntryKind.Put);
            list.Insert(key, trailer, BitConverter.GetBytes(number));
            model.Add((key, trailer));
            if (number is 1 or 2 or 28 or 29 or 800 or 4999)
                CheckAll(list, model, shape);
        }

        (byte[] Key, ulong Trailer)[] sorted = [.. model];
        for (int round = 0; round < 2000; round++)
        {
            byte[] key = round % 2 == 0 ? sorted[random.Next(sorted.Length)].Key : Key(shape == "one key" ? "short" : shape, random.Next(6000), random);
            ulong trailer = round % 3 == 0 ? EntryTrailer.Newest : EntryTrailer.Of((ulong)random.Next(1, 5002), EntryKind.Put);
            int at = Array.FindIndex(sorted, entry => EntryTrailer.Compare(entry.Key, entry.Trailer, key, trailer) >= 0);
            using MemtableCursor cursor = new(list);
            cursor.Seek(key, trailer);
            CheckIs(cursor, at < 0 ? null : sorted[at], $"{shape}: at or after {Convert.ToHexString(key)} {trailer}");
            cursor.SeekBefore(key, trailer);
            int before = (at < 0 ? sorted.Length : at) - 1;
            CheckIs(cursor, before < 0 ? null : sorted[before], $"{shape}: before {Convert.ToHexString(key)} {trailer}");
        }
    }

    [Test]
    public void Readers_beside_the_writer_miss_nothing_that_was_there([Values("random", "decimal", "ascending", "descending", "one key", "prefixes")] string shape)
    {
        using NativeChunkPool pool = new(4);
        using Arena arena = new(pool);
        SkipList list = new(arena);
        Random random = new(11);
        byte[][] keys = [.. Enumerable.Range(0, Environment.GetEnvironmentVariable("SHARDFORGE_LONG") == "1" ? 200_000 : 20_000).Select(number => Key(shape, number, random))];
        int visible = 0;
        string? wrong = null;
        Thread[] readers = [new Thread(() => Guard(Find)), new Thread(() => Guard(Walk))];
        foreach (Thread reader in readers)
            reader.Start();
        for (int number = 0; number < keys.Length && wrong is null; number++)
        {
            list.Insert(keys[number], EntryTrailer.Of((ulong)number + 1, EntryKind.Put), keys[number]);
            Volatile.Write(ref visible, number + 1);
        }

        Volatile.Write(ref visible, int.MaxValue);
        foreach (Thread reader in readers)
            reader.Join();
        Assert.That(wrong, Is.Null);

        void Guard(Action<int, Random> read)
        {
            try
            {
                Random own = new(5);
                for (int seen = Volatile.Read(ref visible); seen != int.MaxValue && wrong is null; seen = Volatile.Read(ref visible))
                {
                    if (seen > 0)
                        read(seen, own);
                }
            }
            catch (Exception error)
            {
                wrong ??= error.ToString();
            }
        }

        void Find(int seen, Random own)
        {
            int number = own.Next(seen);
            ulong trailer = EntryTrailer.Of((ulong)number + 1, EntryKind.Put);
            using MemtableCursor cursor = new(list);
            cursor.Seek(keys[number], trailer);
            if (!cursor.IsValid || !cursor.Key.SequenceEqual(keys[number]) || cursor.Trailer != trailer)
                wrong = $"{shape}: entry {number} of {seen} is not found";
            cursor.Seek(keys[number], trailer - 1);
            if (cursor.IsValid && EntryTrailer.Compare(cursor.Key, cursor.Trailer, keys[number], trailer) <= 0)
                wrong = $"{shape}: what is behind entry {number} is not";
        }

        void Walk(int seen, Random own)
        {
            bool back = own.Next(2) == 0;
            using MemtableCursor cursor = new(list);
            if (back)
                cursor.SeekLast();
            else
                cursor.SeekFirst();
            int found = 0;
            byte[]? last = null;
            ulong lastTrailer = 0;
            while (cursor.IsValid)
            {
                if (last is not null && EntryTrailer.Compare(last, lastTrailer, cursor.Key, cursor.Trailer) * (back ? -1 : 1) >= 0)
                    wrong = $"{shape}: out of order behind {Convert.ToHexString(last)}";
                if (EntryTrailer.Sequence(cursor.Trailer) <= (ulong)seen)
                    found++;
                (last, lastTrailer) = (cursor.Key.ToArray(), cursor.Trailer);
                if (back)
                    cursor.MovePrevious();
                else
                    cursor.MoveNext();
            }

            if (found != seen)
                wrong = $"{shape}: a walk met {found} of {seen} entries";
        }
    }

    private static void CheckAll(SkipList list, SortedSet<(byte[] Key, ulong Trailer)> model, string shape)
    {
        using MemtableCursor cursor = new(list);
        cursor.SeekFirst();
        foreach ((byte[], ulong) entry in model)
        {
            CheckIs(cursor, entry, $"{shape}: forward");
            cursor.MoveNext();
        }

        Assert.That(cursor.IsValid, Is.False);
        cursor.SeekLast();
        foreach ((byte[], ulong) entry in model.Reverse())
        {
            CheckIs(cursor, entry, $"{shape}: backward");
            cursor.MovePrevious();
        }

        Assert.That(cursor.IsValid, Is.False);
    }

    private static void CheckIs(MemtableCursor cursor, (byte[] Key, ulong Trailer)? expected, string what)
    {
        if (expected is not { } entry)
        {
            Assert.That(cursor.IsValid, Is.False, what);
            return;
        }

        if (!cursor.IsValid || !cursor.Key.SequenceEqual(entry.Key) || cursor.Trailer != entry.Trailer)
            Assert.Fail($"{what}: expected {Convert.ToHexString(entry.Key)} {entry.Trailer}, found {(cursor.IsValid ? $"{Convert.ToHexString(cursor.Key)} {cursor.Trailer}" : "nothing")}");
    }

    private static byte[] Key(string shape, int number, Random random)
    {
        byte[] key = new byte[16];
        int mixed = (int)((uint)number * 2654435761u >> 8);
        switch (shape)
        {
            case "random":
                random.NextBytes(key);
                return key;
            case "binary":
                BinaryPrimitives.WriteInt64BigEndian(key.AsSpan(8), mixed);
                return key;
            case "decimal":
                return Encoding.ASCII.GetBytes($"{mixed:D16}");
            case "user":
                return Encoding.ASCII.GetBytes($"user{mixed % 3000}");
            case "ascending":
                return Encoding.ASCII.GetBytes($"{number:D16}");
            case "descending":
                return Encoding.ASCII.GetBytes($"k{1_000_000 - number:D16}");
            case "short":
                return [.. BitConverter.GetBytes(mixed).Take(mixed % 4)];
            case "prefixes":
                return [.. Enumerable.Repeat((byte)(mixed % 3), mixed % 41)];
            case "one key":
                return "key"u8.ToArray();
            default:
                // More and more of a long prefix goes away.
                byte[] prefix = new byte[200];
                prefix.AsSpan().Fill(0xAB);
                prefix[199 - Math.Min(190, number / 25)] = (byte)mixed;
                return [.. prefix, (byte)(mixed >> 8), (byte)(mixed >> 16)];
        }
    }
}
