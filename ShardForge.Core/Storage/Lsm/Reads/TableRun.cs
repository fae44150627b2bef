using System.Runtime.InteropServices;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Reads;

/// <summary>Disjoint tables in key order: a level below the first, or one table of that. Finds the table of a key by numbers side by side. Immutable.</summary>
internal sealed class TableRun
{
    private readonly TableFile[] _tables;
    private readonly ulong[] _endWords;        // of each table's end, the eight bytes behind what all ends start with
    private readonly int _prefixBytes;

    public TableRun(TableFile[] tables)
    {
        _tables = tables;
        _prefixBytes = tables[0].End.AsSpan().CommonPrefixLength(tables[^1].End);
        _endWords = new ulong[tables.Length];
        for (int at = 0; at < tables.Length; at++)
            _endWords[at] = KeyWord.Of(tables[at].End.AsSpan(_prefixBytes));
    }

    public int Count => _tables.Length;

    public TableFile this[int at] => _tables[at];

    /// <summary>All runs of a version, from young to old.</summary>
    public static TableRun[] Of(LsmVersion version)
    {
        List<TableRun> runs = [];
        foreach (TableFile table in version.Levels[0])
            runs.Add(new([table]));
        foreach (TableFile[] level in version.Levels.AsSpan(1))
        {
            if (level.Length > 0)
                runs.Add(new(level));
        }

        return runs.ToArray();
    }

    /// <summary>The first table that ends after a key; the count: none.</summary>
    public unsafe int FindEndingAfter(ReadOnlySpan<byte> key)
    {
        int low = 0;
        if (_tables.Length > 1)
        {
            ReadOnlySpan<byte> prefix = _tables[0].End.AsSpan(0, _prefixBytes);
            if (!key.StartsWith(prefix))
                return key.SequenceCompareTo(prefix) < 0 ? 0 : _tables.Length;
            fixed (ulong* words = _endWords)
                low = KeyWord.LowerBound(words, 0, _tables.Length, KeyWord.Of(key[_prefixBytes..]));
        }

        // Equal words decide nothing. There are few: tables are large.
        while (low < _tables.Length && key.SequenceCompareTo(_tables[low].End) >= 0)
            low++;
        return low;
    }

    /// <summary>The table whose bounds a key is in; null: none.</summary>
    public TableFile? FindTable(ReadOnlySpan<byte> key)
    {
        int at = FindEndingAfter(key);
        return at < _tables.Length && key.SequenceCompareTo(_tables[at].Smallest) >= 0 ? _tables[at] : null;
    }
}
