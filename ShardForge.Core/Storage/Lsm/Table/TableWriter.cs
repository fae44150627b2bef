using System.Runtime.InteropServices;
using K4os.Compression.LZ4;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>Writes one table from entries in their order. Format: <see cref="TableFormat"/>.</summary>
/// <remarks>
/// The file is written under its final name; nothing reads it before a version edit names it, and the next open removes it otherwise.
/// One thread. Not disposed by a failure: the caller deletes the file.
/// </remarks>
internal sealed class TableWriter(IFile file, ulong number, LsmOptions options, int suffixBytes, Action<int> written, TableBuffers? buffers = null)
{
    /// <summary>First size of the buffer in front of the file.</summary>
    public const int PendingBytes = WriteBytes + (16 * 1024);

    private const int WriteBytes = 256 * 1024;

    private readonly BlockBuilder _data = new(options.RestartInterval);
    private readonly BlockBuilder _meta = new(1);
    private readonly TableBuffers _buffers = buffers ?? new TableBuffers();
    private byte[] _lastKey = new byte[64];
    private byte[] _smallest = [], _largest = [];
    private bool _largestIsExclusive, _headerWritten;
    private int _pendingBytes, _lastKeyBytes;
    private long _offset, _entries, _deletes, _tombstones, _blocks, _keyBytes, _valueBytes;
    private ulong _lastTrailer, _smallestSequence = ulong.MaxValue, _largestSequence;

    /// <summary>About how long the file would be if it were finished now.</summary>
    public long EstimatedBytes => _offset + _pendingBytes + _data.EstimatedBytes + _buffers.Index.EstimatedBytes + (_buffers.Hashes.Count * options.BloomBitsPerKey / 8);

    public bool IsEmpty => _entries == 0 && _tombstones == 0;

    public long Entries => _entries;

    public ReadOnlySpan<byte> LastKey => _lastKey.AsSpan(0, _lastKeyBytes);

    public void Add(ReadOnlySpan<byte> key, ulong trailer, ReadOnlySpan<byte> value)
    {
        Invariant.Check(_tombstones == 0);
        Invariant.Check(_entries == 0 || EntryTrailer.Compare(LastKey, _lastTrailer, key, trailer) < 0);
        if (!_data.IsEmpty && _data.EstimatedBytes + key.Length + value.Length > options.BlockBytes)
            FinishDataBlock(key, trailer);
        if (_entries == 0)
            _smallest = key.ToArray();

        if (options.BloomBitsPerKey > 0)
        {
            ulong hash = BloomFilter.Hash(key, suffixBytes);
            if (_buffers.Hashes.Count == 0 || _buffers.Hashes[^1] != hash)
                _buffers.Hashes.Add(hash);
        }

        _data.Add(key, trailer, value);
        if (_lastKey.Length < key.Length)
            _lastKey = new byte[Math.Max(key.Length, 2 * _lastKey.Length)];
        key.CopyTo(_lastKey);
        _lastKeyBytes = key.Length;
        _lastTrailer = trailer;
        _entries++;
        _keyBytes += key.Length;
        _valueBytes += value.Length;
        if (EntryTrailer.Kind(trailer) == EntryKind.Delete)
            _deletes++;
        NoteSequence(EntryTrailer.Sequence(trailer));
    }

    /// <summary>Adds range tombstones, all of the table's at once, after the last entry.</summary>
    /// <param name="fragments">Disjoint, in key order; of one range, newest first.</param>
    public void AddTombstones(IReadOnlyList<RangeTombstone> fragments)
    {
        Invariant.Check(_tombstones == 0);
        foreach (RangeTombstone fragment in fragments)
        {
            _meta.Add(fragment.Start, EntryTrailer.Of(fragment.Sequence, EntryKind.RangeDelete), fragment.End);
            _tombstones++;
            NoteSequence(fragment.Sequence);
        }
    }

    /// <summary>Writes what is left and makes the file durable.</summary>
    public TableSummary Finish()
    {
        Invariant.Check(!IsEmpty);
        if (!_data.IsEmpty)
            FinishDataBlock(default, 0);
        if (_entries > 0)
            _largest = LastKey.ToArray();
        BlockHandle filter = default, tombstones = default;
        if (_buffers.Hashes.Count > 0)
            filter = WriteBlock(BloomFilter.Build(CollectionsMarshal.AsSpan(_buffers.Hashes), options.BloomBitsPerKey, ref _buffers.Filter), compress: false);
        if (_tombstones > 0)
        {
            IncludeTombstones();
            tombstones = WriteBlock(_meta.Finish(), compress: true);
            _meta.Reset();
        }

        new TableProperties
        {
            Entries = _entries,
            Deletes = _deletes,
            RangeDeletes = _tombstones,
            DataBlocks = _blocks,
            KeyBytes = _keyBytes,
            ValueBytes = _valueBytes,
            VersionSuffixBytes = suffixBytes,
            SmallestSequence = _smallestSequence,
            LargestSequence = _largestSequence,
            Filter = filter,
            Tombstones = tombstones,
        }.Write(_meta);
        BlockHandle properties = WriteBlock(_meta.Finish(), compress: false);
        BlockHandle index = WriteBlock(_buffers.Index.Finish(), compress: true);
        Span<byte> footer = stackalloc byte[TableFormat.FooterBytes];
        TableFormat.WriteFooter(footer, new(index, properties, number));
        Append(footer);
        WritePending();
        _buffers.Reset();
        file.Flush();
        return new TableSummary(_offset, _smallest, _largest, _largestIsExclusive, _smallestSequence, _largestSequence, _entries, _deletes, _tombstones);
    }

