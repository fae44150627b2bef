using System.Runtime.CompilerServices;

namespace ShardForge.Storage.Lsm.Memtables;

/// <summary>Sorted entries in an arena: one writer, any number of readers that take no lock. Nothing is ever removed.</summary>
/// <remarks><code>
/// level 2  | a ................ n .............. |                     a block holds up to 28 entries of its level (SkipBlock)
/// level 1  | a ... d ... h ... | n ... r ... v . |                     level 0 has all, each level above the first of each block below
/// level 0  | a b c | d e f g | h k ... | n o p q | r s ... | v w ... |
/// </code>
/// A skip list whose levels lie in blocks, and whose towers grow when a block is full and splits, not by coin (Munro, Papadakis, Sedgewick, "Deterministic
/// skip lists", 1992; Golovin, "The B-skip-list", 2010). One node per entry means a cache miss per step: 10 to 15 in a list of 64 MB. Here the levels above the lowest stay in the
/// second-level cache, a search misses the one leaf that it ends in, whose lines are fetched together, and an insert touches no other entry.
/// <para><b>Words.</b> A block's entries are told apart by eight bytes of their keys, all at once. Which eight: the block knows the entry that it starts with and the one
/// behind it (both never change but by a split), so whatever is routed to it has the bytes that those two have in common, and the word starts behind them. Blocks at the two ends have no such
/// neighbour; they go by what all keys of the list have in common. A key that has less makes that shorter, and the few blocks at the ends get new words, from the bottom up.</para>
/// <para><b>Readers</b> (Leis et al., "Optimistic lock coupling", 2019). 1. Read the block's version; if it is odd, look again. 2. Find the child, check the version: unchanged, so it was the right
/// one. 3. Read the child's version, check the parent's once more: so the child was the right one when its version was read. 4. On with the child. What does not match starts over. Pointers that a
/// reader meets are null or valid at any moment, so a wrong turn costs time only.</para>
/// <para><b>The writer</b> makes the versions of all blocks that it changes odd before, and even after. A split fills the new block first.</para>
/// Lifetime: the memtable that owns the arena is held by whoever reads.</remarks>
internal sealed unsafe class SkipList(Arena arena)
{
    private const int LevelsMax = 16;

    /// <summary>Words are made anew, at a split, when that moves them on by this much: each entry's key must be fetched for it.</summary>
    private const int SkipGainMin = 4;

    private readonly Arena _arena = arena;
    private nint _root;
    private nint _reference;    // some entry: all keys of the list have its first bytes, as many as the root skips

    // The writer's.
    private readonly nint[] _path = new nint[LevelsMax];
    private readonly int[] _pathAt = new int[LevelsMax];
    private byte* _firstLeaf, _lastLeaf;
    private int _skip;    // of the root and the blocks at both ends of each level

    public bool IsEmpty => Volatile.Read(ref _root) == 0;

    /// <summary>Adds an entry; (key, trailer) is not there yet.</summary>
    public void Insert(ReadOnlySpan<byte> key, ulong trailer, ReadOnlySpan<byte> value)
    {
        byte* entry = _arena.Allocate(checked(SkipBlock.EntryHeaderBytes + key.Length + value.Length));
        SkipBlock.WriteEntry(entry, key, trailer, value);
        byte* root = (byte*)_root;
        if (root == null)
        {
            InsertFirst(entry, key);
            return;
        }

        if (!key.StartsWith(SkipBlock.Key((byte*)_reference)[.._skip]))
            Shorten(key.CommonPrefixLength(SkipBlock.Key((byte*)_reference)));

        // Ascending keys need no search as long as the last leaf has room.
        byte* leaf = _lastLeaf;
        int at = SkipBlock.Count(leaf);
        if (at == SkipBlock.Capacity || SkipBlock.Compare((byte*)SkipBlock.Entries(leaf)[at - 1], key, trailer) > 0)
        {
            leaf = FindLeaf(root, key, trailer);
            at = SkipBlock.CountBefore(leaf, key, trailer);
        }

        Invariant.Check(at == 0 || SkipBlock.Compare((byte*)SkipBlock.Entries(leaf)[at - 1], key, trailer) < 0);
        Invariant.Check(at == SkipBlock.Count(leaf) || SkipBlock.Compare((byte*)SkipBlock.Entries(leaf)[at], key, trailer) > 0);
        if (SkipBlock.Count(leaf) < SkipBlock.Capacity)
        {
            Lock(leaf);
            Place(leaf, at, entry, child: null);
            Unlock(leaf);
        }
        else
        {
            Split(leaf, at, entry);
        }
    }

