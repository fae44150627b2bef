using System.Runtime.InteropServices;
using CsCheck;
using NUnit.Framework;
using ShardForge.Storage.Lsm;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Tests.Storage.Lsm;

internal sealed unsafe class TableIndexTests
{
    private static readonly Gen<byte[]> s_crowded = Gen.OneOf(Gen.Const<byte>(0x00), Gen.Const<byte>(0x61), Gen.Const<byte>(0xFF)).Array[0, 12];
    private static readonly Gen<byte[]> s_even = Gen.Byte.Array[6, 6].Select(bytes => (byte[])[.. "user/"u8, .. bytes]);

    [Test]
    public void The_block_of_a_key_is_the_first_whose_separator_is_not_before_it([Values] bool crowded)
    {
        Gen<byte[]> key = crowded ? s_crowded : s_even;
        Gen.Select(Gen.Select(key, Gen.ULong[0, 3]).Array[0, 300], Gen.Select(key, Gen.ULong[0, 3]).Array[1, 50]).Sample((separators, wanted) =>
        {
            (byte[] Key, ulong Trailer)[] sorted = [.. separators.Select(entry => (entry.Item1, entry.Item2)).DistinctBy(entry => (Convert.ToHexString(entry.Item1), entry.Item2))];
            Array.Sort(sorted, (left, right) => EntryTrailer.Compare(left.Key, left.Trailer, right.Key, right.Trailer));
            BlockBuilder builder = new(1);
            Span<byte> handle = stackalloc byte[BlockHandle.EncodedBytesMax];
            for (int at = 0; at < sorted.Length; at++)
                builder.Add(sorted[at].Key, sorted[at].Trailer, handle[..new BlockHandle(1000L * at, at).Write(handle)]);
            ReadOnlySpan<byte> bytes = builder.Finish();
            byte* block = (byte*)NativeMemory.Alloc((nuint)bytes.Length);
            bytes.CopyTo(new Span<byte>(block, bytes.Length));
            using TableIndex? index = TableIndex.TryCreate(block, bytes.Length);
            Assert.That(index, Is.Not.Null);
            foreach ((byte[] wantedKey, ulong trailer) in wanted.Select(entry => (entry.Item1, entry.Item2)).Concat(sorted))
            {
                int expected = Array.FindIndex(sorted, entry => EntryTrailer.Compare(entry.Key, entry.Trailer, wantedKey, trailer) >= 0);
                Assert.That(index!.Find(wantedKey, trailer), Is.EqualTo(expected < 0 ? sorted.Length : expected), Convert.ToHexString(wantedKey));
                if (expected >= 0)
                    Assert.That(index.Handle(expected), Is.EqualTo(new BlockHandle(1000L * expected, expected)));
            }
        }, iter: 1000);
    }

    [Test]
    public void One_key_in_a_hundred_passes_a_filter_of_ten_bits_wrongly()
    {
        ulong[] hashes = new ulong[20_000];
        for (int at = 0; at < hashes.Length; at++)
            hashes[at] = Hash(at);
        byte[] filter = BloomFilter.Build(hashes, 10);
        int wrong = 0;
        fixed (byte* start = filter)
        {
            for (int at = 0; at < hashes.Length; at++)
            {
                Assert.That(BloomFilter.MayContain(start, filter.Length, hashes[at]));
                wrong += BloomFilter.MayContain(start, filter.Length, Hash(at + hashes.Length)) ? 1 : 0;
            }
        }

        Assert.That(wrong, Is.LessThan(hashes.Length / 50));
        static ulong Hash(int number) => BloomFilter.Hash(BitConverter.GetBytes(number), 0);
    }
}
