namespace ShardForge.Storage.Lsm;

/// <summary>The versions of one key: keys of one length that are the same before the version suffix. Without a suffix every key is its own group.</summary>
/// <remarks>
/// A group never spans two tables of a level, and moves down as a whole: so, like a newer entry of one key, a newer entry of a group
/// is never in an older level, which is what lets a point read stop early (R26). That holds by sequence number whatever the keys are;
/// that the newest version is also the newest entry is the caller's part: versions of one key are written in ascending order, and the
/// parts before the suffix are prefix-free (an escaped key with its terminator is).
/// </remarks>
internal static class KeyGroup
{
    /// <summary>What filters hash: the key without its version.</summary>
    public static ReadOnlySpan<byte> Of(ReadOnlySpan<byte> key, int suffixBytes) => key.Length > suffixBytes ? key[..^suffixBytes] : key;

    public static bool Same(ReadOnlySpan<byte> left, ReadOnlySpan<byte> right, int suffixBytes) =>
        left.Length == right.Length && Of(left, suffixBytes).SequenceEqual(Of(right, suffixBytes));

    /// <summary>A bound at or below every key of the group.</summary>
    public static byte[] Start(ReadOnlySpan<byte> key, int suffixBytes) => Of(key, suffixBytes).ToArray();

    /// <summary>A bound above every key of the group of a key.</summary>
    public static byte[] End(ReadOnlySpan<byte> key, int suffixBytes)
    {
        ReadOnlySpan<byte> group = Of(key, suffixBytes);
        byte[] end;
        if (suffixBytes == 0 || key.Length <= suffixBytes)
        {
            end = new byte[key.Length + 1];
            key.CopyTo(end);
            return end;
        }

        // The highest suffix and one byte more: above all of the same length that start with the group.
        end = new byte[key.Length + 1];
        group.CopyTo(end);
        end.AsSpan(group.Length).Fill(0xFF);
        return end;
    }
}
