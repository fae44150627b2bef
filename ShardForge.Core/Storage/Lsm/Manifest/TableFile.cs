using ShardForge.Common;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Manifest;

/// <summary>A table as the manifest names it, shared by all versions that have it. Opened when it is first read.</summary>
/// <remarks>
/// Counted by versions: the last one to go closes it, and has it deleted if an edit removed it. Bounds: every key, and every range
/// tombstone, is in [<see cref="Smallest"/>, <see cref="End"/>).
/// </remarks>
internal sealed class TableFile
{
    private readonly Lock _gate = new();
    private readonly TableStore _store;
    private TableReader? _reader;
    private int _references;
    private volatile bool _removed;

    public TableFile(TableStore store, ulong number, TableSummary summary, int suffixBytes)
    {
        _store = store;
        Number = number;
        Summary = summary;
        End = summary.LargestIsExclusive ? summary.Largest : [.. summary.Largest, 0];
        GroupStart = KeyGroup.Start(summary.Smallest, suffixBytes);
        byte[] groupEnd = KeyGroup.End(summary.Largest, suffixBytes);
        GroupEnd = groupEnd.AsSpan().SequenceCompareTo(End) > 0 ? groupEnd : End;
    }

    public ulong Number { get; }

    public TableSummary Summary { get; }

    public long Bytes => Summary.Bytes;

    public byte[] Smallest => Summary.Smallest;

    /// <summary>First key behind it.</summary>
    public byte[] End { get; }

    /// <summary>A bound at or below all versions of its first key (see <see cref="KeyGroup"/>).</summary>
    public byte[] GroupStart { get; }

    /// <summary>A bound above all versions of its last key.</summary>
    public byte[] GroupEnd { get; }

    /// <summary>The open table; the caller holds a version that names it.</summary>
    public TableReader Reader => Volatile.Read(ref _reader) ?? Open();

    public bool HasTombstones => Summary.Tombstones > 0;

    public bool Contains(ReadOnlySpan<byte> key) => key.SequenceCompareTo(Smallest) >= 0 && key.SequenceCompareTo(End) < 0;

    /// <summary>Whether groups of keys may be in both this table and the range.</summary>
    public bool OverlapsGroups(ReadOnlySpan<byte> start, ReadOnlySpan<byte> end) =>
        GroupStart.AsSpan().SequenceCompareTo(end) < 0 && start.SequenceCompareTo(GroupEnd) < 0;

    /// <summary>The first of disjoint, sorted tables that ends after a key; their count: none.</summary>
    public static int FindEndingAfter(TableFile[] tables, ReadOnlySpan<byte> key)
    {
        int low = 0, high = tables.Length;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (key.SequenceCompareTo(tables[middle].End) < 0)
                high = middle;
            else
                low = middle + 1;
        }

        return low;
    }

    public void AddReference() => Interlocked.Increment(ref _references);

    /// <summary>An edit removed it: it is deleted once no version has it.</summary>
    public void MarkRemoved() => _removed = true;

    public void Release()
    {
        int left = Interlocked.Decrement(ref _references);
        Invariant.Require(left >= 0);
        if (left > 0)
            return;
        lock (_gate)
        {
            _reader?.Dispose();
            _reader = null;
        }

        if (_removed)
            _store.DeleteTable(this);
    }

    private TableReader Open()
    {
        lock (_gate)
            return _reader ??= _store.OpenTable(this);
    }
}

/// <summary>What tables need from the engine that has them.</summary>
internal abstract class TableStore
{
    /// <summary>Opens a table's file and reads its frame. Blocks.</summary>
    public abstract TableReader OpenTable(TableFile table);

    /// <summary>Has a table's file deleted; never blocks and never fails.</summary>
    public abstract void DeleteTable(TableFile table);
}
