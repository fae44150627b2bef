namespace ShardForge.Storage.Lsm.Memtables;

/// <summary>The range tombstones of a memtable. One writer; readers get a fragmented set that is built when it is asked for and kept until the next write.</summary>
internal sealed class MemtableTombstones
{
    private readonly Lock _gate = new();
    private readonly List<RangeTombstone> _tombstones = [];
    private RangeTombstoneSet? _set = RangeTombstoneSet.Empty;
    private int _count;

    /// <summary>How many there are; 0 is the usual case and costs a reader one load.</summary>
    public int Count => Volatile.Read(ref _count);

    public void Add(RangeTombstone tombstone)
    {
        lock (_gate)
        {
            _tombstones.Add(tombstone);
            _set = null;
            Volatile.Write(ref _count, _tombstones.Count);
        }
    }

    public RangeTombstoneSet Get()
    {
        if (Count == 0)
            return RangeTombstoneSet.Empty;
        RangeTombstoneSet? set = Volatile.Read(ref _set);
        if (set is not null)
            return set;
        lock (_gate)
            return _set ??= RangeTombstoneSet.Build(_tombstones);
    }
}
