using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>Questions about the ranges of tables, by key groups (<see cref="KeyGroup"/>).</summary>
internal static class TableRange
{
    public static long Bytes(ReadOnlySpan<TableFile> tables)
    {
        long bytes = 0;
        foreach (TableFile table in tables)
            bytes += table.Bytes;
        return bytes;
    }

    /// <summary>From the first key group of tables to behind their last; there is at least one.</summary>
    public static (byte[] Start, byte[] End) Of(IEnumerable<TableFile> tables)
    {
        byte[]? start = null, end = null;
        foreach (TableFile table in tables)
        {
            if (start is null || table.GroupStart.AsSpan().SequenceCompareTo(start) < 0)
                start = table.GroupStart;
            if (end is null || table.GroupEnd.AsSpan().SequenceCompareTo(end) > 0)
                end = table.GroupEnd;
        }

        return (start!, end!);
    }

    /// <summary>The tables of a level (disjoint, in key order) that share key groups with a range.</summary>
    public static ReadOnlySpan<TableFile> Overlapping(TableFile[] level, byte[] start, byte[] end)
    {
        // By the plain ends, which go up; the ends of groups are bounds, and may lie behind the beginning of the next table.
        int first = TableFile.FindEndingAfter(level, start);
        while (first > 0 && start.AsSpan().SequenceCompareTo(level[first - 1].GroupEnd) < 0)
            first--;
        int behind = first;
        while (behind < level.Length && level[behind].GroupStart.AsSpan().SequenceCompareTo(end) < 0)
            behind++;
        return level.AsSpan(first, behind - first);
    }

    /// <summary>Whether no two of the tables share a key group.</summary>
    public static bool AreDisjoint(IEnumerable<TableFile> tables)
    {
        TableFile[] sorted = tables.ToArray();
        Array.Sort(sorted, static (left, right) => left.GroupStart.AsSpan().SequenceCompareTo(right.GroupStart));
        for (int index = 1; index < sorted.Length; index++)
        {
            if (sorted[index - 1].OverlapsGroups(sorted[index].GroupStart, sorted[index].GroupEnd))
                return false;
        }

        return true;
    }

    /// <summary>Whether a table has keys of a range that a user gave.</summary>
    public static bool IsIn(TableFile table, KeyRange range) =>
        !range.IsEmpty && table.End.AsSpan().SequenceCompareTo(range.Start.Span) > 0 &&
        (!range.HasEnd || table.Smallest.AsSpan().SequenceCompareTo(range.End.Span) < 0);
}
