namespace ShardForge.Storage;

/// <summary>One immutable version of an ordered map of byte strings: a B+ tree whose versions share the nodes that did not change.</summary>
/// <remarks><code>
/// root (inner) ─┬─ leaf  k1 v1 | k2 v2 | ...      entries in key order
///               └─ leaf  k7 v7 | ...              separator i: not above any key of child i, above all of child i-1
/// </code>
/// Taking a version costs nothing, so snapshots and iterators are references and readers take no lock. A writer copies the nodes from
/// the root down to the leaf it changes, once per <see cref="SortedMapEditor"/> (path copying; Driscoll et al. 1989, as in the persistent
/// B-trees of LMDB). A node is removed when it is empty and is not merged before: deletes leave thin nodes, never wrong ones.
/// Threads: a version and its nodes never change once the editor that made them has handed the version out.</remarks>
internal sealed class SortedMap
{
    internal SortedMap(SortedMapNode? root, int count, long bytes)
    {
        Root = root;
        Count = count;
        Bytes = bytes;
    }

    public static SortedMap Empty { get; } = new(null, 0, 0);

    public int Count { get; }

    /// <summary>Bytes of all keys and values.</summary>
    public long Bytes { get; }

    internal SortedMapNode? Root { get; }

    /// <summary>False: the key is absent. A present key may have the value null, which means what the owner of the map says.</summary>
    public bool TryGet(ReadOnlySpan<byte> key, out byte[]? value)
    {
        value = null;
        SortedMapNode? node = Root;
        while (node is SortedMapInner inner)
            node = inner.Children[inner.ChildOf(key)];
        if (node is not SortedMapLeaf leaf || !leaf.TryFind(key, out int index))
            return false;
        value = leaf.Entries[index].Value;
        return true;
    }

    public SortedMapCursor GetCursor() => new(this);
}

internal abstract class SortedMapNode(object owner)
{
    public const int WidthMax = 32;

    /// <summary>Entries of a leaf, children of an inner node. Never 0 in a tree.</summary>
    public int Count { get; set; }

    /// <summary>The editor that made the node; only it may change the node, and only until it hands the map out.</summary>
    public object Owner { get; } = owner;
}

internal readonly record struct SortedMapEntry(byte[] Key, byte[]? Value);

internal sealed class SortedMapLeaf(object owner) : SortedMapNode(owner)
{
    public SortedMapEntry[] Entries { get; } = new SortedMapEntry[WidthMax];

    /// <summary>Index of the key, or of the first one above it.</summary>
    public bool TryFind(ReadOnlySpan<byte> key, out int index)
    {
        int low = 0, high = Count;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            int order = key.SequenceCompareTo(Entries[middle].Key);
            if (order == 0)
            {
                index = middle;
                return true;
            }

            if (order < 0)
                high = middle;
            else
                low = middle + 1;
        }

        index = low;
        return false;
    }
}

internal sealed class SortedMapInner(object owner) : SortedMapNode(owner)
{
    public SortedMapNode[] Children { get; } = new SortedMapNode[WidthMax];

    /// <summary>Lowest key that child i may have; that of child 0 is not looked at.</summary>
    public byte[][] Separators { get; } = new byte[WidthMax][];

    /// <summary>Index of the child that has the key if any has.</summary>
    public int ChildOf(ReadOnlySpan<byte> key)
    {
        int low = 1, high = Count;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (key.SequenceCompareTo(Separators[middle]) < 0)
                high = middle;
            else
                low = middle + 1;
        }

        return low - 1;
    }
}

/// <summary>A position in one version of a map. Not thread-safe.</summary>
internal sealed class SortedMapCursor(SortedMap map)
{
    private SortedMap _map = map;
    // 16 levels of at least 16 children hold more than an address space; deletes never add a level.
    private const int DepthMax = 16;
    private readonly SortedMapInner[] _path = new SortedMapInner[DepthMax];
    private readonly int[] _children = new int[DepthMax];
    private int _depth, _index;
    private SortedMapLeaf? _leaf;

    public byte[] Key => Entry.Key;

    public byte[]? Value => Entry.Value;

    private SortedMapEntry Entry
    {
        get
        {
            Invariant.Require(_leaf is not null);
            return _leaf.Entries[_index];
        }
    }

    public bool ToFirst() => ToFirstAtOrAfter([]);

    public bool ToFirstAtOrAfter(ReadOnlySpan<byte> key)
    {
        if (!Descend(key))
            return false;
        _leaf!.TryFind(key, out _index);
        return _index < _leaf.Count || ToNextLeaf();
    }

    public bool ToLastAtOrBefore(ReadOnlySpan<byte> key)
    {
        if (!Descend(key))
            return false;
        if (!_leaf!.TryFind(key, out _index))
            _index--;
        return _index >= 0 || ToPreviousLeaf();
    }

    public bool ToLastBefore(ReadOnlySpan<byte> key)
    {
        if (!Descend(key))
            return false;
        _leaf!.TryFind(key, out _index);
        _index--;
        return _index >= 0 || ToPreviousLeaf();
    }

    public bool ToLast()
    {
        _depth = 0;
        _leaf = null;
        return _map.Root is not null && DescendToEdge(_map.Root, last: true);
    }

    public bool ToNext()
    {
        Invariant.Require(_leaf is not null);
        return ++_index < _leaf.Count || ToNextLeaf();
    }

    public bool ToPrevious()
    {
        Invariant.Require(_leaf is not null);
        return --_index >= 0 || ToPreviousLeaf();
    }

    /// <summary>Lets go of the map.</summary>
    public void Clear()
    {
        _map = SortedMap.Empty;
        Array.Clear(_path);
        _leaf = null;
    }

    private bool Descend(ReadOnlySpan<byte> key)
    {
        _depth = 0;
        SortedMapNode? node = _map.Root;
        while (node is SortedMapInner inner)
        {
            int child = inner.ChildOf(key);
            Push(inner, child);
            node = inner.Children[child];
        }

        _leaf = (SortedMapLeaf?)node;
        return _leaf is not null;
    }

    private bool ToNextLeaf()
    {
        while (_depth > 0)
        {
            SortedMapInner inner = _path[--_depth];
            int child = _children[_depth] + 1;
            if (child < inner.Count)
            {
                Push(inner, child);
                return DescendToEdge(inner.Children[child], last: false);
            }
        }

        _leaf = null;
        return false;
    }

    private bool ToPreviousLeaf()
    {
        while (_depth > 0)
        {
            SortedMapInner inner = _path[--_depth];
            int child = _children[_depth] - 1;
            if (child >= 0)
            {
                Push(inner, child);
                return DescendToEdge(inner.Children[child], last: true);
            }
        }

        _leaf = null;
        return false;
    }

    private bool DescendToEdge(SortedMapNode node, bool last)
    {
        while (node is SortedMapInner inner)
        {
            int child = last ? inner.Count - 1 : 0;
            Push(inner, child);
            node = inner.Children[child];
        }

        _leaf = (SortedMapLeaf)node;
        _index = last ? _leaf.Count - 1 : 0;
        return true;
    }

    private void Push(SortedMapInner inner, int child)
    {
        Invariant.Require(_depth < DepthMax);
        _path[_depth] = inner;
        _children[_depth++] = child;
    }
}
