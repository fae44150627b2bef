using CsCheck;
using NUnit.Framework;
using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Tests.Mvcc;

/// <summary>Point reads and scans at a timestamp against a sorted dictionary of histories.</summary>
internal sealed class MvccReadTests
{
    private static readonly Gen<byte[]> s_keys = Gen.Int[0, 3].Select(i => "\0\u0001a\u00FF"[i]).Select(c => (byte)c).Array[0, 3];

    private readonly record struct Write(byte[] Key, ulong Timestamp, byte[]? Value);

    private static readonly Gen<Write[]> s_histories =
        Gen.Select(s_keys, Gen.ULong[1, 12], Gen.OneOf(Gen.Const((byte[]?)null), Gen.Byte.Array[0, 2]), (key, timestamp, value) => new Write(key, timestamp, value)).Array[0, 40];

    [Test]
    public void Reads_and_scans_at_every_timestamp_see_what_a_dictionary_of_histories_has() =>
        Gen.Select(s_histories, s_keys, s_keys).Sample((writes, start, end) =>
        {
            IStorageEngine engine = Open(writes);
            KeyRange[] ranges = [KeyRange.All, KeyRange.Between(start, end), KeyRange.From(start), KeyRange.Prefix(start)];
            for (ulong readAt = 0; readAt <= 13; readAt++)
            {
                SortedDictionary<byte[], byte[]> visible = VisibleAt(writes, readAt);
                foreach (Write write in writes)
                {
                    byte[]? expected = visible.GetValueOrDefault(write.Key);
                    Assert.That(MvccReader.Read(engine, write.Key, new(readAt)).Value, Is.EqualTo(expected));
                }

                foreach (KeyRange range in ranges)
                {
                    string[] expected = [.. visible.Where(entry => range.Contains(entry.Key)).Select(entry => Show(entry.Key, entry.Value))];
                    Assert.That(Scan(engine, range, readAt, reverse: false), Is.EqualTo(expected));
                    Assert.That(Scan(engine, range, readAt, reverse: true), Is.EqualTo(expected.Reverse()));
                }
            }
        }, iter: 100);

    [TestCase(false)]
    [TestCase(true)]
    public void R24_Keys_with_thousands_of_versions_are_passed_in_both_directions(bool reverse)
    {
        List<Write> writes = [];
        foreach (byte key in "bdf"u8)
        {
            for (ulong timestamp = 1; timestamp <= 3000; timestamp++)
                writes.Add(new([key], timestamp, BitConverter.GetBytes(timestamp)));
        }

        foreach (byte key in "aceg"u8)
            writes.Add(new([key], 1500, [key]));
        IStorageEngine engine = Open([.. writes]);
        ulong[] readAts = [1, 2, 7, 8, 9, 1499, 1500, 2991, 2999, 3000, 9999];
        foreach (ulong readAt in readAts)
        {
            string[] expected = [.. VisibleAt(writes, readAt).Select(entry => Show(entry.Key, entry.Value))];
            Assert.That(Scan(engine, KeyRange.All, readAt, reverse), Is.EqualTo(reverse ? expected.Reverse() : expected), $"at {readAt}");
        }
    }

    [Test]
    public void R22_The_version_of_an_operation_is_found_above_a_timestamp_only()
    {
        IStorageEngine engine = Open([]);
        StorageBatch batch = new();
        for (ulong timestamp = 10; timestamp <= 30; timestamp += 10)
            Put(batch, new("k"u8.ToArray(), timestamp, [1]), new OperationId(0, timestamp));
        engine.WriteAsync(batch).AsTask().GetAwaiter().GetResult();
        Assert.That(MvccReader.FindOperation(engine, "k"u8, new(0, 20), new(15)), Is.EqualTo(new Timestamp(20)));
        Assert.That(MvccReader.FindOperation(engine, "k"u8, new(0, 20), new(20)), Is.EqualTo(default(Timestamp)));
        Assert.That(MvccReader.FindOperation(engine, "k"u8, new(0, 25), default), Is.EqualTo(default(Timestamp)));
    }

