using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>The first eight bytes of a key as a number: most comparisons end with it. Shorter keys are filled with zeros, so equal words decide nothing.</summary>
internal static unsafe class KeyWord
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Of(ReadOnlySpan<byte> key) => key.Length >= sizeof(ulong) ? BinaryPrimitives.ReadUInt64BigEndian(key) : OfShort(key);

    /// <summary>Index of the first word at or above <paramref name="wanted"/> in [from, end); <paramref name="end"/>: none. No branch depends on what is compared.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int LowerBound(ulong* words, int from, int end, ulong wanted)
    {
        ulong* at = words + from;
        int count = end - from;
        while (count > 1)
        {
            int half = count >> 1;
            at += half & -Below(at[half - 1], wanted);
            count -= half;
        }

        return (int)(at - words) + (count == 1 ? Below(*at, wanted) : 0);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Below(ulong word, ulong wanted)
    {
        bool below = word < wanted;
        return Unsafe.As<bool, byte>(ref below);
    }

    private static ulong OfShort(ReadOnlySpan<byte> key)
    {
        ulong word = 0;
        for (int at = 0; at < key.Length; at++)
            word |= (ulong)key[at] << (56 - (8 * at));
        return word;
    }
}
