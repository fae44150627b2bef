using System.Numerics;
using System.Runtime.InteropServices;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>The index of an open table, laid out for finding a block in a few cache lines, with a cell per block for <see cref="BlockCache"/>.</summary>
/// <remarks><code>
/// words 8 × n | cells 8 × n | offsets 8 × n | bytes 4 × n | starts 4 × (buckets + 1) |       native memory, n blocks
///   words   of each separator, the eight bytes behind what all separators start with (KeyWord)
///   starts  first block of each bucket; a bucket is what (word - first word) >> shift gives, so evenly spread keys need a look at few words
/// </code>
/// The index block stays too: where words are alike, whole separators are compared. Immutable but for the cells. The caller frees it when no reader is left.</remarks>
internal sealed unsafe class TableIndex : IDisposable
{
    private const int BlocksPerBucket = 4;
    private readonly byte* _block;
    private readonly BlockView _view;
    private readonly byte* _prefix;
    private readonly int _prefixBytes, _shift;
    private readonly ulong* _words;
    private readonly nint* _cells;
    private readonly long* _offsets;
    private readonly int* _bytes;
    private readonly int* _starts;
    private bool _freed;

    private TableIndex(byte* block, int blockBytes, in BlockView view)
    {
        _block = block;
        _view = view;
        int count = BlockCount = view.EntryCount;
        // Two at least: a shift by all 64 bits would be none.
        int buckets = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(2, count / BlocksPerBucket));
        long bytes = (28L * count) + (4L * (buckets + 1));
        byte* memory = (byte*)NativeMemory.AlignedAlloc((nuint)Math.Max(64, bytes), 64);
        _words = (ulong*)memory;
        _cells = (nint*)(_words + count);
        _offsets = (long*)(_cells + count);
        _bytes = (int*)(_offsets + count);
        _starts = _bytes + count;
        MemoryBytes = blockBytes + bytes;
        if (count == 0)
            return;

        ReadOnlySpan<byte> first = view.RestartKey(0), last = view.RestartKey(count - 1);
        _prefixBytes = first.CommonPrefixLength(last);
        _prefix = (byte*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref MemoryMarshal.GetReference(first));
        for (int at = 0; at < count; at++)
        {
            _words[at] = KeyWord.Of(view.RestartKey(at)[_prefixBytes..]);
            _cells[at] = 0;
        }

        _shift = Math.Max(0, 64 - BitOperations.LeadingZeroCount(_words[count - 1] - _words[0]) - BitOperations.Log2((uint)buckets));
        int bucket = 0;
        for (int at = 0; at < count; at++)
        {
            for (; bucket <= Bucket(_words[at]); bucket++)
                _starts[bucket] = at;
        }

        for (; bucket <= buckets; bucket++)
            _starts[bucket] = count;
    }

    public int BlockCount { get; }

    /// <summary>Native memory held, in bytes.</summary>
    public long MemoryBytes { get; }

    public nint* Cells => _cells;

    /// <summary>Takes over an index block.</summary>
    /// <returns>Null: it is not one; then it is still the caller's.</returns>
    public static TableIndex? TryCreate(byte* block, int bytes)
    {
        if (!BlockView.TryOpen(block, bytes, out BlockView view) || (view.EntryCount > 0 && view.RestartInterval != 1))
            return null;
        TableIndex index = new(block, bytes, view);
        for (int at = 0; at < index.BlockCount; at++)
        {
            if (!BlockHandle.TryRead(view.RestartValue(at), out BlockHandle handle))
            {
                index.FreeWords();
                return null;
            }

            index._offsets[at] = handle.Offset;
            index._bytes[at] = handle.Bytes;
        }

        return index;
    }

    public BlockHandle Handle(int at) => new(_offsets[at], _bytes[at]);

    public nint* Cell(int at) => _cells + at;

    /// <summary>Key that is at or above all of a block, and below the next one's.</summary>
    public ReadOnlySpan<byte> Separator(int at) => _view.RestartKey(at);

    public ulong SeparatorTrailer(int at) => _view.Trailer(at);

    /// <summary>The first block whose separator is at or after (key, trailer): the only one that can have the entry, or end before it; the count: none.</summary>
    public int Find(ReadOnlySpan<byte> key, ulong trailer)
    {
        int count = BlockCount;
        if (count == 0)
            return 0;
        if (_prefixBytes > 0)
        {
            ReadOnlySpan<byte> prefix = new(_prefix, _prefixBytes);
            if (!key.StartsWith(prefix))
                return key.SequenceCompareTo(prefix) < 0 ? 0 : count;
            key = key[_prefixBytes..];
        }

        ulong word = KeyWord.Of(key), first = _words[0];
        if (word < first)
            return 0;
        if (word > _words[count - 1])
            return count;
        int bucket = Bucket(word);
        int found = KeyWord.LowerBound(_words, _starts[bucket], _starts[bucket + 1], word);
        return found == count || _words[found] != word ? found : FindAmongEqual(found, word, key, trailer);
    }

    public void Dispose()
    {
        if (_freed)
            return;
        FreeWords();
        NativeMemory.Free(_block);
    }

    private int Bucket(ulong word) => (int)((word - _words[0]) >> _shift);

    private int FindAmongEqual(int low, ulong word, ReadOnlySpan<byte> rest, ulong trailer)
    {
        int high = word == ulong.MaxValue ? BlockCount : KeyWord.LowerBound(_words, low, BlockCount, word + 1);
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (EntryTrailer.Compare(Separator(middle)[_prefixBytes..], SeparatorTrailer(middle), rest, trailer) < 0)
                low = middle + 1;
            else
                high = middle;
        }

        return low;
    }

    private void FreeWords()
    {
        _freed = true;
        NativeMemory.AlignedFree(_words);
    }
}