    [Test]
    public void A_version_in_a_range_is_found_between_two_timestamps_only()
    {
        IStorageEngine engine = Open([new("b"u8.ToArray(), 10, [1]), new("d"u8.ToArray(), 20, null)]);
        Assert.That(MvccReader.HasVersionBetween(engine, KeyRange.From("c"u8.ToArray()), new(10), new(20)), Is.True, "a delete marker counts");
        Assert.That(MvccReader.HasVersionBetween(engine, KeyRange.From("c"u8.ToArray()), new(10), new(19)), Is.False);
        Assert.That(MvccReader.HasVersionBetween(engine, KeyRange.All, new(10), new(19)), Is.False);
        Assert.That(MvccReader.HasVersionBetween(engine, KeyRange.All, new(9), new(19)), Is.True);
    }

    [Test]
    public void R14_Locks_are_found_by_key_and_in_a_range_up_to_a_timestamp()
    {
        IStorageEngine engine = Open([]);
        StorageBatch batch = new();
        byte[] key = new byte[64];
        byte[] locked = new LockRecord { MinimumCommit = new(50), Transaction = new(1, 2), Start = new(40), Primary = "k"u8.ToArray(), Value = [] }.Encode();
        batch.Put(key.AsSpan(0, MvccKey.WriteLock(key, "k"u8)), locked);
        engine.WriteAsync(batch).AsTask().GetAwaiter().GetResult();
        Assert.That(MvccReader.ReadLock(engine, "k"u8), Is.EqualTo(locked));
        Assert.That(MvccReader.ReadLock(engine, "j"u8), Is.Null);
        Assert.That(MvccReader.FindLock(engine, KeyRange.All, new(49)), Is.Null);
        Assert.That(MvccReader.FindLock(engine, KeyRange.All, new(50))?.Transaction, Is.EqualTo(new OperationId(1, 2)));
        Assert.That(MvccReader.FindLock(engine, KeyRange.From("l"u8.ToArray()), new(50)), Is.Null);
    }

    private static IStorageEngine Open(Write[] writes)
    {
        IStorageEngine engine = StorageEngines.InMemory().OpenAsync(new StorageEngineContext { VersionSuffixBytes = MvccKey.SuffixBytes, WriteAheadLog = false }).AsTask().GetAwaiter().GetResult();
        StorageBatch batch = new();
        foreach (Write write in writes)
            Put(batch, write, default);
        engine.WriteAsync(batch).AsTask().GetAwaiter().GetResult();
        return engine;
    }

    private static void Put(StorageBatch batch, Write write, OperationId operation)
    {
        byte[] key = new byte[MvccKey.BytesMax(write.Key.Length)], value = new byte[VersionHeader.BytesMax + (write.Value?.Length ?? 0)];
        int headerBytes = new VersionHeader { IsDeleted = write.Value is null, Operation = operation }.Write(value);
        write.Value?.CopyTo(value, headerBytes);
        batch.Put(key.AsSpan(0, MvccKey.WriteVersion(key, write.Key, new(write.Timestamp))), value.AsSpan(0, headerBytes + (write.Value?.Length ?? 0)));
    }

    private static SortedDictionary<byte[], byte[]> VisibleAt(IEnumerable<Write> writes, ulong readAt)
    {
        SortedDictionary<byte[], byte[]> visible = new(Comparer<byte[]>.Create((left, right) => left.AsSpan().SequenceCompareTo(right)));
        // Of two writes with one timestamp the later one replaces the earlier, as in the engine.
        foreach (Write write in writes.Where(write => write.Timestamp <= readAt).OrderBy(write => write.Timestamp))
        {
            if (write.Value is null)
                visible.Remove(write.Key);
            else
                visible[write.Key] = write.Value;
        }

        return visible;
    }

    private static List<string> Scan(IStorageEngine engine, KeyRange range, ulong readAt, bool reverse)
    {
        List<string> seen = [];
        using MvccCursor cursor = new(engine, range, new(readAt), reverse, snapshot: null);
        while (cursor.MoveNext())
            seen.Add(Show(cursor.Key.ToArray(), cursor.Value.ToArray()));
        Assert.That(cursor.MoveNext(), Is.False, "it stays at the end");
        return seen;
    }

    private static string Show(byte[] key, byte[] value) => $"{Convert.ToHexString(key)}={Convert.ToHexString(value)}";
}
