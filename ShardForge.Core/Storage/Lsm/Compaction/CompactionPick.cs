using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>Which tables are merged into which level.</summary>
/// <param name="Level">Where the first inputs are.</param>
/// <param name="OutputLevel">Where the result goes; the same for a rewrite of the last level.</param>
/// <param name="Inputs">Tables of <paramref name="Level"/>.</param>
/// <param name="OutputInputs">Tables of the output level that are merged with them.</param>
/// <param name="IsMove">Nothing to merge: the tables go down as they are.</param>
internal sealed record CompactionPick(int Level, int OutputLevel, TableFile[] Inputs, TableFile[] OutputInputs, bool IsMove)
{
    /// <summary>From the first key of the inputs to their last, whole key groups.</summary>
    public KeyRange Range
    {
        get
        {
            byte[] start = Inputs[0].GroupStart, end = Inputs[0].GroupEnd;
            foreach (TableFile table in Inputs.Concat(OutputInputs))
            {
                if (table.GroupStart.AsSpan().SequenceCompareTo(start) < 0)
                    start = table.GroupStart;
                if (table.GroupEnd.AsSpan().SequenceCompareTo(end) > 0)
                    end = table.GroupEnd;
            }

            return KeyRange.Between(start, end);
        }
    }
}
