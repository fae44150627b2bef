using System.Buffers.Binary;
using System.Runtime.InteropServices;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>Builds one block: sorted entries, prefix-compressed. Data, index, range-tombstone and property blocks are all of this form.</summary>
/// <remarks><code>
/// block    | entry ... | trailers | restarts | hash index | tail 16 |                       little-endian
/// entry    | shared varint | own varint | value bytes varint | own key bytes | value |
///   shared   bytes taken over from the key of the restart before: all that they have in common, a search relies on it; 0 at every restart (each restart
///            interval-th entry, from the first). So an entry can be read with its restart's key and nothing in between, and inside an interval it never grows
/// trailers | entryCount × trailer width | trailer - trailer base of each entry: a column, so that a search touches only keys, and nothing where all are alike
/// restarts | count = ceil(entryCount / interval) | offset of the restart's entry: 2 bytes each, 4 where the flag says so
/// hash     | 2^log bytes | restart number per bucket of XxHash3(key) (low bits); 254: several, 255: none. Absent where log is 255; a reader may ignore it
/// tail     | trailer base 8 | entryCount 4 | restart interval 1 | trailer width 1 | hash log 1 | flags 1 |
///   flags    1: restart offsets have 4 bytes; others 0
/// </code>
/// Versions of the format: 2 (this one); the table's footer carries the number. Version 2 writes no hash index, since one does not compress: see BlockTags; it reads over one.
/// One thread.</remarks>
internal sealed class BlockBuilder(int restartInterval)
{
    public const int TailBytes = 16;
    public const byte NoHash = 255, WideOffsets = 1;

    private readonly List<int> _restarts = [];
    private readonly List<ulong> _trailers = [];
    private byte[] _buffer = new byte[8 * 1024];
    private byte[] _lastKey = new byte[64];
    private int _length, _lastKeyBytes, _restartKeyAt, _restartKeyBytes;
    private ulong _trailerMin = ulong.MaxValue, _trailerMax;

    public int EntryCount => _trailers.Count;

    public bool IsEmpty => _trailers.Count == 0;

    /// <summary>About how long the block would be if it were finished now.</summary>
    public int EstimatedBytes => _length + (2 * _restarts.Count) + TailBytes;

    public ReadOnlySpan<byte> LastKey => _lastKey.AsSpan(0, _lastKeyBytes);

    public void Add(ReadOnlySpan<byte> key, ulong trailer, ReadOnlySpan<byte> value)
    {
        Invariant.Check(IsEmpty || EntryTrailer.Compare(LastKey, _trailers[^1], key, trailer) < 0);
        int shared = 0;
        bool isRestart = _trailers.Count % restartInterval == 0;
        if (isRestart)
            _restarts.Add(_length);
        else
            shared = _buffer.AsSpan(_restartKeyAt, _restartKeyBytes).CommonPrefixLength(key);

        ReadOnlySpan<byte> own = key[shared..];
        Span<byte> target = Reserve((3 * Varint.Bytes32Max) + own.Length + value.Length);
        int at = Varint.Write(target, (uint)shared);
        at += Varint.Write(target[at..], (uint)own.Length);
        at += Varint.Write(target[at..], (uint)value.Length);
        own.CopyTo(target[at..]);
        if (isRestart)
            (_restartKeyAt, _restartKeyBytes) = (_length + at, own.Length);
        value.CopyTo(target[(at + own.Length)..]);
        _length += at + own.Length + value.Length;

        _trailers.Add(trailer);
        _trailerMin = Math.Min(_trailerMin, trailer);
        _trailerMax = Math.Max(_trailerMax, trailer);
        if (_lastKey.Length < key.Length)
            Array.Resize(ref _lastKey, Math.Max(key.Length, 2 * _lastKey.Length));
        key.CopyTo(_lastKey);
        _lastKeyBytes = key.Length;
    }

    /// <summary>The whole block; lives until <see cref="Reset"/>.</summary>
    public ReadOnlySpan<byte> Finish()
    {
        ulong trailerBase = IsEmpty ? 0 : _trailerMin;
        ulong spread = IsEmpty ? 0 : _trailerMax - _trailerMin;
        int width = (64 - System.Numerics.BitOperations.LeadingZeroCount(spread) + 7) / 8;
        int trailersAt = _length;
        Span<byte> target = Reserve((_trailers.Count * width) + sizeof(ulong) + (4 * _restarts.Count) + TailBytes);
        int at = 0;
        foreach (ulong trailer in CollectionsMarshal.AsSpan(_trailers))
        {
            // Eight bytes are written and the next ones overwrite what is too much; the reserve covers the last.
            BinaryPrimitives.WriteUInt64LittleEndian(target[at..], trailer - trailerBase);
            at += width;
        }

        bool wide = trailersAt > ushort.MaxValue;
        foreach (int restart in CollectionsMarshal.AsSpan(_restarts))
        {
            if (wide)
                BinaryPrimitives.WriteInt32LittleEndian(target[at..], restart);
            else
                BinaryPrimitives.WriteUInt16LittleEndian(target[at..], (ushort)restart);
            at += wide ? 4 : 2;
        }

        BinaryPrimitives.WriteUInt64LittleEndian(target[at..], trailerBase);
        BinaryPrimitives.WriteInt32LittleEndian(target[(at + 8)..], _trailers.Count);
        target[at + 12] = (byte)restartInterval;
        target[at + 13] = (byte)width;
        target[at + 14] = NoHash;
        target[at + 15] = wide ? WideOffsets : (byte)0;
        _length += at + TailBytes;
        return _buffer.AsSpan(0, _length);
    }

    public void Reset()
    {
        _length = _lastKeyBytes = 0;
        _restarts.Clear();
        _trailers.Clear();
        _trailerMin = ulong.MaxValue;
        _trailerMax = 0;

        // One huge value must not keep its buffer for the rest of a long compaction.
        if (_buffer.Length > 4 * 1024 * 1024)
            _buffer = new byte[64 * 1024];
    }

    private Span<byte> Reserve(int bytes)
    {
        if (_buffer.Length - _length < bytes)
            Array.Resize(ref _buffer, (int)Math.Min(Array.MaxLength, Math.Max((long)_length + bytes, 2L * _buffer.Length)));
        return _buffer.AsSpan(_length);
    }
}
