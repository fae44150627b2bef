using System.IO.Hashing;
using System.Numerics;
using System.Runtime.Intrinsics;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>The hash index of a block in memory: a tag of 16 bits and the place of each entry, so that a point read goes to its entry at once.</summary>
/// <remarks><code>
/// tag     bits 16..31 of the hash of the entry's key group (the hash that filters use)
/// offset  of the entry in the content
/// </code>
/// Made from the block when it is used a second time, so that what is read once does not pay, and nothing of it is on disk: a hash does not compress. Compared sixteen
/// at a time; a tag that matches is a candidate only, its entry's key is compared. A block has none if it is larger than 64 KiB, has more entries than there is room for,
/// or a key that is too long.
/// <para>States: not built → being built by one thread (others search without) → built, or absent for good.</para></remarks>
internal static unsafe class BlockTags
{
    private const int NotBuilt = 0, BeingBuilt = 1, Built = 2, Absent = 3;
    private const int EntriesMax = 4096, KeyBytesMax = 512;

    /// <summary>Room for the blocks of a table that have so many entries on average: a multiple of what is compared at once.</summary>
    public static int RoomFor(long entries, long blocks)
    {
        long usual = blocks == 0 ? 0 : entries / blocks;
        return (int)Math.Min(EntriesMax, ((usual + (usual / 4) + Vector256<ushort>.Count) / Vector256<ushort>.Count * Vector256<ushort>.Count));
    }

    public static bool IsBuilt(CachedBlock* block) => Volatile.Read(ref block->TagState) == Built;

    public static void BuildOnce(CachedBlock* block, in BlockView view, int suffixBytes)
    {
        if (block->TagState != NotBuilt || Interlocked.CompareExchange(ref block->TagState, BeingBuilt, NotBuilt) != NotBuilt)
            return;
        Volatile.Write(ref block->TagState, TryFill(block, view, suffixBytes) ? Built : Absent);
    }

    /// <summary>To the first entry of the key's group that is at or after (key, trailer). False: the block has none.</summary>
    public static bool Find(CachedBlock* block, in BlockView view, ReadOnlySpan<byte> key, ulong hash, ulong trailer, int suffixBytes, ref BlockSearch search)
    {
        ushort* tags = (ushort*)CachedBlock.Tags(block);
        ushort* offsets = tags + block->TagRoom;
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

    private static ushort Tag(ulong hash) => (ushort)(hash >> 16);

    private static bool TryFill(CachedBlock* block, in BlockView view, int suffixBytes)
    {
        if (view.EntryCount > block->TagRoom || block->TrailersAt > ushort.MaxValue)
            return false;
        ushort* tags = (ushort*)CachedBlock.Tags(block);
        ushort* offsets = tags + block->TagRoom;
        Span<byte> key = stackalloc byte[KeyBytesMax];
        byte* at = view.Start;
        for (int entry = 0; entry < view.EntryCount; entry++)
        {
            offsets[entry] = (ushort)(at - view.Start);
            view.DecodeEntry(ref at, out int shared, out int own, out int valueBytes);
            if (shared + own > KeyBytesMax)
                return false;
            new ReadOnlySpan<byte>(at, own).CopyTo(key[shared..]);
            tags[entry] = Tag(XxHash3.HashToUInt64(KeyGroup.Of(key[..(shared + own)], suffixBytes)));
            at += own + valueBytes;
        }

        // What is compared beyond the last entry is not looked at, but it shall not be what was there before.
        for (int entry = view.EntryCount; entry < block->TagRoom; entry++)
            tags[entry] = 0;
        return true;
    }
}
