using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>A block in memory, its tail decoded and checked. Format: <see cref="BlockBuilder"/>. Borrows the bytes; whoever made it keeps them pinned.</summary>
/// <remarks>The checksum was right, so bytes that do not fit were written wrong; every length is checked all the same before it is followed.</remarks>
internal readonly unsafe struct BlockView
{
    private readonly byte* _start;
    private readonly byte* _trailers;
    private readonly byte* _restarts;
    private readonly ulong _trailerBase;
    private readonly byte _trailerWidth;
    private readonly bool _wideOffsets;

    private BlockView(byte* start, byte* trailers, ulong trailerBase, byte trailerWidth, bool wide, int entryCount, int restartInterval)
    {
        _start = start;
        _trailers = trailers;
        _restarts = trailers + ((long)entryCount * trailerWidth);
        _trailerBase = trailerBase;
        _trailerWidth = trailerWidth;
        _wideOffsets = wide;
        EntryCount = entryCount;
        RestartInterval = restartInterval;
    }

    public int EntryCount { get; }

    public int RestartInterval { get; }

    public int RestartCount => (int)((EntryCount + (long)RestartInterval - 1) / RestartInterval);

    /// <summary>Where the entries start.</summary>
    public byte* Start => _start;

    /// <summary>Where the entries end.</summary>
    public byte* End => _trailers;

    /// <summary>False: the bytes are not a block.</summary>
    public static bool TryOpen(byte* block, int bytes, out BlockView view)
    {
        view = default;
        if (bytes < BlockBuilder.TailBytes)
            return false;
        byte* tail = block + bytes - BlockBuilder.TailBytes;
        ulong trailerBase = Unsafe.ReadUnaligned<ulong>(tail);
        int entryCount = Unsafe.ReadUnaligned<int>(tail + 8);
        int interval = tail[12], width = tail[13], hashLog = tail[14], flags = tail[15];
        if (entryCount < 0 || interval == 0 || width > 8 || flags > 1 || (hashLog > 16 && hashLog != BlockBuilder.NoHash))
            return false;
        bool wide = flags == BlockBuilder.WideOffsets;
        int restartCount = (int)(((long)entryCount + interval - 1) / interval);
        long hashBytes = hashLog == BlockBuilder.NoHash ? 0 : 1L << hashLog;
        long behind = ((long)entryCount * width) + ((long)restartCount * (wide ? 4 : 2)) + hashBytes + BlockBuilder.TailBytes;
        if (behind > bytes)
            return false;
        byte* trailers = block + (bytes - behind);
        view = new(block, trailers, trailerBase, (byte)width, wide, entryCount, interval);
        return true;
    }

    /// <summary>The same entries with all trailers higher by so much: those of a table that was taken in from outside.</summary>
    public BlockView WithTrailersAbove(ulong trailer) => new(_start, _trailers, _trailerBase + trailer, _trailerWidth, _wideOffsets, EntryCount, RestartInterval);

    /// <summary>A block whose header <see cref="Describe"/> has filled.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockView Of(CachedBlock* block)
    {
        byte* content = CachedBlock.Content(block);
        return new(content, content + block->TrailersAt, block->TrailerBase, block->TrailerWidth, block->WideOffsets, block->EntryCount, block->RestartInterval);
    }

    /// <summary>Writes what a view needs into a block's header.</summary>
    public void Describe(CachedBlock* block)
    {
        block->TrailersAt = (int)(_trailers - _start);
        block->TrailerBase = _trailerBase;
        block->TrailerWidth = _trailerWidth;
        block->WideOffsets = _wideOffsets;
        block->EntryCount = EntryCount;
        block->RestartInterval = (byte)RestartInterval;
    }

    public byte* Restart(int index)
    {
        Invariant.Check(index < RestartCount);
        uint offset = _wideOffsets ? Unsafe.ReadUnaligned<uint>(_restarts + (4L * index)) : Unsafe.ReadUnaligned<ushort>(_restarts + (2L * index));
        if (offset >= (ulong)(_trailers - _start))
            ThrowMalformed();
        return _start + offset;
    }

    public ulong Trailer(int entry)
    {
        if (_trailerWidth == 0)
            return _trailerBase;
        // Eight bytes are there in any case: the tail follows.
        ulong value = Unsafe.ReadUnaligned<ulong>(_trailers + ((long)entry * _trailerWidth));
        return _trailerBase + (value & (ulong.MaxValue >> (64 - (8 * _trailerWidth))));
    }

    /// <summary>Key of the entry at a restart.</summary>
    public ReadOnlySpan<byte> RestartKey(int index)
    {
        byte* at = Restart(index);
        DecodeEntry(ref at, out _, out int own, out _);
        return new(at, own);
    }

    /// <summary>Value of the entry at a restart.</summary>
    public ReadOnlySpan<byte> RestartValue(int index)
    {
        byte* at = Restart(index);
        DecodeEntry(ref at, out _, out int own, out int valueBytes);
        return new(at + own, valueBytes);
    }

    /// <summary>Reads an entry's lengths; <paramref name="at"/> comes out at its own key bytes, which the value follows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void DecodeEntry(ref byte* at, out int shared, out int own, out int valueBytes)
    {
        if (_trailers - at >= 3 && (at[0] | at[1] | at[2]) < 0x80)
        {
            shared = at[0];
            own = at[1];
            valueBytes = at[2];
            at += 3;
        }
        else
        {
            shared = ReadVarint(ref at);
            own = ReadVarint(ref at);
            valueBytes = ReadVarint(ref at);
        }

        if ((long)own + valueBytes > _trailers - at)
            ThrowMalformed();
    }

    /// <summary>The last restart whose key is before (key, trailer); 0 where there is none.</summary>
    public int FindRestart(ReadOnlySpan<byte> key, ulong trailer)
    {
        int low = 0, high = RestartCount - 1;
        while (low < high)
        {
            int middle = (low + high + 1) >>> 1;
            int order = RestartKey(middle).SequenceCompareTo(key);
            if (order == 0)
                order = trailer.CompareTo(Trailer(middle * RestartInterval));
            if (order < 0)
                low = middle;
            else
                high = middle - 1;
        }

        return low;
    }

    [DoesNotReturn]
    public static void ThrowMalformed() => throw new InvalidDataException("The block's checksum is right and its content is not a block.");

    private int ReadVarint(ref byte* at)
    {
        uint number = 0;
        for (int shift = 0; shift < 35; shift += 7)
        {
            if (at >= _trailers)
                ThrowMalformed();
            byte group = *at++;
            number |= (uint)(group & 0x7F) << shift;
            if (group < 0x80)
            {
                if (number > int.MaxValue)
                    ThrowMalformed();
                return (int)number;
            }
        }

        ThrowMalformed();
        return 0;
    }
}
