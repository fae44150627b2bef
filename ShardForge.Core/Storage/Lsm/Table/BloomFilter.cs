using System.Buffers.Binary;
using System.IO.Hashing;
using System.Runtime.CompilerServices;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>A bloom filter of whole cache lines: all probes of one key are in one line of 64 bytes.</summary>
/// <remarks><code>
/// filter | line 64 | line 64 | ... | line count 4 | probes 1 | kind 1 | zero 2 |        kind 1: this one
/// hash     XxHash3, seed 0, of the key without its version suffix; its high 32 bits choose the line, its low 32 the bits
/// probe    bit = top 9 bits of the low half; then the half is multiplied by 9e3779b9
/// </code>
/// After Putze, Sanders, Singler, "Cache-, hash- and space-efficient bloom filters" (2007), and RocksDB's FastLocalBloom. At 10 bits a key
/// about one key in a hundred passes wrongly.</remarks>
internal static unsafe class BloomFilter
{
    private const int LineBytes = 64, TailBytes = 8;
    private const byte CacheLineKind = 1;
    private const uint Golden = 0x9e3779b9;

    public static ulong Hash(ReadOnlySpan<byte> key, int suffixBytes) => XxHash3.HashToUInt64(KeyGroup.Of(key, suffixBytes));

    public static byte[] Build(ReadOnlySpan<ulong> hashes, int bitsPerKey)
    {
        byte[] buffer = [];
        return Build(hashes, bitsPerKey, ref buffer).ToArray();
    }

    /// <summary>The same in a buffer, which is replaced if it is too short.</summary>
    public static ReadOnlySpan<byte> Build(ReadOnlySpan<ulong> hashes, int bitsPerKey, ref byte[] buffer)
    {
        int lines = (int)Math.Clamp(((long)hashes.Length * bitsPerKey + 511) / 512, 1, (Array.MaxLength - TailBytes) / LineBytes);
        int probes = Math.Clamp((int)(bitsPerKey * 0.6), 1, 16);
        int bytes = (lines * LineBytes) + TailBytes;
        if (buffer.Length < bytes)
            buffer = new byte[bytes];
        Span<byte> filter = buffer.AsSpan(0, bytes);
        filter.Clear();
        foreach (ulong hash in hashes)
        {
            Span<byte> line = filter.Slice(Line(hash, lines) * LineBytes, LineBytes);
            uint bits = (uint)hash;
            for (int probe = 0; probe < probes; probe++, bits *= Golden)
                line[(int)(bits >> 26)] |= (byte)(1 << (int)((bits >> 23) & 7));
        }

        Span<byte> tail = filter[(lines * LineBytes)..];
        BinaryPrimitives.WriteInt32LittleEndian(tail, lines);
        tail[4] = (byte)probes;
        tail[5] = CacheLineKind;
        return filter;
    }

    /// <summary>False: the bytes are not a filter of this kind.</summary>
    public static bool IsWellFormed(ReadOnlySpan<byte> filter)
    {
        if (filter.Length < LineBytes + TailBytes)
            return false;
        ReadOnlySpan<byte> tail = filter[^TailBytes..];
        return BinaryPrimitives.ReadInt32LittleEndian(tail) == (filter.Length - TailBytes) / LineBytes && (filter.Length - TailBytes) % LineBytes == 0 &&
            tail[4] is > 0 and <= 16 && tail[5] == CacheLineKind;
    }

    /// <summary>False: no key with this hash was added. The filter is well formed.</summary>
    public static bool MayContain(byte* filter, int bytes, ulong hash)
    {
        byte* tail = filter + bytes - TailBytes;
        byte* line = filter + ((long)Line(hash, *(int*)tail) * LineBytes);
        uint bits = (uint)hash;
        for (int probe = tail[4]; probe > 0; probe--, bits *= Golden)
        {
            if ((line[bits >> 26] & (1 << (int)((bits >> 23) & 7))) == 0)
                return false;
        }

        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Line(ulong hash, int lines) => (int)(((hash >> 32) * (ulong)lines) >> 32);
}