    /// <summary>The first entry at or after (key, trailer); null: none.</summary>
    public byte* FindAtOrAfter(ReadOnlySpan<byte> key, ulong trailer)
    {
        SkipPosition position = default;
        Seek(ref position, key, trailer);
        return position.Entry;
    }

    /// <summary>To the first entry at or after (key, trailer).</summary>
    public void Seek(ref SkipPosition position, ReadOnlySpan<byte> key, ulong trailer)
    {
        while (true)
        {
            switch (TryFindLeaf(key, trailer, out byte* leaf, out int version))
            {
                case Descent.Ended:
                    break;
                case Descent.BeforeAll:
                    SeekFirst(ref position);
                    return;
                case Descent.AfterAll:
                    position = default;
                    return;
                default:
                    continue;
            }

            int at = SkipBlock.CountBefore(leaf, key, trailer);
            if (TryTake(ref position, leaf, version, at))
                return;
        }
    }

    /// <summary>To the last entry before (key, trailer).</summary>
    public void SeekBefore(ref SkipPosition position, ReadOnlySpan<byte> key, ulong trailer)
    {
        while (true)
        {
            switch (TryFindLeaf(key, trailer, out byte* leaf, out int version))
            {
                case Descent.Ended:
                    break;
                case Descent.BeforeAll:
                    position = default;
                    return;
                case Descent.AfterAll:
                    SeekLast(ref position);
                    return;
                default:
                    continue;
            }

            // A leaf is searched for what is behind its first entry, so only the very first one can have nothing before.
            int at = SkipBlock.CountBefore(leaf, key, trailer) - 1;
            byte* entry = at < 0 ? null : (byte*)SkipBlock.Entries(leaf)[at];
            if (!IsUnchanged(leaf, version))
                continue;
            position = new SkipPosition(leaf, version, at, entry);
            return;
        }
    }

    public void SeekFirst(ref SkipPosition position)
    {
        while (true)
        {
            byte* leaf = FindEnd(last: false, out int version);
            if (leaf == null || TryTake(ref position, leaf, version, 0))
                break;
        }
    }

    public void SeekLast(ref SkipPosition position)
    {
        while (true)
        {
            byte* leaf = FindEnd(last: true, out int version);
            if (leaf == null)
                return;
            int at = SkipBlock.Count(leaf) - 1;
            byte* entry = at < 0 ? null : (byte*)SkipBlock.Entries(leaf)[at];
            if (!IsUnchanged(leaf, version))
                continue;
            position = new SkipPosition(leaf, version, at, entry);
            return;
        }
    }

    public void MoveNext(ref SkipPosition position)
    {
        // The leaf has changed since: look for the place again. Nothing is removed, so what comes next is at or before what came next then.
        if (!TryTake(ref position, position.Leaf, position.Version, position.Index + 1))
            Seek(ref position, SkipBlock.Key(position.Entry), SkipBlock.Trailer(position.Entry) - 1);
    }

    public void MovePrevious(ref SkipPosition position)
    {
        if (position.Index > 0)
        {
            byte* entry = (byte*)SkipBlock.Entries(position.Leaf)[position.Index - 1];
            if (IsUnchanged(position.Leaf, position.Version))
            {
                position = new SkipPosition(position.Leaf, position.Version, position.Index - 1, entry);
                return;
            }
        }

        SeekBefore(ref position, SkipBlock.Key(position.Entry), SkipBlock.Trailer(position.Entry));
    }

