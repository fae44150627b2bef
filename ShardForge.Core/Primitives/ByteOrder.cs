namespace ShardForge;

/// <summary>Keys as unsigned bytes: order, equality, and how messages show them.</summary>
internal sealed class ByteOrder : IComparer<byte[]>, IEqualityComparer<byte[]>
{
    private const int ShownBytesMax = 16;

    public static ByteOrder Instance { get; } = new();

    public int Compare(byte[]? x, byte[]? y) => x.AsSpan().SequenceCompareTo(y);

    public bool Equals(byte[]? x, byte[]? y) => x.AsSpan().SequenceEqual(y);

    public int GetHashCode(byte[] obj)
    {
        HashCode hash = default;
        hash.AddBytes(obj);
        return hash.ToHashCode();
    }

    /// <summary>The beginning of a key in hex, for a message. Values are never shown.</summary>
    public static string Show(ReadOnlySpan<byte> key) => key.IsEmpty ? "(empty)"
        : Convert.ToHexString(key[..Math.Min(ShownBytesMax, key.Length)]) + (key.Length > ShownBytesMax ? $"… ({key.Length:N0} bytes)" : "");
}
