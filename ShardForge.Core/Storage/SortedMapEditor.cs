namespace ShardForge.Storage;

/// <summary>Makes the next version of a <see cref="SortedMap"/>. Not thread-safe.</summary>
/// <remarks>
/// A node is copied the first time it is changed and then changed in place, until <see cref="ToMap"/> hands the version out and the
/// editor goes on with a new mark. Key and value arrays are taken over: nobody changes them afterwards.
/// </remarks>
internal sealed class SortedMapEditor
{
    private object _owner = new();
    private SortedMapNode? _root;
    private int _count;
    private long _bytes;

    public SortedMapEditor(SortedMap map) => Reset(map);

    public int Count => _count;

    public long Bytes => _bytes;

    /// <summary>Goes on from another version; what was not handed out is forgotten.</summary>
    public void Reset(SortedMap map)
    {
        _owner = new object();
        _root = map.Root;
        _count = map.Count;
        _bytes = map.Bytes;
    }

    /// <summary>The version with all changes so far. It stays as it is, whatever the editor does next.</summary>
    public SortedMap ToMap()
    {
        _owner = new object();
        return _root is null ? SortedMap.Empty : new SortedMap(_root, _count, _bytes);
    }

    public bool TryGet(ReadOnlySpan<byte> key, out byte[]? value) => new SortedMap(_root, _count, _bytes).TryGet(key, out value);

    public void Put(byte[] key, byte[]? value)
    {
        if (_root is null)
        {
            SortedMapLeaf leaf = new(_owner) { Count = 1 };
            leaf.Entries[0] = new SortedMapEntry(key, value);
            _root = leaf;
            Added(key, value);
            return;
        }

        _root = Writable(_root);
        SortedMapNode? right = Put(_root, key, value, out byte[]? separator);
        if (right is null)
            return;
        SortedMapInner root = new(_owner) { Count = 2 };
        root.Children[0] = _root;
        root.Children[1] = right;
        root.Separators[1] = separator!;
        _root = root;
    }

    public bool Remove(ReadOnlySpan<byte> key)
    {
        SortedMap before = new(_root, _count, _bytes);
        if (!before.TryGet(key, out _))
            return false;
        _root = Remove(_root!, key);
        Shrink();
        return true;
    }

    /// <summary>Removes every key from a start (inclusive) to an end (exclusive; null: to the last key).</summary>
    public void RemoveRange(ReadOnlySpan<byte> start, byte[]? end)
    {
        if (_root is null)
            return;
        _root = RemoveRange(_root, start, end);
        Shrink();
    }

    private SortedMapNode? Put(SortedMapNode node, byte[] key, byte[]? value, out byte[]? separator)
    {
        separator = null;
        if (node is SortedMapLeaf leaf)
            return PutInLeaf(leaf, key, value, out separator);

        SortedMapInner inner = (SortedMapInner)node;
        int child = inner.ChildOf(key);
        SortedMapNode writable = inner.Children[child] = Writable(inner.Children[child]);
        SortedMapNode? right = Put(writable, key, value, out byte[]? rightSeparator);
        if (right is null)
            return null;

        SortedMapInner? half = null;
        if (inner.Count == SortedMapNode.WidthMax)
        {
            half = Split(inner, out separator);
            if (child >= inner.Count)
            {
                InsertChild(half, child - inner.Count + 1, right, rightSeparator!);
                return half;
            }
        }

        InsertChild(inner, child + 1, right, rightSeparator!);
        return half;
    }

    private SortedMapLeaf? PutInLeaf(SortedMapLeaf leaf, byte[] key, byte[]? value, out byte[]? separator)
    {
        separator = null;
        if (leaf.TryFind(key, out int index))
        {
            _bytes += (value?.Length ?? 0) - (leaf.Entries[index].Value?.Length ?? 0);
            leaf.Entries[index] = new SortedMapEntry(leaf.Entries[index].Key, value);
            return null;
        }

        SortedMapLeaf? half = null;
        SortedMapLeaf target = leaf;
        if (leaf.Count == SortedMapNode.WidthMax)
        {
            // Keys that arrive in order fill every leaf to its end: only the newcomer goes into the new leaf.
            int keep = index == leaf.Count ? leaf.Count : leaf.Count / 2;
            half = new SortedMapLeaf(_owner) { Count = leaf.Count - keep };
            Array.Copy(leaf.Entries, keep, half.Entries, 0, half.Count);
            Array.Clear(leaf.Entries, keep, half.Count);
            leaf.Count = keep;
            if (index > keep || half.Count == 0)
            {
                target = half;
                index -= keep;
            }
        }

        Array.Copy(target.Entries, index, target.Entries, index + 1, target.Count - index);
        target.Entries[index] = new SortedMapEntry(key, value);
        target.Count++;
        Added(key, value);
        separator = half?.Entries[0].Key;
        return half;
    }

