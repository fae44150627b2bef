using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>Disjoint tables that together are older than all of the runs before: what a read has to look into once.</summary>
/// <remarks>Each level below 0 is one. In level 0, neighbours in age that share no key group count as one. No other table lies between those of a run in age.</remarks>
internal sealed record SortedRun(int Level, TableFile[] Tables)
{
    public long Bytes { get; } = TableRange.Bytes(Tables);

    /// <summary>Young to old.</summary>
    public static List<SortedRun> Of(LsmVersion version)
    {
        List<SortedRun> runs = OfLevelZero(version);
        for (int level = 1; level < version.Levels.Length; level++)
        {
            if (version.Levels[level].Length > 0)
                runs.Add(new(level, version.Levels[level]));
        }

        return runs;
    }

    public static int CountLevelZero(LsmVersion version) => OfLevelZero(version).Count;

    /// <summary>About how many bytes a compaction of everything would leave: from the oldest run up, tables that overlap none of those counted before.</summary>
    /// <remarks>What the others have is taken for newer values of the same keys. After RocksDB's estimate of live data.</remarks>
    public static long EstimateLiveBytes(LsmVersion version)
    {
        long bytes = 0;
        List<TableFile> counted = [];    // in key order
        List<SortedRun> runs = Of(version);
        for (int index = runs.Count - 1; index >= 0; index--)
        {
            TableFile[] alone = Array.FindAll(runs[index].Tables, table => !OverlapsAny(counted, [table]));
            counted.AddRange(alone);
            counted.Sort(ByStart.Instance);
            bytes += TableRange.Bytes(alone);
        }

        return bytes;
    }

    private static List<SortedRun> OfLevelZero(LsmVersion version)
    {
        TableFile[] tables = version.Levels[0];
        List<SortedRun> runs = [];
        List<TableFile> open = [];    // in key order
        for (int first = 0, behind; first < tables.Length; first = behind)
        {
            // Tables of one merge may interleave in their sequence numbers, and then stay together: what is between two of them in age is never outside a merge of both.
            ulong oldest = tables[first].Summary.SmallestSequence;
            for (behind = first + 1; behind < tables.Length && tables[behind].Summary.LargestSequence >= oldest; behind++)
                oldest = Math.Min(oldest, tables[behind].Summary.SmallestSequence);
            ReadOnlySpan<TableFile> together = tables.AsSpan(first, behind - first);
            if (OverlapsAny(open, together))
            {
                runs.Add(new(0, open.ToArray()));
                open.Clear();
            }

            foreach (TableFile table in together)
                open.Insert(Place(open, table), table);
        }

        if (open.Count > 0)
            runs.Add(new(0, open.ToArray()));
        return runs;
    }

    private static bool OverlapsAny(List<TableFile> run, ReadOnlySpan<TableFile> tables)
    {
        foreach (TableFile table in tables)
        {
            int at = Place(run, table);
            if ((at < run.Count && table.OverlapsGroups(run[at].GroupStart, run[at].GroupEnd)) ||
                (at > 0 && table.OverlapsGroups(run[at - 1].GroupStart, run[at - 1].GroupEnd)))
            {
                return true;
            }
        }

        return false;
    }

    private static int Place(List<TableFile> run, TableFile table)
    {
        int at = run.BinarySearch(table, ByStart.Instance);
        return at < 0 ? ~at : at;
    }

    private sealed class ByStart : IComparer<TableFile>
    {
        public static ByStart Instance { get; } = new();

        public int Compare(TableFile? x, TableFile? y) => x!.Smallest.AsSpan().SequenceCompareTo(y!.Smallest);
    }
}
