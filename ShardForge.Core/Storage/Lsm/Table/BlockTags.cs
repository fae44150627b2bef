using System.IO.Hashing;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>What a block in memory is searched by: of each entry a tag, its place, and a few bytes of its key.</summary>
/// <remarks><code>
/// tag     bits 16..31 of the hash of the entry's key group (the hash that filters use): a point read goes to its entry at once
/// offset  of the entry in the content
/// word    four bytes of the key, big-endian, zero-filled, behind the bytes that all keys of the block have: a seek finds its entry among them
/// </code>
/// Made from the block when it is used a second time, so that what is read once does not pay, and nothing of it is on disk: a hash does not compress. Compared many
/// at a time; what matches is a candidate only, its entry's key is compared. A block has none if it is larger than 64 KiB, has more entries than there is room for,
/// or a key that is too long.
/// <para>What is done per block is compiled well from the start: vectors are slow in code that is not, and cold caches come when all code is cold.</para>
/// <para>States: not built → being built by one thread (others search without) → built, or absent for good.</para></remarks>
internal static unsafe class BlockTags
{
    /// <summary>Bytes that an entry takes here.</summary>
    public const int EntryBytes = 8;

    private const byte NotBuilt = 0, BeingBuilt = 1, Built = 2, Absent = 3;
    private const int EntriesMax = 4096, KeyBytesMax = 512;

    /// <summary>Entries that are shorter on average get none: it would take too much of the cache.</summary>
    private const int BytesPerEntryMin = 32;

    /// <summary>Room for the blocks of a table with so many entries, blocks, and bytes of keys and values: for a quarter more than its usual block has, a multiple of what is compared at once.</summary>
    public static int RoomFor(long entries, long blocks, long bytes)
    {
        if (blocks == 0 || entries == 0 || bytes / entries < BytesPerEntryMin)
            return 0;
        long usual = entries / blocks;
        return (int)Math.Min(EntriesMax, (usual + (usual / 4) + Vector256<ushort>.Count) / Vector256<ushort>.Count * Vector256<ushort>.Count);
    }

    public static bool IsBuilt(CachedBlock* block) => Volatile.Read(ref block->TagState) == Built;

    public static void BuildOnce(CachedBlock* block, in BlockView view, int suffixBytes)
    {
        if (block->TagState != NotBuilt || Interlocked.CompareExchange(ref block->TagState, BeingBuilt, NotBuilt) != NotBuilt)
            return;
        Volatile.Write(ref block->TagState, TryFill(block, view, suffixBytes) ? Built : Absent);
    }

    /// <summary>To the first entry of the key's group that is at or after (key, trailer). False: the block has none.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool Find(CachedBlock* block, in BlockView view, ReadOnlySpan<byte> key, ulong hash, ulong trailer, int suffixBytes, ref BlockSearch search)
    {
        ushort* tags = (ushort*)CachedBlock.Tags(block);
        ushort* offsets = Offsets(block);
        Vector256<ushort> wanted = Vector256.Create(Tag(hash));
        int count = block->EntryCount;
        for (int from = 0; from < count; from += Vector256<ushort>.Count)
        {
            uint matches = Vector256.Equals(Vector256.Load(tags + from), wanted).ExtractMostSignificantBits();
            for (; matches != 0; matches &= matches - 1)
            {
                int entry = from + BitOperations.TrailingZeroCount(matches);
                if (entry >= count)
                    return false;
                int restart = entry - (entry % view.RestartInterval);
                if (search.TryStand(view, entry, view.Start + offsets[entry], view.Start + offsets[restart], key, suffixBytes))
                    return search.ToAtOrAfter(view, key, trailer, suffixBytes);
            }
        }

        return false;
    }

    /// <summary>The first entry at or after (key, trailer); the count: none. Tags are built.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int FindAtOrAfter(CachedBlock* block, in BlockView view, ReadOnlySpan<byte> key, ulong trailer)
    {
        int count = block->EntryCount, common = block->CommonBytes;
        if (common > 0)
        {
            ReadOnlySpan<byte> prefix = view.RestartKey(0)[..common];
            if (!key.StartsWith(prefix))
                return key.SequenceCompareTo(prefix) < 0 ? 0 : count;
        }

        uint* words = Words(block);
        uint word = Word(key[common..]);
        int low = 0, high;
        Vector256<uint> wanted = Vector256.Create(word);
        for (int from = 0; from < count; from += Vector256<uint>.Count)
        {
            int below = BitOperations.PopCount(Vector256.LessThan(Vector256.Load(words + from), wanted).ExtractMostSignificantBits());
            low += below;
            if (below < Vector256<uint>.Count)
                break;
        }

        // Behind the last entry are the highest words: an equal one may be one of them.
        low = Math.Min(low, count);
        for (high = low; high < count && words[high] == word;)
            high++;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (Compare(block, view, middle, key, trailer) < 0)
                low = middle + 1;
            else
                high = middle;
        }

