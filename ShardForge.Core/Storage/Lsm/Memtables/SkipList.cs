using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ShardForge.Storage.Lsm.Memtables;

/// <summary>Sorted entries in an arena: one writer, any number of readers that take no lock.</summary>
/// <remarks><code>
/// node | next[height-1] ... next[1] | next[0] 8 | key word 8 | trailer 8 | key bytes 4 | value bytes 4 | key | value |
///                                   ^ a node's address
///   key word  the first eight bytes of the key, big-endian, zero-filled: most comparisons end with it
/// </code>
/// A skip list with inlined links (Pugh 1990; the layout after RocksDB's InlineSkipList). Nothing is ever removed or changed but links.
/// 1. The writer finds, on each level, the last node before the new one.
/// 2. It fills the node, its links included, and then publishes it level by level from the bottom with a releasing store.
/// 3. A reader that loads a link (acquiring) sees a whole node. It may miss a node on an upper level that it would meet on a lower one: it
///    then only walks a little longer.
/// Lifetime: the memtable that owns the arena is held by whoever reads.</remarks>
internal sealed unsafe class SkipList
{
    private const int HeightMax = 12, BranchingShift = 2;
    private const int WordAt = 8, TrailerAt = 16, KeyBytesAt = 24, ValueBytesAt = 28, KeyAt = 32;

    private readonly Arena _arena;
    private readonly byte* _head;

    // The writer's: the last node of each level, so that ascending inserts need no search.
    private readonly nint[] _tail = new nint[HeightMax];
    private readonly nint[] _before = new nint[HeightMax];
    private int _height = 1;
    private ulong _random;

    public SkipList(Arena arena, ulong seed)
    {
        _arena = arena;
        _random = seed | 1;
        _head = AllocateNode(HeightMax, 0, 0);
        for (int level = 0; level < HeightMax; level++)
        {
            *Link(_head, level) = 0;
            _tail[level] = (nint)_head;
        }
    }

    public static ReadOnlySpan<byte> Key(byte* node) => new(node + KeyAt, *(int*)(node + KeyBytesAt));

    public static ulong Trailer(byte* node) => *(ulong*)(node + TrailerAt);

    public static ReadOnlySpan<byte> Value(byte* node) => new(node + KeyAt + *(int*)(node + KeyBytesAt), *(int*)(node + ValueBytesAt));

    /// <summary>Adds an entry; (key, trailer) is not there yet.</summary>
    public void Insert(ReadOnlySpan<byte> key, ulong trailer, ReadOnlySpan<byte> value)
    {
        int height = RandomHeight();
        byte* node = AllocateNode(height, key.Length, value.Length);
        ulong word = Word(key);
        *(ulong*)(node + WordAt) = word;
        *(ulong*)(node + TrailerAt) = trailer;
        *(int*)(node + KeyBytesAt) = key.Length;
        *(int*)(node + ValueBytesAt) = value.Length;
        key.CopyTo(new Span<byte>(node + KeyAt, key.Length));
        value.CopyTo(new Span<byte>(node + KeyAt + key.Length, value.Length));

        byte* last = (byte*)_tail[0];
        bool ascending = last == _head || Compare(last, word, key, trailer) < 0;
        if (!ascending)
            FindBefore(word, key, trailer);
        if (height > _height)
        {
            for (int level = _height; level < height; level++)
                _before[level] = (nint)_head;
            Volatile.Write(ref _height, height);
        }

        nint[] before = ascending ? _tail : _before;
        for (int level = 0; level < height; level++)
        {
            nint next = *Link((byte*)before[level], level);
            Invariant.Check(level > 0 || next == 0 || Compare((byte*)next, word, key, trailer) > 0);
            *Link(node, level) = next;
            Volatile.Write(ref *Link((byte*)before[level], level), (nint)node);
            if (next == 0)
                _tail[level] = (nint)node;
        }
    }

    public byte* First() => (byte*)Volatile.Read(ref *Link(_head, 0));

    public static byte* Next(byte* node) => (byte*)Volatile.Read(ref *Link(node, 0));

