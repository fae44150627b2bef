using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>A data block in native memory: this header, room for the tags of a point read, then the content.</summary>
/// <remarks><code>
/// header 64 | tags 2 × n | offsets 2 × n | words 4 × n | content |        on cache lines; n = tag room
/// </code>
/// The header has the block's tail decoded, so that a search starts in one line. Tags, offsets, words: <see cref="BlockTags"/>.
/// <para><b>Life.</b> Read in, put into a cell of its table (<see cref="BlockCache.Insert"/>), unlinked from it, and reused after a grace period (<see cref="ReadEpoch"/>)
/// unless somebody pinned it: then by the last unpin. A reader uses it inside its epoch or with a pin. Links, queue and cell belong to the shard's
/// latch; the pins are atomic; <see cref="Uses"/> is a hint that readers raise without order.</para></remarks>
[StructLayout(LayoutKind.Explicit, Size = Bytes)]
internal unsafe struct CachedBlock
{
    public const int Bytes = 64;
    public const byte UsesMax = 3;
    private const int Orphan = 1 << 30;

    [FieldOffset(0)]
    public CachedBlock* Previous;

    [FieldOffset(8)]
    public CachedBlock* Next;

    /// <summary>Where its table refers to it; null: nowhere.</summary>
    [FieldOffset(16)]
    public nint* Cell;

    [FieldOffset(24)]
    private int _pins;

    [FieldOffset(28)]
    public int AllocatedBytes;

    [FieldOffset(32)]
    public ulong TrailerBase;

    [FieldOffset(40)]
    public int EntryCount;

    /// <summary>Where the entries end, from the content's start.</summary>
    [FieldOffset(44)]
    public int TrailersAt;

    [FieldOffset(48)]
    public int ContentBytes;

    [FieldOffset(52)]
    public ushort TagRoom;

    [FieldOffset(54)]
    public byte RestartInterval;

    [FieldOffset(55)]
    public byte TrailerWidth;

    [FieldOffset(56)]
    public bool WideOffsets;

    [FieldOffset(57)]
    public BlockQueue Queue;

    /// <summary>How often it was used since the queue last saw it, up to <see cref="UsesMax"/>.</summary>
    [FieldOffset(58)]
    public byte Uses;

    /// <summary>It has memory of its own, and no place in a slab.</summary>
    [FieldOffset(59)]
    public bool IsSingle;

    [FieldOffset(60)]
    public byte TagState;

    /// <summary>First bytes that all keys have; valid with the tags.</summary>
    [FieldOffset(62)]
    public ushort CommonBytes;

    public bool IsPinned => Volatile.Read(ref _pins) > 0;

    public static byte* Tags(CachedBlock* block) => (byte*)block + Bytes;

    public static byte* Content(CachedBlock* block) => (byte*)block + Bytes + (BlockTags.EntryBytes * block->TagRoom);

    /// <summary>How much room a block needs in all.</summary>
    public static int BytesFor(int contentBytes, int tagRoom) => checked(Bytes + (BlockTags.EntryBytes * tagRoom) + contentBytes);

    /// <summary>Inside an epoch in which it was reachable, or by who has it alone.</summary>
    public void Pin() => Interlocked.Increment(ref _pins);

    /// <returns>True: the caller frees it, nobody else has it.</returns>
    public bool Unpin()
    {
        int left = Interlocked.Decrement(ref _pins);
        Invariant.Require((left & ~Orphan) >= 0);
        return left == Orphan;
    }

    /// <summary>After it was unlinked and no reader can reach it.</summary>
    /// <returns>True: the caller frees it; false: the last unpin does.</returns>
    public bool Abandon() => Interlocked.Add(ref _pins, Orphan) == Orphan;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Touch()
    {
        // Stored only while it changes: a hot block's line is then only read.
        if (Uses < UsesMax)
            Uses++;
    }
}

/// <summary>Where a block waits for its eviction.</summary>
internal enum BlockQueue : byte
{
    None,

    /// <summary>Came in lately; goes soon unless it is used again.</summary>
    Small,

    /// <summary>Was used again.</summary>
    Main,
}