        return low;
    }

    /// <summary>Where an entry is.</summary>
    public static byte* Entry(CachedBlock* block, in BlockView view, int entry) => view.Start + Offsets(block)[entry];

    private static ushort* Offsets(CachedBlock* block) => (ushort*)CachedBlock.Tags(block) + block->TagRoom;

    private static uint* Words(CachedBlock* block) => (uint*)(CachedBlock.Tags(block) + (4 * block->TagRoom));

    private static ushort Tag(ulong hash) => (ushort)(hash >> 16);

    private static uint Word(ReadOnlySpan<byte> key) => (uint)(KeyWord.Of(key) >> 32);

    private static int Compare(CachedBlock* block, in BlockView view, int entry, ReadOnlySpan<byte> key, ulong trailer)
    {
        byte* at = Entry(block, view, entry), restart = Entry(block, view, entry - (entry % view.RestartInterval));
        view.DecodeEntry(ref restart, out _, out int restartBytes, out _);
        view.DecodeEntry(ref at, out int shared, out int own, out _);
        if (shared > restartBytes)
            BlockView.ThrowMalformed();
        int order = new ReadOnlySpan<byte>(restart, shared).SequenceCompareTo(key[..Math.Min(shared, key.Length)]);
        if (order == 0)
            order = new ReadOnlySpan<byte>(at, own).SequenceCompareTo(key[shared..]);
        return order != 0 ? order : trailer.CompareTo(view.Trailer(entry));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool TryFill(CachedBlock* block, in BlockView view, int suffixBytes)
    {
        if (view.EntryCount > block->TagRoom || block->TrailersAt > ushort.MaxValue)
            return false;
        ushort* tags = (ushort*)CachedBlock.Tags(block);
        ushort* offsets = Offsets(block);
        uint* words = Words(block);
        Span<byte> key = stackalloc byte[KeyBytesMax];
        if (view.EntryCount > 0 && !TryFindCommon(block, view, key))
            return false;
        byte* at = view.Start;
        for (int entry = 0; entry < view.EntryCount; entry++)
        {
            offsets[entry] = (ushort)(at - view.Start);
            view.DecodeEntry(ref at, out int shared, out int own, out int valueBytes);
            if (shared + own > KeyBytesMax)
                return false;
            new ReadOnlySpan<byte>(at, own).CopyTo(key[shared..]);
            tags[entry] = Tag(XxHash3.HashToUInt64(KeyGroup.Of(key[..(shared + own)], suffixBytes)));
            words[entry] = Word(key[Math.Min(block->CommonBytes, shared + own)..(shared + own)]);
            at += own + valueBytes;
        }

        // What is compared beyond the last entry is not looked at, but it shall not be what was there before.
        for (int entry = view.EntryCount; entry < block->TagRoom; entry++)
        {
            tags[entry] = 0;
            words[entry] = uint.MaxValue;
        }

        return true;
    }

    /// <summary>What the first and the last key have in common, all of the block have.</summary>
    private static bool TryFindCommon(CachedBlock* block, in BlockView view, Span<byte> key)
    {
        int restart = view.RestartCount - 1;
        byte* at = view.Restart(restart);
        int keyBytes = 0;
        for (int entry = restart * view.RestartInterval; entry < view.EntryCount; entry++)
        {
            view.DecodeEntry(ref at, out int shared, out int own, out int valueBytes);
            keyBytes = shared + own;
            if (keyBytes > KeyBytesMax)
                return false;
            new ReadOnlySpan<byte>(at, own).CopyTo(key[shared..]);
            at += own + valueBytes;
        }

        block->CommonBytes = (ushort)view.RestartKey(0).CommonPrefixLength(key[..keyBytes]);
        return true;
    }
}
