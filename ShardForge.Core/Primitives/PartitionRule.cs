using System.IO.Hashing;

namespace ShardForge;

/// <summary>Which part of a key decides where it lives: the partition key, whose hash is the slot. Chosen when the cluster is formed.</summary>
/// <remarks>Keys with the same partition key live in one shard, so related keys can be written in one single-shard transaction and scanned from one shard. Immutable.</remarks>
public sealed record PartitionRule
{
    private PartitionRule(PartitionRuleKind kind, int bytes, byte delimiter)
    {
        Kind = kind;
        Bytes = bytes;
        Delimiter = delimiter;
    }

    /// <summary>The whole key is the partition key: keys spread evenly. The default.</summary>
    public static PartitionRule WholeKey { get; } = new(PartitionRuleKind.WholeKey, 0, 0);

    internal PartitionRuleKind Kind { get; }

    internal int Bytes { get; }

    internal byte Delimiter { get; }

    /// <summary>The first <paramref name="bytes"/> bytes are the partition key; of a shorter key the whole.</summary>
    /// <param name="bytes">1 to 8,192.</param>
    public static PartitionRule FixedLength(int bytes)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bytes, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(bytes, Limits.Default.KeyBytesMax);
        return new(PartitionRuleKind.FixedLength, bytes, 0);
    }

    /// <summary>Everything before the first <paramref name="delimiter"/> is the partition key; of a key without one the whole.</summary>
    public static PartitionRule UpTo(byte delimiter) => new(PartitionRuleKind.UpTo, 0, delimiter);

    /// <inheritdoc/>
    public override string ToString() => Kind switch
    {
        PartitionRuleKind.FixedLength => $"FixedLength({Bytes})",
        PartitionRuleKind.UpTo => $"UpTo(0x{Delimiter:X2})",
        _ => "WholeKey",
    };

    internal ReadOnlySpan<byte> PartitionKeyOf(ReadOnlySpan<byte> key)
    {
        switch (Kind)
        {
            case PartitionRuleKind.FixedLength:
                return key.Length <= Bytes ? key : key[..Bytes];
            case PartitionRuleKind.UpTo:
                int at = key.IndexOf(Delimiter);
                return at < 0 ? key : key[..at];
            default:
                return key;
        }
    }

    internal Slot SlotOf(ReadOnlySpan<byte> key) => Slot.OfPartitionKey(PartitionKeyOf(key));

    /// <summary>The one slot of every key in a range; null where its keys can have different partition keys.</summary>
    internal Slot? SlotOf(KeyRange range)
    {
        ReadOnlySpan<byte> start = range.Start.Span;
        if (!range.HasEnd)
            return null;
        ReadOnlySpan<byte> end = range.End.Span;
        // Exactly one key: [k, k 00).
        if (end.Length == start.Length + 1 && end[^1] == 0 && end.StartsWith(start))
            return SlotOf(start);
        int prefixBytes;
        switch (Kind)
        {
            case PartitionRuleKind.FixedLength when start.Length >= Bytes:
                prefixBytes = Bytes;
                break;
            case PartitionRuleKind.UpTo:
                // With the delimiter: "a/" and on; "a" itself would let "ab/" in.
                prefixBytes = start.IndexOf(Delimiter) + 1;
                if (prefixBytes == 0)
                    return null;
                break;
            default:
                return null;
        }

        // Every key in the range starts with the prefix: the end is at most the prefix's successor.
        KeyRange whole = KeyRange.Prefix(start[..prefixBytes].ToArray());
        return whole.HasEnd && end.SequenceCompareTo(whole.End.Span) <= 0 ? SlotOf(start) : null;
    }
}

internal enum PartitionRuleKind : byte
{
    WholeKey = 0,
    FixedLength = 1,
    UpTo = 2,
}

/// <summary>One of 65,536 hash slots: the top 16 bits of XxHash3 (seed 0) of the partition key. For ever: golden vectors are in the tests.</summary>
internal readonly record struct Slot(ushort Value) : IComparable<Slot>
{
    public const int Count = 65_536;

    public static Slot OfPartitionKey(ReadOnlySpan<byte> partitionKey) => new((ushort)(XxHash3.HashToUInt64(partitionKey) >> 48));

    public int CompareTo(Slot other) => Value.CompareTo(other.Value);

    public override string ToString() => $"{Value:X4}";
}

/// <summary>A contiguous range of slots, both ends inclusive.</summary>
internal readonly record struct SlotRange(ushort First, ushort Last)
{
    public static SlotRange All => new(0, ushort.MaxValue);

    public bool Contains(Slot slot) => slot.Value >= First && slot.Value <= Last;

    /// <summary>The range of the <paramref name="number"/>-th of <paramref name="count"/> equal parts.</summary>
    public static SlotRange Part(int number, int count) =>
        new((ushort)((long)number * Slot.Count / count), (ushort)(((long)(number + 1) * Slot.Count / count) - 1));

    public override string ToString() => $"{First:X4}-{Last:X4}";
}
