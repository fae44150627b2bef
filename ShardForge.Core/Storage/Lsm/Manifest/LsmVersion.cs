namespace ShardForge.Storage.Lsm.Manifest;

/// <summary>The tables of an engine at one moment, by level. Immutable and counted: a reader that holds it keeps its files.</summary>
/// <remarks>
/// Level 0: newest first; tables that overlap have disjoint sequence numbers. Flushes, and the results of merges that stay there. Deeper levels: disjoint, in key order. An entry that is newer than another of its
/// key group is never in an older place: that order is level 0 from its newest table, then level 1, 2, ...
/// </remarks>
internal sealed class LsmVersion
{
    private readonly Lock _gate = new();
    private RangeTombstoneSet? _tombstones;
    private int _references = 1;

    /// <param name="levels">By level.</param>
    /// <param name="previous">The version that this one follows: if both have the same range tombstones, they share the set; null: none.</param>
    public LsmVersion(TableFile[][] levels, LsmVersion? previous = null)
    {
        Levels = levels;
        foreach (TableFile[] level in levels)
        {
            foreach (TableFile table in level)
            {
                table.AddReference();
                TableCount++;
                Bytes += table.Bytes;
                HasTombstones |= table.HasTombstones;
            }
        }

        if (HasTombstones && previous is { HasTombstones: true } && Volatile.Read(ref previous._tombstones) is { } set && TombstoneTables(this).SetEquals(TombstoneTables(previous)))
            _tombstones = set;
    }

    public TableFile[][] Levels { get; }

    public int TableCount { get; }

    public long Bytes { get; }

    public bool HasTombstones { get; }

    /// <summary>Range tombstones of all tables together.</summary>
    public RangeTombstoneSet Tombstones => HasTombstones ? Volatile.Read(ref _tombstones) ?? LoadTombstones() : RangeTombstoneSet.Empty;

    public long LevelBytes(int level)
    {
        long bytes = 0;
        foreach (TableFile table in Levels[level])
            bytes += table.Bytes;
        return bytes;
    }

    public bool TryAddReference()
    {
        int references = Volatile.Read(ref _references);
        while (references > 0)
        {
            int seen = Interlocked.CompareExchange(ref _references, references + 1, references);
            if (seen == references)
                return true;
            references = seen;
        }

        return false;
    }

    public void Release()
    {
        int left = Interlocked.Decrement(ref _references);
        Invariant.Require(left >= 0);
        if (left > 0)
            return;
        foreach (TableFile[] level in Levels)
        {
            foreach (TableFile table in level)
                table.Release();
        }
    }

    private static HashSet<ulong> TombstoneTables(LsmVersion version)
    {
        HashSet<ulong> numbers = [];
        foreach (TableFile[] level in version.Levels)
        {
            foreach (TableFile table in level)
            {
                if (table.HasTombstones)
                    numbers.Add(table.Number);
            }
        }

        return numbers;
    }

    private RangeTombstoneSet LoadTombstones()
    {
        lock (_gate)
        {
            if (_tombstones is not null)
                return _tombstones;
            List<RangeTombstone> all = [];
            foreach (TableFile[] level in Levels)
            {
                foreach (TableFile table in level)
                {
                    if (table.HasTombstones)
                        all.AddRange(table.Reader.Tombstones);
                }
            }

            return _tombstones = RangeTombstoneSet.Build(all);
        }
    }
}
