using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>Tables of one level that go into a compaction.</summary>
internal readonly record struct CompactionInput(int Level, TableFile[] Tables);

/// <summary>Which tables are merged into which level.</summary>
/// <param name="Inputs">Young to old.</param>
/// <param name="OutputLevel">Where the result goes; may be that of an input.</param>
/// <param name="Older">Places that are older than the result, each of disjoint tables in key order.</param>
/// <param name="IsMove">Nothing to merge: the tables go down as they are.</param>
internal sealed record CompactionPick(CompactionInput[] Inputs, int OutputLevel, TableFile[][] Older, bool IsMove)
{
    private (byte[] Start, byte[] End)? _bounds;

    /// <summary>From the first key of the inputs to their last, whole key groups.</summary>
    public KeyRange Range => KeyRange.Between(Bounds.Start, Bounds.End);

    public long Bytes
    {
        get
        {
            long bytes = 0;
            foreach (CompactionInput input in Inputs)
                bytes += TableRange.Bytes(input.Tables);
            return bytes;
        }
    }

    public IEnumerable<TableFile> Tables => Inputs.SelectMany(static input => input.Tables);

    private (byte[] Start, byte[] End) Bounds => _bounds ??= TableRange.Of(Tables);

    /// <summary>Whether the two cannot run side by side: they share a table, or their results could overlap in one level.</summary>
    /// <remarks>
    /// Nothing else can go wrong between two of them. What a merge takes for "nothing lies deeper" stays true: only tables of its own keys that are above its
    /// output could bring something there, and those it has taken itself, since in every level it takes all that overlaps.
    /// </remarks>
    public bool ConflictsWith(CompactionPick other)
    {
        foreach (TableFile table in Tables)
        {
            foreach (TableFile taken in other.Tables)
            {
                if (table == taken)
                    return true;
            }
        }

        return OutputLevel == other.OutputLevel && OutputLevel > 0 && Overlaps(other.Bounds.Start, other.Bounds.End);
    }

    /// <summary>Whether keys of a range could be in the result.</summary>
    public bool Overlaps(byte[] start, byte[] end) =>
        Bounds.Start.AsSpan().SequenceCompareTo(end) < 0 && start.AsSpan().SequenceCompareTo(Bounds.End) < 0;
}
