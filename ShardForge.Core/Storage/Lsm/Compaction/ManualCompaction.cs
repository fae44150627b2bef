using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>A compaction of a range that somebody asked for: level by level downwards, one merge at a time.</summary>
/// <remarks>It ends at the deepest level that has anything of the range; if nothing was merged into that, it is rewritten in place. On the worker only.</remarks>
internal sealed class ManualCompaction(KeyRange range, CancellationToken stop)
{
    private int _level;
    private int _deepest = -1;
    private bool _deepestRewritten;

    public CancellationToken Stop => stop;

    public TaskCompletionSource Completion { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Task Task => Completion.Task;

    /// <summary>The next merge; null: done.</summary>
    public CompactionPick? Next(LsmVersion version)
    {
        if (_deepest < 0)
            _deepest = Deepest(version);
        while (_level < _deepest)
        {
            int level = _level++;
            if (CompactionPicker.PickRange(version, level, level + 1, range) is { } pick)
            {
                _deepestRewritten |= level + 1 == _deepest;
                return pick;
            }
        }

        if (_deepestRewritten || _deepest < 1)
            return null;
        _deepestRewritten = true;
        return CompactionPicker.PickRange(version, _deepest, _deepest, range);
    }

    private int Deepest(LsmVersion version)
    {
        for (int level = version.Levels.Length - 1; level > 1; level--)
        {
            if (CompactionPicker.PickRange(version, level, level, range) is not null)
                return level;
        }

        return 1;
    }
}