    private void NoteSequence(ulong sequence)
    {
        _smallestSequence = Math.Min(_smallestSequence, sequence);
        _largestSequence = Math.Max(_largestSequence, sequence);
    }

    private void IncludeTombstones()
    {
        BlockView view;
        ReadOnlySpan<byte> block = _meta.Finish();
        unsafe
        {
            fixed (byte* start = block)
            {
                Invariant.Require(BlockView.TryOpen(start, block.Length, out view));
                BlockCursor cursor = new();
                cursor.Open(view);
                cursor.SeekFirst();
                if (_entries == 0 || cursor.Key.SequenceCompareTo(_smallest) < 0)
                    _smallest = cursor.Key.ToArray();
                cursor.SeekLast();
                if (_entries == 0 || cursor.Value.SequenceCompareTo(_largest) > 0)
                {
                    _largest = cursor.Value.ToArray();
                    _largestIsExclusive = true;
                }
            }
        }
    }

    private void FinishDataBlock(ReadOnlySpan<byte> nextKey, ulong nextTrailer)
    {
        BlockHandle handle = WriteBlock(_data.Finish(), compress: true);
        _data.Reset();
        _blocks++;
        Span<byte> value = stackalloc byte[BlockHandle.EncodedBytesMax];
        int valueBytes = handle.Write(value);

        // Same key on both sides: only the trailer separates. Else a short key that is at or above all of this block.
        if (nextTrailer != 0 && nextKey.SequenceEqual(LastKey))
            _buffers.Index.Add(LastKey, _lastTrailer, value[..valueBytes]);
        else
            _buffers.Index.Add(nextTrailer == 0 ? LastKey : Separator.Between(LastKey, nextKey), EntryTrailer.Oldest, value[..valueBytes]);
    }

    private BlockHandle WriteBlock(ReadOnlySpan<byte> block, bool compress)
    {
        if (!_headerWritten)
        {
            Span<byte> header = stackalloc byte[TableFormat.HeaderBytes];
            TableFormat.WriteHeader(header);
            _headerWritten = true;
            Append(header);
        }

        long offset = _offset + _pendingBytes;
        int lengthBytesMax = Varint.Bytes32Max;
        int compressedMax = compress && options.Compression == LsmCompression.Lz4 ? LZ4Codec.MaximumOutputSize(block.Length) + lengthBytesMax : 0;
        Span<byte> target = Reserve(Math.Max(compressedMax, block.Length) + TableFormat.BlockTrailerBytes);
        int bytes = 0;
        BlockCompression compression = BlockCompression.None;
        if (compressedMax > 0)
        {
            int lengthBytes = Varint.Write(target, (uint)block.Length);
            int encoded = LZ4Codec.Encode(block, target[lengthBytes..compressedMax], LZ4Level.L00_FAST);

            // An eighth less, or reading it costs more than it saves.
            if (encoded > 0 && lengthBytes + encoded < block.Length - (block.Length / 8))
            {
                bytes = lengthBytes + encoded;
                compression = BlockCompression.Lz4;
            }
        }

        if (compression == BlockCompression.None)
        {
            block.CopyTo(target);
            bytes = block.Length;
        }

        target[bytes] = (byte)compression;
        uint crc = Crc32C.Append(TableFormat.BlockSeed(number, offset), target[..(bytes + 1)]);
        System.Buffers.Binary.BinaryPrimitives.WriteUInt32LittleEndian(target[(bytes + 1)..], crc);
        _pendingBytes += bytes + TableFormat.BlockTrailerBytes;
        if (_pendingBytes >= WriteBytes)
            WritePending();
        return new BlockHandle(offset, bytes);
    }

    private void Append(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(Reserve(bytes.Length));
        _pendingBytes += bytes.Length;
    }

    private Span<byte> Reserve(int bytes)
    {
        if (_buffers.Pending.Length - _pendingBytes < bytes)
            Array.Resize(ref _buffers.Pending, (int)Math.Min(Array.MaxLength, Math.Max((long)_pendingBytes + bytes, 2L * _buffers.Pending.Length)));
        return _buffers.Pending.AsSpan(_pendingBytes);
    }

    private void WritePending()
    {
        file.Write(_buffers.Pending.AsSpan(0, _pendingBytes), _offset);
        _offset += _pendingBytes;
        written(_pendingBytes);
        _pendingBytes = 0;
    }
}

/// <summary>What the manifest keeps of a finished table.</summary>
internal sealed record TableSummary(long Bytes, byte[] Smallest, byte[] Largest, bool LargestIsExclusive, ulong SmallestSequence, ulong LargestSequence, long Entries, long Deletes, long Tombstones);
