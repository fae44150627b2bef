using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;

namespace ShardForge.Tests.Processes;

/// <summary>A value that shows which key and number it was written for, and whether all of it is there.</summary>
/// <remarks><code>
/// number 8 | XxHash3 of key and number 8, repeated 1 to 128 times, by number        little-endian
/// </code></remarks>
internal static class NumberedValue
{
    private const int RepeatsMax = 128;

    public static byte[] Encode(string key, long number)
    {
        byte[] value = new byte[8 + (8 * (1 + (int)(number % RepeatsMax)))];
        BinaryPrimitives.WriteInt64LittleEndian(value, number);
        ulong hash = XxHash3.HashToUInt64(Encoding.UTF8.GetBytes(key), number);
        for (int at = 8; at < value.Length; at += 8)
            BinaryPrimitives.WriteUInt64LittleEndian(value.AsSpan(at), hash);
        return value;
    }

    public static bool TryDecode(string key, byte[] value, out long number)
    {
        number = value.Length < 16 ? -1 : BinaryPrimitives.ReadInt64LittleEndian(value);
        return number >= 0 && value.AsSpan().SequenceEqual(Encode(key, number));
    }
}
