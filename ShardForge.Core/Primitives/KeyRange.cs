namespace ShardForge;

/// <summary>A range of keys, ordered as unsigned bytes: a start (inclusive) and an end (exclusive, or none).</summary>
/// <remarks>The default value is <see cref="All"/>. Immutable as long as the memory it was made of is left unchanged.</remarks>
public readonly struct KeyRange : IEquatable<KeyRange>
{
    private readonly bool _bounded;

    private KeyRange(ReadOnlyMemory<byte> start, ReadOnlyMemory<byte> end, bool bounded)
    {
        Start = start;
        End = end;
        _bounded = bounded;
    }

    /// <summary>Every key.</summary>
    public static KeyRange All => default;

    /// <summary>First key of the range; the empty key where it starts at the beginning.</summary>
    public ReadOnlyMemory<byte> Start { get; }

    /// <summary>First key behind the range. Means something only where <see cref="HasEnd"/>.</summary>
    public ReadOnlyMemory<byte> End { get; }

    /// <summary>False: the range goes on to the last key.</summary>
    public bool HasEnd => _bounded;

    /// <summary>True: no key can be in the range.</summary>
    public bool IsEmpty => _bounded && Start.Span.SequenceCompareTo(End.Span) >= 0;

    /// <summary>Every key that starts with <paramref name="prefix"/>; with the empty prefix: <see cref="All"/>.</summary>
    /// <param name="prefix">Left unchanged while the range is in use.</param>
    public static KeyRange Prefix(ReadOnlyMemory<byte> prefix)
    {
        ReadOnlySpan<byte> bytes = prefix.Span;
        int length = bytes.Length;
        while (length > 0 && bytes[length - 1] == 0xFF)
            length--;
        if (length == 0)
            return From(prefix);
        byte[] end = bytes[..length].ToArray();
        end[^1]++;
        return new(prefix, end, bounded: true);
    }

    /// <summary>Keys at or above <paramref name="startInclusive"/> and below <paramref name="endExclusive"/>; an end at or below the start is an empty range.</summary>
    /// <param name="startInclusive">Left unchanged while the range is in use.</param>
    /// <param name="endExclusive">Left unchanged while the range is in use.</param>
    public static KeyRange Between(ReadOnlyMemory<byte> startInclusive, ReadOnlyMemory<byte> endExclusive) => new(startInclusive, endExclusive, bounded: true);

    /// <summary>Keys at or above <paramref name="startInclusive"/>.</summary>
    /// <param name="startInclusive">Left unchanged while the range is in use.</param>
    public static KeyRange From(ReadOnlyMemory<byte> startInclusive) => new(startInclusive, default, bounded: false);

    /// <summary>Whether <paramref name="key"/> is in the range.</summary>
    public bool Contains(ReadOnlySpan<byte> key) =>
        key.SequenceCompareTo(Start.Span) >= 0 && (!_bounded || key.SequenceCompareTo(End.Span) < 0);

    /// <inheritdoc/>
    public bool Equals(KeyRange other) =>
        _bounded == other._bounded && Start.Span.SequenceEqual(other.Start.Span) && End.Span.SequenceEqual(other.End.Span);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is KeyRange other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        HashCode hash = default;
        hash.AddBytes(Start.Span);
        hash.AddBytes(End.Span);
        hash.Add(_bounded);
        return hash.ToHashCode();
    }

    /// <inheritdoc/>
    public override string ToString() =>
        $"[{Convert.ToHexString(Start.Span)}, {(_bounded ? Convert.ToHexString(End.Span) : "end")})";

    /// <summary>Whether both are the same range.</summary>
    public static bool operator ==(KeyRange left, KeyRange right) => left.Equals(right);

    /// <summary>Whether they are different ranges.</summary>
    public static bool operator !=(KeyRange left, KeyRange right) => !left.Equals(right);
}