    /// <summary>The first node at or after (key, trailer); null: none.</summary>
    public byte* FindAtOrAfter(ReadOnlySpan<byte> key, ulong trailer)
    {
        ulong word = Word(key);
        byte* at = _head;
        int level = Volatile.Read(ref _height) - 1;
        byte* known = null;
        while (true)
        {
            byte* next = (byte*)Volatile.Read(ref *Link(at, level));
            if (next != null && next != known && Compare(next, word, key, trailer) < 0)
            {
                at = next;
            }
            else if (level == 0)
            {
                return next;
            }
            else
            {
                known = next;
                level--;
            }
        }
    }

    /// <summary>The last node before (key, trailer); null: none.</summary>
    public byte* FindLastBefore(ReadOnlySpan<byte> key, ulong trailer)
    {
        ulong word = Word(key);
        byte* at = _head;
        int level = Volatile.Read(ref _height) - 1;
        while (true)
        {
            byte* next = (byte*)Volatile.Read(ref *Link(at, level));
            if (next != null && Compare(next, word, key, trailer) < 0)
                at = next;
            else if (level == 0)
                return at == _head ? null : at;
            else
                level--;
        }
    }

    public byte* Last()
    {
        byte* at = _head;
        int level = Volatile.Read(ref _height) - 1;
        while (true)
        {
            byte* next = (byte*)Volatile.Read(ref *Link(at, level));
            if (next != null)
                at = next;
            else if (level == 0)
                return at == _head ? null : at;
            else
                level--;
        }
    }

    private static nint* Link(byte* node, int level) => (nint*)node - level;

    private static ulong Word(ReadOnlySpan<byte> key)
    {
        if (key.Length >= sizeof(ulong))
            return BinaryPrimitives.ReadUInt64BigEndian(key);
        ulong word = 0;
        for (int at = 0; at < key.Length; at++)
            word |= (ulong)key[at] << (56 - (8 * at));
        return word;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Compare(byte* node, ulong word, ReadOnlySpan<byte> key, ulong trailer)
    {
        ulong nodeWord = *(ulong*)(node + WordAt);
        return nodeWord != word ? (nodeWord < word ? -1 : 1) : CompareRest(node, key, trailer);
    }

    private static int CompareRest(byte* node, ReadOnlySpan<byte> key, ulong trailer)
    {
        int nodeKeyBytes = *(int*)(node + KeyBytesAt);
        int order = nodeKeyBytes >= sizeof(ulong) && key.Length >= sizeof(ulong)
            ? new ReadOnlySpan<byte>(node + KeyAt + sizeof(ulong), nodeKeyBytes - sizeof(ulong)).SequenceCompareTo(key[sizeof(ulong)..])
            : Key(node).SequenceCompareTo(key);
        return order != 0 ? order : trailer.CompareTo(*(ulong*)(node + TrailerAt));
    }

    private void FindBefore(ulong word, ReadOnlySpan<byte> key, ulong trailer)
    {
        byte* at = _head;
        byte* known = null;
        for (int level = _height - 1; level >= 0; level--)
        {
            byte* next = (byte*)*Link(at, level);
            while (next != null && next != known && Compare(next, word, key, trailer) < 0)
            {
                at = next;
                next = (byte*)*Link(at, level);
            }

            known = next;
            _before[level] = (nint)at;
        }
    }

    private byte* AllocateNode(int height, int keyBytes, int valueBytes)
    {
        int linkBytes = (height - 1) * sizeof(nint);
        return _arena.Allocate(checked(linkBytes + KeyAt + keyBytes + valueBytes)) + linkBytes;
    }

    private int RandomHeight()
    {
        // xorshift64 (Marsaglia 2003); two bits a level: a quarter of the nodes reach the next one.
        _random ^= _random << 13;
        _random ^= _random >> 7;
        _random ^= _random << 17;
        int zeros = System.Numerics.BitOperations.TrailingZeroCount(_random >> 8);
        return Math.Min(HeightMax, 1 + (zeros >> (BranchingShift - 1)));
    }
}
