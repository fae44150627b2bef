using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>Leveled compaction: each level is one sorted run, so many times larger than the one above.</summary>
/// <remarks>
/// The level that is most over its size goes first (level 0 counts tables, the others bytes). From level 0 all tables go together, so nothing older stays above
/// what moved down. From a deeper level the table goes that overlaps least of the next level, for its size. Overlap is by key groups (<see cref="KeyGroup"/>).
/// What conflicts with a compaction that runs is passed over for the next best.
/// </remarks>
internal static class LeveledPicker
{
    public static CompactionPick? Pick(LsmVersion version, LsmOptions options, IReadOnlyList<CompactionPick> running)
    {
        Span<bool> tried = stackalloc bool[LsmOptions.LevelCount];
        while (true)
        {
            int level = MostOverfull(version, options, tried);
            if (level < 0)
                return null;
            tried[level] = true;
            if ((level == 0 ? PickLevelZero(version, options, running) : PickDeeper(version, level, running)) is { } pick)
                return pick;
        }
    }

    /// <summary>1 and above: over its size.</summary>
    public static double Score(LsmVersion version, LsmOptions options, int level) => level == 0
        ? (double)version.Levels[0].Length / options.LevelZeroTables
        : version.LevelBytes(level) / (options.LevelBaseBytes * Math.Pow(options.LevelMultiplier, level - 1));

    /// <summary>Tables of one level and what they overlap of the next.</summary>
    public static CompactionPick Down(LsmVersion version, int level, TableFile[] inputs, bool mayMove)
    {
        (byte[] start, byte[] end) = TableRange.Of(inputs);
        TableFile[] below = TableRange.Overlapping(version.Levels[level + 1], start, end).ToArray();
        return new([new(level, inputs), new(level + 1, below)], level + 1, version.Levels[(level + 2)..], IsMove: mayMove && below.Length == 0);
    }

    private static int MostOverfull(LsmVersion version, LsmOptions options, ReadOnlySpan<bool> tried)
    {
        int best = -1;
        double bestScore = 0;
        for (int level = 0; level < version.Levels.Length - 1; level++)
        {
            if (tried[level])
                continue;

            // Equal scores: the upper level, since writers wait for it.
            double score = Score(version, options, level);
            if (score >= 1 && score > bestScore)
            {
                best = level;
                bestScore = score;
            }
        }

        return best;
    }

    private static CompactionPick? PickLevelZero(LsmVersion version, LsmOptions options, IReadOnlyList<CompactionPick> running)
    {
        TableFile[] tables = version.Levels[0];
        TableFile[] movable = Array.FindAll(tables, table =>
            table.Bytes >= options.TableBytes / 2 &&
            !Array.Exists(tables, other => other != table && table.OverlapsGroups(other.GroupStart, other.GroupEnd)) &&
            TableRange.Overlapping(version.Levels[1], table.GroupStart, table.GroupEnd).IsEmpty);
        if (movable.Length > 0)
        {
            // Each for itself: between two of them may lie something of level 1, or of what is on its way there.
            movable = Array.FindAll(movable, table => CompactionPicker.CanRun(Down(version, 0, [table], mayMove: true), running));
            if (movable.Length > 0)
                return new([new(0, movable)], 1, version.Levels[2..], IsMove: true);
        }

        CompactionPick pick = Down(version, 0, tables, mayMove: false);
        return CompactionPicker.CanRun(pick, running) ? pick : null;
    }

    private static CompactionPick? PickDeeper(LsmVersion version, int level, IReadOnlyList<CompactionPick> running)
    {
        TableFile[] tables = version.Levels[level];
        (double Ratio, TableFile Table)[] candidates = new (double, TableFile)[tables.Length];
        for (int index = 0; index < tables.Length; index++)
        {
            TableFile table = tables[index];
            long below = TableRange.Bytes(TableRange.Overlapping(version.Levels[level + 1], table.GroupStart, table.GroupEnd));
            candidates[index] = ((double)below / table.Bytes, table);
        }

        Array.Sort(candidates, static (left, right) => left.Ratio.CompareTo(right.Ratio));
        foreach ((_, TableFile table) in candidates)
        {
            CompactionPick pick = Down(version, level, [table], mayMove: true);
            if (CompactionPicker.CanRun(pick, running))
                return pick;
        }

        return null;
    }
}
