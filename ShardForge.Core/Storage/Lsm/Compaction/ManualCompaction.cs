using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>A compaction of a range that somebody asked for: level by level downwards, in pieces, then what is left in the deepest level, in place.</summary>
/// <remarks>
/// Every table of the range that was there at the beginning is merged once or moved on the way, and at the end none of them is left as it was. Its merges run one after the
/// other, beside automatic ones. Guarded by the engine's gate, but for <see cref="Completion"/>.
/// </remarks>
internal sealed class ManualCompaction(KeyRange range, long pieceBytesMax, IProgress<StorageCompactionProgress>? progress, CancellationToken stop)
{
    private ulong? _firstNewTable;
    private int _level, _deepest;
    private byte[]? _from;    // tables of the level that begin below it are done
    private long _doneBytes, _totalBytes;

    public CancellationToken Stop => stop;

    public TaskCompletionSource Completion { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Whether one of its merges runs.</summary>
    public bool IsRunning { get; set; }

    /// <summary>Before the first merge.</summary>
    /// <param name="version">What is there.</param>
    /// <param name="nextFileNumber">Tables with this number and above are results of merges that began later.</param>
    public void Begin(LsmVersion version, ulong nextFileNumber)
    {
        if (_firstNewTable is not null)
            return;
        _firstNewTable = nextFileNumber;
        _deepest = 1;
        for (int level = 2; level < version.Levels.Length; level++)
        {
            if (Array.Exists(version.Levels[level], table => TableRange.IsIn(table, range)))
                _deepest = level;
        }

        // Level by level, what came from above is merged once more.
        long carried = 0;
        for (int level = 0; level <= _deepest; level++)
        {
            foreach (TableFile table in version.Levels[level])
                carried += TableRange.IsIn(table, range) ? table.Bytes : 0;
            _totalBytes += level == 0 ? 0 : carried;
        }
    }

    /// <summary>The next merge; null: none is left. Changes nothing.</summary>
    public CompactionPick? Next(LsmVersion version)
    {
        byte[]? from = _from;
        for (int level = _level; level < _deepest; level++, from = null)
        {
            if (level == 0)
            {
                if (Array.Exists(version.Levels[0], table => table.Number < _firstNewTable && TableRange.IsIn(table, range)))
                    return LeveledPicker.Down(version, 0, version.Levels[0], mayMove: false);
                continue;
            }

            TableFile[] piece = Piece(version, level, from, static (_, _) => true);
            if (piece.Length > 0)
                return LeveledPicker.Down(version, level, piece, mayMove: true);
        }

        TableFile[] last = Piece(version, _deepest, from: null, static (table, first) => table.Number < first);
        return last.Length == 0 ? null : new([new(_deepest, last)], _deepest, version.Levels[(_deepest + 1)..], IsMove: false);
    }

    /// <summary>The merge that <see cref="Next"/> gave has been made.</summary>
    public void Advance(CompactionPick done)
    {
        CompactionInput input = done.Inputs[0];
        if (input.Level < _deepest)
        {
            _level = input.Level == 0 ? 1 : input.Level;
            _from = input.Level == 0 ? null : input.Tables[^1].GroupEnd;
        }
        else
        {
            _level = _deepest;
        }

        _doneBytes += done.IsMove ? 0 : done.Bytes;
    }

    /// <summary>Tells whoever asked; outside of every latch, since it is a stranger's code.</summary>
    public void Report(bool ended) => progress?.Report(new(_doneBytes, ended ? _doneBytes : Math.Max(_doneBytes, _totalBytes)));

    /// <summary>The next neighbours of a level that are in the range and wanted, as many as a piece may have.</summary>
    private TableFile[] Piece(LsmVersion version, int level, byte[]? from, Func<TableFile, ulong, bool> isWanted)
    {
        List<TableFile> piece = [];
        long bytes = 0;
        foreach (TableFile table in version.Levels[level])
        {
            bool wanted = TableRange.IsIn(table, range) && isWanted(table, _firstNewTable!.Value) && (from is null || table.GroupStart.AsSpan().SequenceCompareTo(from) >= 0);
            if (!wanted)
            {
                if (piece.Count > 0)
                    break;
                continue;
            }

            if (level < _deepest)
                bytes += TableRange.Bytes(TableRange.Overlapping(version.Levels[level + 1], table.GroupStart, table.GroupEnd));
            bytes += table.Bytes;
            if (piece.Count > 0 && bytes > pieceBytesMax)
                break;
            piece.Add(table);
        }

        return piece.ToArray();
    }
}