    /// <summary>The entry at an index of a leaf, or the first one of the next. False: a block was changed meanwhile.</summary>
    private static bool TryTake(ref SkipPosition position, byte* leaf, int version, int at)
    {
        const int Ahead = 4;
        nint* entries = SkipBlock.Entries(leaf);
        int count = SkipBlock.Count(leaf);
        if (at < count)
        {
            byte* entry = (byte*)entries[at];
            if (at + Ahead < count)
                SkipBlock.PrefetchEntry((byte*)entries[at + Ahead]);
            if (!IsUnchanged(leaf, version))
                return false;
            position = new SkipPosition(leaf, version, at, entry);
            return true;
        }

        byte* next = (byte*)SkipBlock.Next(leaf);
        if (!IsUnchanged(leaf, version))
            return false;
        if (next == null)
        {
            position = default;
            return true;
        }

        int nextVersion = ReadVersion(next);
        byte* first = (byte*)SkipBlock.Entries(next)[0];
        if (!IsUnchanged(next, nextVersion) || !IsUnchanged(leaf, version))
            return false;
        position = new SkipPosition(next, nextVersion, 0, first);
        if (SkipBlock.Next(next) is not 0 and nint afterNext)
            SkipBlock.PrefetchLeaf((byte*)afterNext);
        return true;
    }

    private Descent TryFindLeaf(ReadOnlySpan<byte> key, ulong trailer, out byte* leaf, out int version)
    {
        leaf = (byte*)Volatile.Read(ref _root);
        version = 0;
        if (leaf == null)
            return Descent.AfterAll;
        version = ReadVersion(leaf);
        int skip = SkipBlock.Skip(leaf);
        if ((nint)leaf != Volatile.Read(ref _root) || !IsUnchanged(leaf, version))
            return Descent.Interrupted;
        if (skip > 0)
        {
            // Without the bytes that all keys have in common its words would say nothing.
            ReadOnlySpan<byte> common = SkipBlock.Key((byte*)Volatile.Read(ref _reference))[..skip];
            if (!key.StartsWith(common))
                return key.SequenceCompareTo(common) < 0 ? Descent.BeforeAll : Descent.AfterAll;
        }

        while (SkipBlock.Level(leaf) > 0)
        {
            int at = Math.Max(0, SkipBlock.CountBefore(leaf, key, trailer) - 1);
            byte* child = (byte*)SkipBlock.Children(leaf)[at];
            if (!IsUnchanged(leaf, version))
                return Descent.Interrupted;
            SkipBlock.PrefetchLeaf(child);
            int childVersion = ReadVersion(child);
            if (!IsUnchanged(leaf, version))
                return Descent.Interrupted;
            leaf = child;
            version = childVersion;
        }

        return Descent.Ended;
    }

    /// <summary>The first or last leaf; null: the list is empty.</summary>
    private byte* FindEnd(bool last, out int version)
    {
        while (true)
        {
            byte* block = (byte*)Volatile.Read(ref _root);
            version = 0;
            if (block == null)
                return null;
            version = ReadVersion(block);
            bool isWhole = (nint)block == Volatile.Read(ref _root);
            while (isWhole && SkipBlock.Level(block) > 0)
            {
                byte* child = (byte*)SkipBlock.Children(block)[last ? Math.Max(0, SkipBlock.Count(block) - 1) : 0];
                isWhole = IsUnchanged(block, version);
                if (!isWhole)
                    break;
                int childVersion = ReadVersion(child);
                isWhole = IsUnchanged(block, version);
                block = child;
                version = childVersion;
            }

            if (isWhole)
                return block;
        }
    }

