using System.Runtime.CompilerServices;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Reads;

/// <summary>Merges cursors into one order: a binary heap of them, smallest on top going forward, largest going backward.</summary>
/// <remarks>
/// No two cursors have the same (key, trailer). Owns the cursors. One thread. A step compares the top with the better one of its children, by the first eight bytes where those
/// decide; only when the top is no longer the best does the heap move, and with a single cursor left nothing is compared.
/// </remarks>
internal sealed class MergeCursor : EntryCursor
{
    private EntryCursor[] _cursors, _heap;
    private int _cursorCount, _count;
    private bool _backward;

    public MergeCursor(EntryCursor[] cursors)
    {
        _cursors = cursors;
        _cursorCount = cursors.Length;
        _heap = new EntryCursor[cursors.Length];
    }

    /// <summary>Takes other cursors: the first <paramref name="count"/> of an array that the caller keeps as it is. Those from before are not disposed.</summary>
    public void Open(EntryCursor[] cursors, int count)
    {
        _cursors = cursors;
        _cursorCount = count;
        if (_heap.Length < count)
            _heap = new EntryCursor[cursors.Length];
        _count = 0;
        StandNowhere();
    }

    public override void SeekFirst()
    {
        foreach (EntryCursor cursor in Cursors)
            cursor.SeekFirst();
        Rebuild(backward: false);
    }

    public override void SeekLast()
    {
        foreach (EntryCursor cursor in Cursors)
            cursor.SeekLast();
        Rebuild(backward: true);
    }

    public override void Seek(ReadOnlySpan<byte> key, ulong trailer)
    {
        if (_cursorCount > 1)
        {
            foreach (EntryCursor cursor in Cursors)
                cursor.PrepareSeek(key, trailer);
        }

        foreach (EntryCursor cursor in Cursors)
            cursor.Seek(key, trailer);
        Rebuild(backward: false);
    }

    public override void SeekBefore(ReadOnlySpan<byte> key, ulong trailer)
    {
        foreach (EntryCursor cursor in Cursors)
            cursor.SeekBefore(key, trailer);
        Rebuild(backward: true);
    }

    public override void MoveNext()
    {
        Invariant.Check(!_backward);
        EntryCursor top = _heap[0];
        top.MoveNext();
        if (_count == 1 && top.IsValid)
            StandOn(top);
        else
            FixTop(top);
    }

    public override void MovePrevious()
    {
        Invariant.Check(_backward);
        EntryCursor top = _heap[0];
        top.MovePrevious();
        FixTop(top);
    }

    public override void Dispose()
    {
        foreach (EntryCursor cursor in Cursors)
            cursor.Dispose();
        _count = 0;
        StandNowhere();
    }

    private ReadOnlySpan<EntryCursor> Cursors => _cursors.AsSpan(0, _cursorCount);

    private void FixTop(EntryCursor top)
    {
        if (top.IsValid)
        {
            top.Word = KeyWord.Of(top.Key);
        }
        else if (--_count == 0)
        {
            StandNowhere();
            return;
        }
        else
        {
            // Out of the heap until the next seek.
            (_heap[0], _heap[_count]) = (_heap[_count], top);
        }

        SiftDown(0);
        StandOn(_heap[0]);
    }

    private void Rebuild(bool backward)
    {
        _backward = backward;
        _count = 0;
        foreach (EntryCursor cursor in Cursors)
        {
            if (!cursor.IsValid)
                continue;
            cursor.Word = KeyWord.Of(cursor.Key);
            _heap[_count++] = cursor;
        }

        if (_count == 0)
        {
            StandNowhere();
            return;
        }

        for (int index = (_count / 2) - 1; index >= 0; index--)
            SiftDown(index);
        StandOn(_heap[0]);
    }

    private void SiftDown(int index)
    {
        EntryCursor moved = _heap[index];
        while (true)
        {
            int child = (2 * index) + 1;
            if (child >= _count)
                break;
            EntryCursor best = _heap[child];
            if (child + 1 < _count && Above(_heap[child + 1], best))
                best = _heap[++child];
            if (!Above(best, moved))
                break;
            _heap[index] = best;
            index = child;
        }

        _heap[index] = moved;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool Above(EntryCursor left, EntryCursor right)
    {
        ulong leftWord = left.Word, rightWord = right.Word;
        return leftWord != rightWord ? (leftWord < rightWord) != _backward : AboveByAll(left, right);
    }

    private bool AboveByAll(EntryCursor left, EntryCursor right)
    {
        int order = EntryTrailer.Compare(left.Key, left.Trailer, right.Key, right.Trailer);
        return _backward ? order > 0 : order < 0;
    }
}
