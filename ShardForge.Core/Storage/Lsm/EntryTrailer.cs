namespace ShardForge.Storage.Lsm;

/// <summary>What an entry of the engine says about its key. Numbers are on disk.</summary>
/// <remarks>3 (merge operand), 4 (value with expiry) and 5 (reference to a value elsewhere) are reserved; a reader refuses what it does not know.</remarks>
internal enum EntryKind : byte
{
    Delete = 0,
    Put = 1,

    /// <summary>Only in range-tombstone blocks: the key is the start, the value the end (exclusive).</summary>
    RangeDelete = 2,
}

/// <summary>The eight bytes behind a key: sequence number &lt;&lt; 8 | kind. Entries are ordered by key ascending, then trailer descending (newest first).</summary>
/// <remarks>
/// Sequence 0 is an entry of the bottom that every reader sees; the first write has 1. The trailer 0 is never written, so a seek to
/// (key, 0) lands behind all versions of the key, and one to (key, <see cref="Newest"/>) before them.
/// </remarks>
internal static class EntryTrailer
{
    public const ulong Newest = ulong.MaxValue, Oldest = 0;
    public const ulong SequenceMax = (1UL << 56) - 1;

    public static ulong Of(ulong sequence, EntryKind kind) => (sequence << 8) | (byte)kind;

    /// <summary>Where a seek has to start to find the newest entry that a reader at <paramref name="sequence"/> sees.</summary>
    public static ulong Visible(ulong sequence) => (sequence << 8) | 0xFF;

    public static ulong Sequence(ulong trailer) => trailer >> 8;

    public static EntryKind Kind(ulong trailer) => (EntryKind)(byte)trailer;

    public static int Compare(ReadOnlySpan<byte> key, ulong trailer, ReadOnlySpan<byte> otherKey, ulong otherTrailer)
    {
        int order = key.SequenceCompareTo(otherKey);
        return order != 0 ? order : otherTrailer.CompareTo(trailer);
    }
}
