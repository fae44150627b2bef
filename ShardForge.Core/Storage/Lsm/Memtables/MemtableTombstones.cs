namespace ShardForge.Storage.Lsm.Memtables;

/// <summary>The range tombstones of a memtable. One writer; readers get a fragmented set that is built when it is asked for and kept until the next write.</summary>
/// <remarks>
/// The set is a chain of pieces, each larger than the one in front of it: a read after a write builds a piece of what is new, together with the pieces that
/// are no larger, so each tombstone is built into a piece a logarithmic number of times.
/// </remarks>
internal sealed class MemtableTombstones
{
    private readonly Lock _gate = new();
    private readonly List<RangeTombstone> _tombstones = [];
    private readonly Stack<(int First, RangeTombstoneSet Set)> _pieces = new();    // the newest on top
    private RangeTombstoneSet? _set = RangeTombstoneSet.Empty;
    private int _count, _builtCount;

    /// <summary>How many there are; 0 is the usual case and costs a reader one load.</summary>
    public int Count => Volatile.Read(ref _count);

    public void Add(RangeTombstone tombstone)
    {
        lock (_gate)
        {
            _tombstones.Add(tombstone);
            Volatile.Write(ref _set, null);
            Volatile.Write(ref _count, _tombstones.Count);
        }
    }

    /// <summary>For lookups.</summary>
    public RangeTombstoneSet Get()
    {
        if (Count == 0)
            return RangeTombstoneSet.Empty;
        RangeTombstoneSet? set = Volatile.Read(ref _set);
        if (set is not null)
            return set;
        lock (_gate)
        {
            if (_set is null)
                Volatile.Write(ref _set, BuildLocked());
            return _set!;
        }
    }

    /// <summary>As one piece, for walking its fragments.</summary>
    public RangeTombstoneSet GetWhole()
    {
        lock (_gate)
            return RangeTombstoneSet.Build(_tombstones);
    }

    private RangeTombstoneSet BuildLocked()
    {
        int behind = _tombstones.Count;
        int first = _builtCount;
        while (_pieces.TryPeek(out (int First, RangeTombstoneSet Set) top) && first - top.First <= behind - first)
        {
            first = top.First;
            _pieces.Pop();
        }

        RangeTombstoneSet set = RangeTombstoneSet.Build(_tombstones.GetRange(first, behind - first), _pieces.TryPeek(out (int First, RangeTombstoneSet Set) older) ? older.Set : null);
        _pieces.Push((first, set));
        _builtCount = behind;
        return set;
    }
}
