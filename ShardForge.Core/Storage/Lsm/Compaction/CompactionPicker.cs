using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>Decides what is compacted next. Pure: no disk, no clock.</summary>
/// <remarks>
/// The level that is most over its size goes first (level 0 counts tables, the others bytes). From level 0 all tables go together, so nothing older stays above
/// what moved down. From a deeper level the table goes that overlaps least of the next level, for its size. Overlap is by key groups (<see cref="KeyGroup"/>).
/// </remarks>
internal static class CompactionPicker
{
    public static CompactionPick? Pick(LsmVersion version, LsmOptions options)
    {
        int best = -1;
        double bestScore = 1;
        for (int level = 0; level < version.Levels.Length - 1; level++)
        {
            double score = Score(version, options, level);
            if (score >= bestScore)
            {
                // Equal scores: the upper level, since writers wait for it.
                if (best >= 0 && score <= bestScore)
                    continue;
                best = level;
                bestScore = score;
            }
        }

        return best switch
        {
            < 0 => null,
            0 => PickLevelZero(version, options),
            _ => PickDeeper(version, best),
        };
    }

    /// <summary>1 and above: over its size.</summary>
    public static double Score(LsmVersion version, LsmOptions options, int level) => level == 0
        ? (double)version.Levels[0].Length / options.LevelZeroTables
        : version.LevelBytes(level) / LevelBytesMax(options, level);

    public static double LevelBytesMax(LsmOptions options, int level) => options.LevelBaseBytes * Math.Pow(options.LevelMultiplier, level - 1);

    /// <summary>What a compaction of a range does at one level; null: nothing of the range is there.</summary>
    public static CompactionPick? PickRange(LsmVersion version, int level, int outputLevel, KeyRange range)
    {
        TableFile[] inputs = level == 0
            ? Array.Exists(version.Levels[0], table => Overlaps(table, range)) ? version.Levels[0] : []
            : Array.FindAll(version.Levels[level], table => Overlaps(table, range));
        if (inputs.Length == 0)
            return null;
        return new(level, outputLevel, inputs, outputLevel == level ? [] : Overlapping(version.Levels[outputLevel], inputs), IsMove: false);
    }

    private static CompactionPick PickLevelZero(LsmVersion version, LsmOptions options)
    {
        TableFile[] tables = version.Levels[0];
        TableFile[] movable = Array.FindAll(tables, table =>
            table.Bytes >= options.TableBytes / 2 &&
            !Array.Exists(tables, other => other != table && table.OverlapsGroups(other.GroupStart, other.GroupEnd)) &&
            Overlapping(version.Levels[1], [table]).Length == 0);
        if (movable.Length > 0)
            return new(0, 1, movable, [], IsMove: true);
        TableFile[] outputInputs = Overlapping(version.Levels[1], tables);
        return new(0, 1, tables, outputInputs, IsMove: false);
    }

    private static CompactionPick PickDeeper(LsmVersion version, int level)
    {
        TableFile? best = null;
        TableFile[] bestOverlap = [];
        double bestRatio = double.MaxValue;
        foreach (TableFile table in version.Levels[level])
        {
            TableFile[] overlap = Overlapping(version.Levels[level + 1], [table]);
            long bytes = 0;
            foreach (TableFile other in overlap)
                bytes += other.Bytes;
            double ratio = (double)bytes / table.Bytes;
            if (ratio < bestRatio)
            {
                best = table;
                bestOverlap = overlap;
                bestRatio = ratio;
            }
        }

        return new(level, level + 1, [best!], bestOverlap, IsMove: bestOverlap.Length == 0);
    }

    /// <summary>Tables that share key groups with the whole range of others: outputs may lie anywhere in it.</summary>
    private static TableFile[] Overlapping(TableFile[] level, TableFile[] inputs)
    {
        byte[] start = inputs[0].GroupStart, end = inputs[0].GroupEnd;
        foreach (TableFile input in inputs)
        {
            if (input.GroupStart.AsSpan().SequenceCompareTo(start) < 0)
                start = input.GroupStart;
            if (input.GroupEnd.AsSpan().SequenceCompareTo(end) > 0)
                end = input.GroupEnd;
        }

        return Array.FindAll(level, table => table.OverlapsGroups(start, end));
    }

    private static bool Overlaps(TableFile table, KeyRange range) =>
        !range.IsEmpty && table.End.AsSpan().SequenceCompareTo(range.Start.Span) > 0 &&
        (!range.HasEnd || table.Smallest.AsSpan().SequenceCompareTo(range.End.Span) < 0);
}
