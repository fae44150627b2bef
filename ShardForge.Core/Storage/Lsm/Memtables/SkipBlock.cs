using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace ShardForge.Storage.Lsm.Memtables;

/// <summary>The layout of a <see cref="SkipList"/>'s blocks and entries, and the search in one block.</summary>
/// <remarks><code>
/// entry  | trailer 8 | key bytes 4 | value bytes 4 | key | value |                                            never changes
/// block  | version 4 | count 4 | skip 4 | level 4 | next block 8 | high 8 | zero 32 | word 8 × 28 | entry 8 × 28 | child 8 × 28, above level 0 |
///   version  odd while the writer changes the block
///   skip     bytes that all keys routed to the block have in common
///   high     the first entry behind the block; null in the last of a level
///   word     eight bytes of the entry's key from skip on, big-endian, zero-filled, with the sign bit turned: they compare as signed numbers
///   entry    level 0: the entries, in order; above: entry i is the first of child i (null: the very first child, below everything)
/// </code>
/// A leaf is eight whole cache lines, fetched at once. Unused words are the highest there is, unused pointers null.</remarks>
internal static unsafe class SkipBlock
{
    public const int Capacity = 28, LeafBytes = 512, InnerBytes = 768, Alignment = 64;
    public const int EntryHeaderBytes = 16;
    private const int CountAt = 4, SkipAt = 8, LevelAt = 12, NextAt = 16, HighAt = 24, WordsAt = 64, EntriesAt = WordsAt + (Capacity * 8), ChildrenAt = EntriesAt + (Capacity * 8);
    private const ulong SignBit = 1UL << 63;

    public static ReadOnlySpan<byte> Key(byte* entry) => new(entry + EntryHeaderBytes, *(int*)(entry + 8));

    public static ulong Trailer(byte* entry) => *(ulong*)entry;

    public static ReadOnlySpan<byte> Value(byte* entry) => new(entry + EntryHeaderBytes + *(int*)(entry + 8), *(int*)(entry + 12));

    public static ref int Version(byte* block) => ref *(int*)block;

    public static ref int Count(byte* block) => ref *(int*)(block + CountAt);

    public static ref int Skip(byte* block) => ref *(int*)(block + SkipAt);

    public static int Level(byte* block) => *(int*)(block + LevelAt);

    public static ref nint Next(byte* block) => ref *(nint*)(block + NextAt);

    public static ref nint High(byte* block) => ref *(nint*)(block + HighAt);

    public static long* Words(byte* block) => (long*)(block + WordsAt);

    public static nint* Entries(byte* block) => (nint*)(block + EntriesAt);

    public static nint* Children(byte* block) => (nint*)(block + ChildrenAt);

    public static void Initialize(byte* block, int level, int skip)
    {
        new Span<byte>(block, level == 0 ? LeafBytes : InnerBytes).Clear();
        new Span<long>(block + WordsAt, Capacity).Fill(long.MaxValue);
        *(int*)(block + LevelAt) = level;
        Skip(block) = skip;
    }

    public static void WriteEntry(byte* entry, ReadOnlySpan<byte> key, ulong trailer, ReadOnlySpan<byte> value)
    {
        *(ulong*)entry = trailer;
        *(int*)(entry + 8) = key.Length;
        *(int*)(entry + 12) = value.Length;
        key.CopyTo(new Span<byte>(entry + EntryHeaderBytes, key.Length));
        value.CopyTo(new Span<byte>(entry + EntryHeaderBytes + key.Length, value.Length));
    }

    /// <summary>The word of a key in a block with that skip. A key that is shorter (a reader may be in the wrong block for a moment) gets the lowest.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static long Word(ReadOnlySpan<byte> key, int skip)
    {
        if (key.Length - skip < sizeof(ulong))
            return ShortWord(key, skip);
        ulong raw = Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref MemoryMarshal.GetReference(key), skip));
        return (long)((BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(raw) : raw) ^ SignBit);
    }

    /// <summary>How many of a block's entries are before (key, trailer).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int CountBefore(byte* block, ReadOnlySpan<byte> key, ulong trailer)
    {
        int count = Count(block);
        long word = Word(key, Skip(block));
        Vector256<long> wanted = Vector256.Create(word), lower = default, higher = default;
        long* words = Words(block);
        for (int at = 0; at < Capacity; at += Vector256<long>.Count)
        {
            Vector256<long> own = Vector256.Load(words + at);
            lower -= Vector256.LessThan(own, wanted);
            higher -= Vector256.GreaterThan(own, wanted);
        }

        int first = (int)Vector256.Sum(lower);
        int end = Math.Min(count, Capacity - (int)Vector256.Sum(higher));
        return first >= end ? first : CountAmongAlike(block, first, end, key, trailer);
    }

    /// <summary>Compares an entry with (key, trailer). Null is before everything.</summary>
    public static int Compare(byte* entry, ReadOnlySpan<byte> key, ulong trailer)
    {
        if (entry == null)
            return -1;
        int order = Key(entry).SequenceCompareTo(key);
        return order != 0 ? order : trailer.CompareTo(*(ulong*)entry);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void PrefetchLeaf(byte* block)
    {
        if (!Sse.IsSupported)
            return;
        for (int at = 0; at < LeafBytes; at += 64)
            Sse.Prefetch0(block + at);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void PrefetchEntry(byte* entry)
    {
        if (!Sse.IsSupported)
            return;
        Sse.Prefetch0(entry);
        Sse.Prefetch0(entry + 64);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static long ShortWord(ReadOnlySpan<byte> key, int skip)
    {
        ulong word = 0;
        for (int at = skip; at < key.Length; at++)
            word |= (ulong)key[at] << (56 - (8 * (at - skip)));
        return (long)(word ^ SignBit);
    }

    /// <summary>Words from <paramref name="first"/> to <paramref name="end"/> are the key's: only whole keys tell. A reader's or a newer version's place is mostly before them all.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int CountAmongAlike(byte* block, int first, int end, ReadOnlySpan<byte> key, ulong trailer)
    {
        nint* entries = Entries(block);
        if (Compare((byte*)entries[first], key, trailer) >= 0)
            return first;
        int low = first + 1, high = end;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (Compare((byte*)entries[middle], key, trailer) < 0)
                low = middle + 1;
            else
                high = middle;
        }

        return low;
    }
}
