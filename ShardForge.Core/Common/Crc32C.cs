using System.Numerics;
using System.Runtime.InteropServices;

namespace ShardForge.Common;

/// <summary>CRC-32C (Castagnoli), by the processor's instruction. Check value: "123456789" gives e3069283.</summary>
/// <remarks>A checksum can be continued: <c>Append(Append(seed, a), b)</c> is the checksum of a then b. The seed is itself a checksum (0: none).</remarks>
internal static class Crc32C
{
    public static uint Compute(ReadOnlySpan<byte> bytes) => Append(0, bytes);

    public static uint Append(uint crc, ReadOnlySpan<byte> bytes)
    {
        crc = ~crc;
        ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(bytes);
        foreach (ulong word in words)
            crc = BitOperations.Crc32C(crc, BitConverter.IsLittleEndian ? word : System.Buffers.Binary.BinaryPrimitives.ReverseEndianness(word));
        foreach (byte b in bytes[(words.Length * sizeof(ulong))..])
            crc = BitOperations.Crc32C(crc, b);
        return ~crc;
    }

    /// <summary>Continues with a number, as its little-endian bytes.</summary>
    public static uint Append(uint crc, ulong number) => ~BitOperations.Crc32C(~crc, number);

    /// <summary>Continues with a number, as its little-endian bytes.</summary>
    public static uint Append(uint crc, uint number) => ~BitOperations.Crc32C(~crc, number);
}
