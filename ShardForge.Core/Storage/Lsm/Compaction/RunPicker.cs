using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>Tiered and universal compaction: neighbours in age among the sorted runs are merged into one, and nothing else is rewritten.</summary>
/// <remarks><code>
/// runs, young to old   0: a | 0: b c | 3: d … | 6: e …           level: tables
/// merge b c, d         result one level above the next older run: 5
/// merge with e         result in the last level
/// merge a, b c         the next older run is in level 3: 2. Where it is in level 0 or 1: level 0, as one run of several tables
/// </code>
/// Tiered: so many runs of about one size become one of the next size; least rewriting, most runs to read.
/// Universal, after RocksDB's: first the space that overwritten data may take, then runs that are not larger than all younger ones together, then the number of runs.
/// Runs that never overlap are moved down without a merge.</remarks>
internal static class RunPicker
{
    public static CompactionPick? PickTiered(LsmVersion version, LsmOptions options, IReadOnlyList<CompactionPick> running)
    {
        List<SortedRun> runs = SortedRun.Of(version);
        if (PickMove(version, runs, options, running) is { } move)
            return move;
        int tier = 0, first = 0;
        for (int index = 0; index <= runs.Count; index++)
        {
            // A run that is smaller than a younger one (much of it was deleted) counts with that: the tiers go up with age.
            int own = index < runs.Count ? Math.Max(tier, Tier(runs[index], options)) : int.MaxValue;
            if (own == tier)
                continue;
            if (index - first >= options.LevelZeroTables && TryMerge(version, runs, first, index - 1, running) is { } pick)
                return pick;
            tier = own;
            first = index;
        }

        return null;
    }

    public static CompactionPick? PickUniversal(LsmVersion version, LsmOptions options, IReadOnlyList<CompactionPick> running)
    {
        List<SortedRun> runs = SortedRun.Of(version);
        if (PickMove(version, runs, options, running) is { } move)
            return move;
        if (runs.Count < options.LevelZeroTables || runs.Count < 2)
            return null;
        long younger = 0;
        for (int index = 0; index < runs.Count - 1; index++)
            younger += runs[index].Bytes;
        if (younger * 100.0 >= (double)runs[^1].Bytes * options.UniversalSpaceAmplificationPercent && TryMerge(version, runs, 0, runs.Count - 1, running) is { } all)
            return all;
        for (int first = 0; first < runs.Count - 1; first++)
        {
            int last = first;
            for (double bytes = runs[first].Bytes; last + 1 < runs.Count && runs[last + 1].Bytes <= bytes * (1 + (options.UniversalSizeRatioPercent / 100.0)); last++)
                bytes += runs[last + 1].Bytes;
            if (last > first && TryMerge(version, runs, first, last, running) is { } similar)
                return similar;
        }

        // So many of the youngest that the limit holds again.
        return runs.Count > options.LevelZeroTables ? TryMerge(version, runs, 0, Math.Max(1, runs.Count - options.LevelZeroTables), running) : null;
    }

    private static int Tier(SortedRun run, LsmOptions options)
    {
        double ratio = run.Bytes / (options.MemtableBytes / 4.0);
        return ratio <= 1 ? 0 : (int)Math.Floor(Math.Log(ratio, Math.Max(2, options.LevelZeroTables)));
    }

    /// <summary>Many tables of level 0 that overlap nothing down to some run (keys that come in order): they only get another place.</summary>
    private static CompactionPick? PickMove(LsmVersion version, List<SortedRun> runs, LsmOptions options, IReadOnlyList<CompactionPick> running)
    {
        if (runs.Count == 0 || runs[0].Level > 0 || runs[0].Tables.Length < options.LevelZeroTables)
            return null;
        int last = 0;
        while (last + 1 < runs.Count && TableRange.AreDisjoint(runs.Take(last + 2).SelectMany(static run => run.Tables)))
            last++;
        CompactionPick? pick = TryMerge(version, runs, 0, last, running);
        return pick is { IsMove: true } ? pick : null;
    }

    /// <summary>The merge of neighbours, if it may run now.</summary>
    private static CompactionPick? TryMerge(LsmVersion version, List<SortedRun> runs, int first, int last, IReadOnlyList<CompactionPick> running)
    {
        int outputLevel = last == runs.Count - 1 ? version.Levels.Length - 1 : Math.Max(0, runs[last + 1].Level - 1);
        List<CompactionInput> inputs = [];
        for (int index = first; index <= last; index++)
            inputs.Add(new(runs[index].Level, runs[index].Tables));
        TableFile[][] older = [.. runs.Skip(last + 1).Select(static run => run.Tables)];
        bool isMove = outputLevel > 0 && TableRange.AreDisjoint(inputs.SelectMany(static input => input.Tables));
        if (isMove)
            inputs.RemoveAll(input => input.Level == outputLevel);
        if (inputs.Count == 0)
            return null;
        CompactionPick pick = new(inputs.ToArray(), outputLevel, older, isMove);
        return CompactionPicker.CanRun(pick, running) ? pick : null;
    }
}
