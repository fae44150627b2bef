using ShardForge.Common;

namespace ShardForge.Storage.Sqlite;

/// <summary>The checksums of a row: SQLite has none, and a flipped bit would come back as an answer.</summary>
/// <remarks><code>
/// c | CRC-32C of key 32 bits | CRC-32C of key length, key and value 32 bits |      one 64-bit integer
/// </code>
/// The upper half can be checked without reading the value. It is what proves an absence: a search that a damaged key misled ends beside
/// that key, so both neighbours of the place where a key should be are checked before it is called absent.</remarks>
internal static class SqliteRow
{
    public static long Checksum(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) =>
        (long)(((ulong)Crc32C.Compute(key) << 32) | Crc32C.Append(Crc32C.Append(Crc32C.Append(0, (uint)key.Length), key), value));

    public static void CheckKey(string path, ReadOnlySpan<byte> key, long checksum)
    {
        uint stored = (uint)((ulong)checksum >> 32), computed = Crc32C.Compute(key);
        if (stored != computed)
            throw Damaged(path, key, "key", stored, computed);
    }

    public static void Check(string path, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value, long checksum)
    {
        CheckKey(path, key, checksum);
        uint stored = (uint)checksum, computed = (uint)Checksum(key, value);
        if (stored != computed)
            throw Damaged(path, key, "row", stored, computed);
    }

    private static CorruptionException Damaged(string path, ReadOnlySpan<byte> key, string what, uint stored, uint computed) =>
        new(path, 0, $"CRC-32C of the {what} at key {Convert.ToHexString(key[..Math.Min(key.Length, 16)])} ({key.Length:N0} bytes; where in the file SQLite does not say) stored {stored:x8}, computed {computed:x8}.");
}
