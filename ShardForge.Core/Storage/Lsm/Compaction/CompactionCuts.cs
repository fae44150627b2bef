using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>Where a merge is cut into parts that run side by side.</summary>
internal static class CompactionCuts
{
    /// <summary>Ascending bounds between key groups, so that each part has about the same bytes of input; none: one part.</summary>
    /// <param name="pick">What is merged.</param>
    /// <param name="partsMax">Workers that are free for it.</param>
    /// <param name="partBytesMin">Below this a part is not worth its own tables.</param>
    public static List<byte[]> Choose(CompactionPick pick, int partsMax, long partBytesMin)
    {
        List<byte[]> cuts = [];
        long total = pick.Bytes;
        int parts = (int)Math.Min(partsMax, total / Math.Max(1, partBytesMin));
        if (parts < 2 || pick.IsMove)
            return cuts;

        // Tables count at their first key: coarse, but without a look into their files, and parts need not be equal.
        TableFile[] tables = pick.Tables.ToArray();
        Array.Sort(tables, static (left, right) => left.GroupStart.AsSpan().SequenceCompareTo(right.GroupStart));
        long before = 0;
        foreach (TableFile table in tables)
        {
            if (before >= (cuts.Count + 1) * total / parts && table.GroupStart.AsSpan().SequenceCompareTo(cuts.Count == 0 ? tables[0].GroupStart : cuts[^1]) > 0)
                cuts.Add(table.GroupStart);
            before += table.Bytes;
        }

        return cuts;
    }
}
