namespace ShardForge.Storage.Lsm.Reads;

/// <summary>Merges cursors into one order: a binary heap of them, smallest on top going forward, largest going backward.</summary>
/// <remarks>No two cursors have the same (key, trailer). Owns the cursors. One thread.</remarks>
internal sealed class MergeCursor(EntryCursor[] cursors) : EntryCursor
{
    private readonly EntryCursor[] _heap = (EntryCursor[])cursors.Clone();
    private int _count;
    private bool _backward;

    public override bool IsValid => _count > 0;

    public override ReadOnlySpan<byte> Key => _heap[0].Key;

    public override ulong Trailer => _heap[0].Trailer;

    public override ReadOnlySpan<byte> Value => _heap[0].Value;

    public override void SeekFirst()
    {
        foreach (EntryCursor cursor in cursors)
            cursor.SeekFirst();
        Rebuild(backward: false);
    }

    public override void SeekLast()
    {
        foreach (EntryCursor cursor in cursors)
            cursor.SeekLast();
        Rebuild(backward: true);
    }

    public override void Seek(ReadOnlySpan<byte> key, ulong trailer)
    {
        foreach (EntryCursor cursor in cursors)
            cursor.Seek(key, trailer);
        Rebuild(backward: false);
    }

    public override void SeekBefore(ReadOnlySpan<byte> key, ulong trailer)
    {
        foreach (EntryCursor cursor in cursors)
            cursor.SeekBefore(key, trailer);
        Rebuild(backward: true);
    }

    public override void MoveNext()
    {
        Invariant.Check(!_backward);
        _heap[0].MoveNext();
        FixTop();
    }

    public override void MovePrevious()
    {
        Invariant.Check(_backward);
        _heap[0].MovePrevious();
        FixTop();
    }

    public override void Dispose()
    {
        foreach (EntryCursor cursor in cursors)
            cursor.Dispose();
        _count = 0;
    }

    private void FixTop()
    {
        if (!_heap[0].IsValid)
        {
            _count--;
            (_heap[0], _heap[_count]) = (_heap[_count], _heap[0]);
        }

        SiftDown(0);
    }

    private void Rebuild(bool backward)
    {
        _backward = backward;
        _count = 0;
        foreach (EntryCursor cursor in cursors)
        {
            if (cursor.IsValid)
                _heap[_count++] = cursor;
        }

        // The cursors that are at an end stay out until the next seek.
        for (int index = (_count / 2) - 1; index >= 0; index--)
            SiftDown(index);
    }

    private void SiftDown(int index)
    {
        while (true)
        {
            int child = (2 * index) + 1;
            if (child >= _count)
                return;
            if (child + 1 < _count && Above(_heap[child + 1], _heap[child]))
                child++;
            if (!Above(_heap[child], _heap[index]))
                return;
            (_heap[child], _heap[index]) = (_heap[index], _heap[child]);
            index = child;
        }
    }

    private bool Above(EntryCursor left, EntryCursor right)
    {
        int order = EntryTrailer.Compare(left.Key, left.Trailer, right.Key, right.Trailer);
        return _backward ? order > 0 : order < 0;
    }
}