    /// <summary>The version of a block, once it is even. The writer changes a block for a fraction of a microsecond, unless its thread is taken off the processor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int ReadVersion(byte* block)
    {
        int version = Volatile.Read(ref SkipBlock.Version(block));
        return (version & 1) == 0 ? version : WaitForVersion(block);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int WaitForVersion(byte* block)
    {
        SpinWait spin = default;
        while (true)
        {
            int version = Volatile.Read(ref SkipBlock.Version(block));
            if ((version & 1) == 0)
                return version;
            spin.SpinOnce(sleep1Threshold: -1);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsUnchanged(byte* block, int version)
    {
        Volatile.ReadBarrier();
        return Volatile.Read(ref SkipBlock.Version(block)) == version;
    }

    private static void Lock(byte* block)
    {
        ref int version = ref SkipBlock.Version(block);
        Invariant.Check((version & 1) == 0);
        Volatile.Write(ref version, version + 1);
        Volatile.WriteBarrier();
    }

    private static void Unlock(byte* block)
    {
        ref int version = ref SkipBlock.Version(block);
        Volatile.Write(ref version, version + 1);
    }

    private void InsertFirst(byte* entry, ReadOnlySpan<byte> key)
    {
        _skip = key.Length;
        byte* leaf = NewBlock(level: 0, _skip);
        Place(leaf, 0, entry, child: null);
        _firstLeaf = _lastLeaf = leaf;
        Volatile.Write(ref _reference, (nint)entry);
        Volatile.Write(ref _root, (nint)leaf);
    }

    /// <summary>The writer's search: notes the way. An entry at the start of a block goes to the end of the one before.</summary>
    private byte* FindLeaf(byte* root, ReadOnlySpan<byte> key, ulong trailer)
    {
        byte* block = root;
        for (int level = SkipBlock.Level(root); level > 0; level--)
        {
            int at = Math.Max(0, SkipBlock.CountBefore(block, key, trailer) - 1);
            _path[level] = (nint)block;
            _pathAt[level] = at;
            block = (byte*)SkipBlock.Children(block)[at];
            SkipBlock.PrefetchLeaf(block);
        }

        return block;
    }

    private byte* NewBlock(int level, int skip)
    {
        byte* block = _arena.AllocateAligned(level == 0 ? SkipBlock.LeafBytes : SkipBlock.InnerBytes, SkipBlock.Alignment);
        SkipBlock.Initialize(block, level, skip);
        return block;
    }

    /// <summary>Puts an entry into a block that has room; in this order no pointer below the count is ever null.</summary>
    private static void Place(byte* block, int at, byte* entry, byte* child)
    {
        int count = SkipBlock.Count(block);
        Invariant.Check(count < SkipBlock.Capacity && at <= count);
        long* words = SkipBlock.Words(block);
        nint* entries = SkipBlock.Entries(block);
        for (int index = count; index > at; index--)
        {
            words[index] = words[index - 1];
            entries[index] = entries[index - 1];
        }

        words[at] = entry == null ? long.MinValue : SkipBlock.Word(SkipBlock.Key(entry), SkipBlock.Skip(block));
        entries[at] = (nint)entry;
        if (child != null)
        {
            nint* children = SkipBlock.Children(block);
            for (int index = count; index > at; index--)
                children[index] = children[index - 1];
            children[at] = (nint)child;
        }

        SkipBlock.Count(block) = count + 1;
    }

    /// <summary>Splits a full leaf, and above it what has no room for one more, and places an entry.</summary>
    private void Split(byte* leaf, int at, byte* entry)
    {
        byte* block = leaf, child = null;
        int level = 0;
        while (true)
        {
            Lock(block);
            byte* right = SplitBlock(block, at, entry, child);
            if (block == _lastLeaf)
                _lastLeaf = right;

            // One level up: the new block, by its first entry.
            entry = (byte*)SkipBlock.Entries(right)[0];
            child = right;
            level++;
            if (block == (byte*)_root)
            {
                byte* root = NewBlock(level, _skip);
                Place(root, 0, entry: null, block);
                Place(root, 1, entry, child);
                Volatile.Write(ref _root, (nint)root);
                break;
            }

            block = (byte*)_path[level];
            at = _pathAt[level] + 1;
            if (SkipBlock.Count(block) < SkipBlock.Capacity)
            {
                Lock(block);
                Place(block, at, entry, child);
                Unlock(block);
                break;
            }
        }

        // The parent has its new version already: whoever came through the old one and waits here starts over.
        Unlock(leaf);
        for (int split = 1; split < level; split++)
            Unlock((byte*)_path[split]);
    }

    /// <summary>Moves the upper half of a full block into a new one on its right, and places an entry in one of them.</summary>
    private byte* SplitBlock(byte* block, int at, byte* entry, byte* child)
    {
        int level = SkipBlock.Level(block);
        byte* right = NewBlock(level, SkipBlock.Skip(block));
        byte* oldHigh = (byte*)SkipBlock.High(block);

        // At the very end there will only be more of the same: the old block stays full.
        int kept = at == SkipBlock.Capacity && oldHigh == null ? SkipBlock.Capacity : SkipBlock.Capacity / 2;
        int moved = SkipBlock.Capacity - kept;
        new Span<long>(SkipBlock.Words(block) + kept, moved).CopyTo(new Span<long>(SkipBlock.Words(right), moved));
        new Span<nint>(SkipBlock.Entries(block) + kept, moved).CopyTo(new Span<nint>(SkipBlock.Entries(right), moved));
        if (level > 0)
            new Span<nint>(SkipBlock.Children(block) + kept, moved).CopyTo(new Span<nint>(SkipBlock.Children(right), moved));
        SkipBlock.Count(right) = moved;
        SkipBlock.Count(block) = kept;
        new Span<long>(SkipBlock.Words(block) + kept, moved).Fill(long.MaxValue);
        if (at > kept || moved == 0)
            Place(right, at - kept, entry, child);
        else
            Place(block, at, entry, child);

        byte* first = (byte*)SkipBlock.Entries(right)[0];
        SkipBlock.High(right) = (nint)oldHigh;
        SkipBlock.Next(right) = SkipBlock.Next(block);
        SkipBlock.High(block) = (nint)first;
        SkipBlock.Next(block) = (nint)right;
        byte* low = block == _firstLeaf ? null : (byte*)SkipBlock.Entries(block)[0];
        if (low != null)
            SkipMore(block, low, first);
        if (oldHigh != null)
            SkipMore(right, first, oldHigh);
        return right;
    }

    private static void SkipMore(byte* block, byte* low, byte* high)
    {
        int skip = SkipBlock.Key(low).CommonPrefixLength(SkipBlock.Key(high));
        Invariant.Check(skip >= SkipBlock.Skip(block));
        if (skip >= SkipBlock.Skip(block) + SkipGainMin)
            SetSkip(block, skip);
    }

    private static void SetSkip(byte* block, int skip)
    {
        SkipBlock.Skip(block) = skip;
        for (int index = 0; index < SkipBlock.Count(block); index++)
        {
            byte* entry = (byte*)SkipBlock.Entries(block)[index];
            if (entry != null)
                SkipBlock.Words(block)[index] = SkipBlock.Word(SkipBlock.Key(entry), skip);
        }
    }

    /// <summary>The keys have less in common from now on. The root comes last: readers check against its skip before they go down.</summary>
    private void Shorten(int skip)
    {
        Invariant.Check(skip < _skip);
        _skip = skip;
        byte* root = (byte*)_root;
        if (SkipBlock.Level(root) > 0)
        {
            ShortenEnd((byte*)SkipBlock.Children(root)[0], last: false);
            ShortenEnd((byte*)SkipBlock.Children(root)[SkipBlock.Count(root) - 1], last: true);
        }

        ShortenBlock(root);
    }

    private void ShortenEnd(byte* block, bool last)
    {
        if (SkipBlock.Level(block) > 0)
            ShortenEnd((byte*)SkipBlock.Children(block)[last ? SkipBlock.Count(block) - 1 : 0], last);
        ShortenBlock(block);
    }

    private void ShortenBlock(byte* block)
    {
        Lock(block);
        SetSkip(block, _skip);
        Unlock(block);
    }

    /// <summary>How a reader's way down ended.</summary>
    private enum Descent
    {
        /// <summary>In a leaf.</summary>
        Ended,

        /// <summary>The key is before all keys of the list.</summary>
        BeforeAll,

        /// <summary>The key is after all keys of the list, or there are none.</summary>
        AfterAll,

        /// <summary>The writer came in between: start over.</summary>
        Interrupted,
    }
}

/// <summary>Where a reader is in a <see cref="SkipList"/>. Default: nowhere.</summary>
internal readonly unsafe struct SkipPosition(byte* leaf, int version, int index, byte* entry)
{
    public byte* Leaf => leaf;

    /// <summary>Of the leaf, when the index was right.</summary>
    public int Version => version;

    public int Index => index;

    /// <summary>Null: no entry is there.</summary>
    public byte* Entry => entry;
}
