using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>Decides what is compacted next, by the style that the options choose. Pure: no disk, no clock.</summary>
internal static class CompactionPicker
{
    /// <param name="version">What is there.</param>
    /// <param name="options">The style and its sizes.</param>
    /// <param name="running">Compactions that run: the next one must not conflict with them.</param>
    public static CompactionPick? Pick(LsmVersion version, LsmOptions options, IReadOnlyList<CompactionPick> running) => options.CompactionStyle switch
    {
        LsmCompactionStyle.Leveled => LeveledPicker.Pick(version, options, running),
        LsmCompactionStyle.Tiered => RunPicker.PickTiered(version, options, running),
        _ => RunPicker.PickUniversal(version, options, running),
    };

    /// <summary>How long level 0 is for the limits that slow writers: tables, or where several tables may be one sorted run, runs.</summary>
    public static int LevelZeroLength(LsmVersion version, LsmOptions options) =>
        options.CompactionStyle == LsmCompactionStyle.Leveled ? version.Levels[0].Length : SortedRun.CountLevelZero(version);

    public static bool CanRun(CompactionPick pick, IReadOnlyList<CompactionPick> running)
    {
        for (int index = 0; index < running.Count; index++)
        {
            if (pick.ConflictsWith(running[index]))
                return false;
        }

        return true;
    }
}
