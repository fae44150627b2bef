namespace ShardForge.Common;

/// <summary>Numbers in 7-bit groups, low group first, the high bit says that more follows (LEB128).</summary>
internal static class Varint
{
    public const int Bytes32Max = 5, Bytes64Max = 10;

    public static int Write(Span<byte> target, uint number) => Write(target, (ulong)number);

    public static int Write(Span<byte> target, ulong number)
    {
        int at = 0;
        while (number >= 0x80)
        {
            target[at++] = (byte)(number | 0x80);
            number >>= 7;
        }

        target[at++] = (byte)number;
        return at;
    }

    public static int Length(ulong number) => number == 0 ? 1 : (70 - System.Numerics.BitOperations.LeadingZeroCount(number)) / 7;

    /// <summary>False: the bytes end inside the number, or it does not fit.</summary>
    public static bool TryRead(ReadOnlySpan<byte> source, out uint number, out int bytes)
    {
        bool read = TryRead(source, out ulong wide, out bytes) && wide <= uint.MaxValue;
        number = read ? (uint)wide : 0;
        return read;
    }

    /// <summary>False: the bytes end inside the number, or it does not fit.</summary>
    public static bool TryRead(ReadOnlySpan<byte> source, out ulong number, out int bytes)
    {
        number = 0;
        for (bytes = 0; bytes < source.Length && bytes < Bytes64Max; bytes++)
        {
            byte group = source[bytes];
            if (bytes == Bytes64Max - 1 && group > 1)
                return false;
            number |= (ulong)(group & 0x7F) << (7 * bytes);
            if (group < 0x80)
            {
                bytes++;
                return true;
            }
        }

        return false;
    }
}