    private SortedMapInner Split(SortedMapInner inner, out byte[] separator)
    {
        int keep = inner.Count / 2;
        SortedMapInner half = new(_owner) { Count = inner.Count - keep };
        Array.Copy(inner.Children, keep, half.Children, 0, half.Count);
        Array.Copy(inner.Separators, keep, half.Separators, 0, half.Count);
        Array.Clear(inner.Children, keep, half.Count);
        Array.Clear(inner.Separators, keep, half.Count);
        inner.Count = keep;
        separator = half.Separators[0];
        return half;
    }

    private static void InsertChild(SortedMapInner inner, int index, SortedMapNode child, byte[] separator)
    {
        Array.Copy(inner.Children, index, inner.Children, index + 1, inner.Count - index);
        Array.Copy(inner.Separators, index, inner.Separators, index + 1, inner.Count - index);
        inner.Children[index] = child;
        inner.Separators[index] = separator;
        inner.Count++;
    }

    /// <returns>Null: nothing is left of the node.</returns>
    private SortedMapNode? Remove(SortedMapNode node, ReadOnlySpan<byte> key)
    {
        if (node is SortedMapLeaf found)
        {
            found.TryFind(key, out int index);
            Removed(found, index, 1);
            if (found.Count == 1)
                return null;
            SortedMapLeaf leaf = (SortedMapLeaf)Writable(found);
            RemoveEntries(leaf, index, 1);
            return leaf;
        }

        SortedMapInner inner = (SortedMapInner)Writable(node);
        int child = inner.ChildOf(key);
        SortedMapNode? rest = Remove(inner.Children[child], key);
        if (rest is not null)
            inner.Children[child] = rest;
        else
            RemoveChild(inner, child);
        return inner.Count == 0 ? null : inner;
    }

    /// <returns>Null: nothing is left of the node.</returns>
    private SortedMapNode? RemoveRange(SortedMapNode node, ReadOnlySpan<byte> start, byte[]? end)
    {
        if (node is SortedMapLeaf found)
            return RemoveRangeInLeaf(found, start, end);

        SortedMapInner inner = (SortedMapInner)Writable(node);
        int child = inner.ChildOf(start);
        bool isFirst = true;
        while (child < inner.Count && (isFirst || end is null || inner.Separators[child].AsSpan().SequenceCompareTo(end) < 0))
        {
            isFirst = false;
            SortedMapNode? rest = RemoveRange(inner.Children[child], start, end);
            if (rest is not null)
                inner.Children[child++] = rest;
            else
                RemoveChild(inner, child);
        }

        return inner.Count == 0 ? null : inner;
    }

    private SortedMapLeaf? RemoveRangeInLeaf(SortedMapLeaf found, ReadOnlySpan<byte> start, byte[]? end)
    {
        found.TryFind(start, out int from);
        int to = found.Count;
        if (end is not null)
            found.TryFind(end, out to);
        if (to <= from)
            return found;
        Removed(found, from, to - from);
        if (to - from == found.Count)
            return null;
        SortedMapLeaf leaf = (SortedMapLeaf)Writable(found);
        RemoveEntries(leaf, from, to - from);
        return leaf;
    }

    private static void RemoveEntries(SortedMapLeaf leaf, int index, int count)
    {
        Array.Copy(leaf.Entries, index + count, leaf.Entries, index, leaf.Count - index - count);
        Array.Clear(leaf.Entries, leaf.Count - count, count);
        leaf.Count -= count;
    }

    private static void RemoveChild(SortedMapInner inner, int index)
    {
        inner.Count--;
        Array.Copy(inner.Children, index + 1, inner.Children, index, inner.Count - index);
        Array.Copy(inner.Separators, index + 1, inner.Separators, index, inner.Count - index);
        inner.Children[inner.Count] = null!;
        inner.Separators[inner.Count] = null!;
    }

    private void Shrink()
    {
        while (_root is SortedMapInner { Count: 1 } inner)
            _root = inner.Children[0];
    }

    private SortedMapNode Writable(SortedMapNode node)
    {
        if (ReferenceEquals(node.Owner, _owner))
            return node;
        if (node is SortedMapLeaf leaf)
        {
            SortedMapLeaf copy = new(_owner) { Count = leaf.Count };
            Array.Copy(leaf.Entries, copy.Entries, leaf.Count);
            return copy;
        }

        SortedMapInner inner = (SortedMapInner)node;
        SortedMapInner innerCopy = new(_owner) { Count = inner.Count };
        Array.Copy(inner.Children, innerCopy.Children, inner.Count);
        Array.Copy(inner.Separators, innerCopy.Separators, inner.Count);
        return innerCopy;
    }

    private void Added(byte[] key, byte[]? value)
    {
        _count++;
        _bytes += key.Length + (value?.Length ?? 0);
    }

    private void Removed(SortedMapLeaf leaf, int index, int count)
    {
        foreach (SortedMapEntry entry in leaf.Entries.AsSpan(index, count))
        {
            _count--;
            _bytes -= entry.Key.Length + (entry.Value?.Length ?? 0);
        }
    }
}
