using CsCheck;
using NUnit.Framework;
using ShardForge.Storage.Lsm;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Tests.Storage.Lsm;

internal sealed unsafe class BlockTests
{
    // Few letters, both ends of the range: keys collide and are prefixes of each other.
    private static readonly Gen<byte[]> s_key = Gen.OneOf(Gen.Const<byte>(0x00), Gen.Const<byte>(0x01), Gen.Const<byte>(0x61), Gen.Const<byte>(0xFF)).Array[0, 6]
        .Select(Gen.Frequency((9, Gen.Const(0)), (1, Gen.Int[1, 300])), (key, zeros) => (byte[])[.. key, .. new byte[zeros]]);

    private static readonly Gen<(byte[] Key, ulong Trailer)> s_entry = Gen.Select(s_key, Gen.ULong[1, 600]);

    [Test]
    public void Search_and_cursor_find_what_a_sorted_list_has([Values(1, 3, 8, 16)] int interval)
    {
        Gen.Select(s_entry.Array[0, 60], s_entry.Array[1, 30]).Sample((entries, wanted) =>
        {
            (byte[] Key, ulong Trailer)[] sorted = [.. entries.DistinctBy(entry => (Convert.ToHexString(entry.Key), entry.Trailer))];
            Array.Sort(sorted, (left, right) => EntryTrailer.Compare(left.Key, left.Trailer, right.Key, right.Trailer));
            BlockBuilder builder = new(interval);
            foreach ((byte[] key, ulong trailer) in sorted)
                builder.Add(key, trailer, key);
            ReadOnlySpan<byte> bytes = builder.Finish();
            fixed (byte* start = bytes)
            {
                Assert.That(BlockView.TryOpen(start, bytes.Length, out BlockView block));
                foreach ((byte[] key, ulong trailer) in wanted.Concat(sorted))
                    Check(block, sorted, key, trailer);
            }
        }, iter: 2000);
    }

    [Test]
    public void Tags_find_what_a_sorted_list_has([Values(0, 1, 2)] int suffixBytes, [Values(1, 8)] int interval)
    {
        // Versions of a key have one length, and nothing else lies between them.
        Gen<(byte[] Key, ulong Trailer)> entry = suffixBytes == 0 ? s_entry : Gen.Select(Gen.OneOf(Gen.Const<byte>(0x00), Gen.Const<byte>(0x61), Gen.Const<byte>(0xFF)).Array[4, 4], Gen.ULong[1, 60]);
        using BlockCache cache = new(1024 * 1024);
        Gen.Select(entry.Array[0, 60], entry.Array[1, 30]).Sample((entries, wanted) =>
        {
            (byte[] Key, ulong Trailer)[] sorted = [.. entries.DistinctBy(entry => (Convert.ToHexString(entry.Key), entry.Trailer))];
            Array.Sort(sorted, (left, right) => EntryTrailer.Compare(left.Key, left.Trailer, right.Key, right.Trailer));
            BlockBuilder builder = new(interval);
            foreach ((byte[] key, ulong trailer) in sorted)
                builder.Add(key, trailer, key);
            ReadOnlySpan<byte> bytes = builder.Finish();
            CachedBlock* block = cache.Allocate(bytes.Length, BlockTags.RoomFor(60, 1, 6000));
            bytes.CopyTo(new Span<byte>(CachedBlock.Content(block), bytes.Length));
            Assert.That(BlockView.TryOpen(CachedBlock.Content(block), bytes.Length, out BlockView opened));
            opened.Describe(block);
            BlockView view = BlockView.Of(block);
            BlockTags.BuildOnce(block, view, suffixBytes);
            Assert.That(BlockTags.IsBuilt(block));
            BlockCursor cursor = new();
            cursor.Open(view);
            foreach ((byte[] key, ulong trailer) in wanted.Concat(sorted))
            {
                int expected = Array.FindIndex(sorted, entry => EntryTrailer.Compare(entry.Key, entry.Trailer, key, trailer) >= 0);
                Assert.That(BlockTags.FindAtOrAfter(block, view, key, trailer), Is.EqualTo(expected < 0 ? sorted.Length : expected));
                cursor.Seek(block, key, trailer);
                for (int at = expected < 0 ? sorted.Length : expected; at < sorted.Length; at++)
                {
                    Assert.That(cursor.Key.ToArray(), Is.EqualTo(sorted[at].Key));
                    Assert.That(cursor.Trailer, Is.EqualTo(sorted[at].Trailer));
                    Assert.That(cursor.MoveNext(), Is.EqualTo(at + 1 < sorted.Length));
                }

                bool isThere = expected >= 0 && KeyGroup.Same(sorted[expected].Key, key, suffixBytes);
                BlockSearch search = default;
                Assert.That(BlockTags.Find(block, view, key, BloomFilter.Hash(key, suffixBytes), trailer, suffixBytes, ref search), Is.EqualTo(isThere));
                if (!isThere)
                    continue;
                Assert.That((byte[])[.. search.SharedKey, .. search.OwnKey], Is.EqualTo(sorted[expected].Key));
                Assert.That(search.Trailer, Is.EqualTo(sorted[expected].Trailer));
                Assert.That(search.IsKey, Is.EqualTo(sorted[expected].Key.AsSpan().SequenceEqual(key)));
                Assert.That(search.Value.ToArray(), Is.EqualTo(sorted[expected].Key));
                byte[] suffix = new byte[Math.Min(suffixBytes, key.Length)];
                search.CopySuffix(suffix);
                Assert.That(suffix, Is.EqualTo(sorted[expected].Key[^suffix.Length..]));
            }

            cache.Free(block);
        }, iter: 1000, threads: 1);
    }

    private static void Check(in BlockView block, (byte[] Key, ulong Trailer)[] sorted, byte[] key, ulong trailer)
    {
        int expected = Array.FindIndex(sorted, entry => EntryTrailer.Compare(entry.Key, entry.Trailer, key, trailer) >= 0);
        BlockSearch search = default;
        BlockCursor cursor = new();
        cursor.Open(block);
        cursor.Seek(key, trailer);
        bool found = search.Find(block, key, trailer);
        Assert.That(found, Is.EqualTo(expected >= 0));
        Assert.That(cursor.IsValid, Is.EqualTo(expected >= 0));
        if (expected >= 0)
        {
            byte[] foundKey = [.. search.SharedKey, .. search.OwnKey];
            Assert.That(foundKey, Is.EqualTo(sorted[expected].Key));
            Assert.That(search.Trailer, Is.EqualTo(sorted[expected].Trailer));
            Assert.That(search.IsKey, Is.EqualTo(foundKey.AsSpan().SequenceEqual(key)));
            Assert.That(search.Value.ToArray(), Is.EqualTo(foundKey));
            Assert.That(cursor.Key.ToArray(), Is.EqualTo(foundKey));
            Assert.That(cursor.Trailer, Is.EqualTo(search.Trailer));
        }

        int before = expected < 0 ? sorted.Length - 1 : expected - 1;
        cursor.SeekBefore(key, trailer);
        Assert.That(cursor.IsValid, Is.EqualTo(before >= 0));
        if (before >= 0)
            Assert.That(cursor.Key.ToArray(), Is.EqualTo(sorted[before].Key));
    }
}
