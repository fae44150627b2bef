namespace ShardForge.Storage.Lsm;

/// <summary>Range tombstones cut into disjoint fragments, each with its sequence numbers, newest first. Immutable.</summary>
/// <remarks>
/// Lookup is a binary search over the fragments. Building sweeps over the bounds: n log n, times the tombstones that overlap. A set that grows all the time is a chain: a new
/// piece in front of older ones (<see cref="Memtables.MemtableTombstones"/>); its fragments cannot be walked.
/// </remarks>
internal sealed class RangeTombstoneSet
{
    private readonly byte[][] _starts, _ends;
    private readonly ulong[][] _sequences;
    private readonly RangeTombstoneSet? _older;

    private RangeTombstoneSet(byte[][] starts, byte[][] ends, ulong[][] sequences, RangeTombstoneSet? older)
    {
        _starts = starts;
        _ends = ends;
        _sequences = sequences;
        _older = older;
    }

    public static RangeTombstoneSet Empty { get; } = new([], [], [], null);

    public bool IsEmpty => _starts.Length == 0 && _older is null;

    /// <summary>How many fragments it has.</summary>
    public int Count
    {
        get
        {
            Invariant.Check(_older is null);
            return _starts.Length;
        }
    }

    /// <param name="tombstones">In any order.</param>
    /// <param name="older">Pieces that the new one goes in front of; null: none.</param>
    public static RangeTombstoneSet Build(IReadOnlyCollection<RangeTombstone> tombstones, RangeTombstoneSet? older = null)
    {
        if (tombstones.Count == 0)
            return older ?? Empty;
        List<byte[]> bounds = new(2 * tombstones.Count);
        List<RangeTombstone> byStart = new(tombstones.Count);
        foreach (RangeTombstone tombstone in tombstones)
        {
            if (tombstone.Start.AsSpan().SequenceCompareTo(tombstone.End) >= 0)
                continue;
            bounds.Add(tombstone.Start);
            bounds.Add(tombstone.End);
            byStart.Add(tombstone);
        }

        bounds.Sort(static (left, right) => left.AsSpan().SequenceCompareTo(right));
        byStart.Sort(static (left, right) => left.Start.AsSpan().SequenceCompareTo(right.Start));
        List<byte[]> starts = [], ends = [];
        List<ulong[]> sequences = [];
        List<RangeTombstone> open = [];
        int next = 0;
        for (int at = 0; at + 1 < bounds.Count; at++)
        {
            byte[] start = bounds[at], end = bounds[at + 1];
            if (start.AsSpan().SequenceEqual(end))
                continue;
            while (next < byStart.Count && byStart[next].Start.AsSpan().SequenceCompareTo(start) <= 0)
                open.Add(byStart[next++]);
            open.RemoveAll(tombstone => tombstone.End.AsSpan().SequenceCompareTo(start) <= 0);
            if (open.Count == 0)
                continue;
            ulong[] covering = new ulong[open.Count];
            for (int index = 0; index < covering.Length; index++)
                covering[index] = open[index].Sequence;
            Array.Sort(covering);
            Array.Reverse(covering);
            starts.Add(start);
            ends.Add(end);
            sequences.Add(covering);
        }

        return new(starts.ToArray(), ends.ToArray(), sequences.ToArray(), older);
    }

    /// <summary>Sequence number of the newest tombstone over a key that a reader at <paramref name="sequence"/> sees; 0: none.</summary>
    public ulong NewestOver(ReadOnlySpan<byte> key, ulong sequence)
    {
        ulong newest = NewestHere(key, sequence);
        for (RangeTombstoneSet? piece = _older; piece is not null; piece = piece._older)
            newest = Math.Max(newest, piece.NewestHere(key, sequence));
        return newest;
    }

    public (byte[] Start, byte[] End, ulong[] Sequences) Fragment(int index) => (_starts[index], _ends[index], _sequences[index]);

    private ulong NewestHere(ReadOnlySpan<byte> key, ulong sequence)
    {
        if (_starts.Length == 0)
            return 0;
        int fragment = FindFragment(key);
        if (fragment < 0 || key.SequenceCompareTo(_ends[fragment]) >= 0)
            return 0;
        foreach (ulong candidate in _sequences[fragment])
        {
            if (candidate <= sequence)
                return candidate;
        }

        return 0;
    }

    /// <summary>The fragment that starts last at or before a key; -1: none.</summary>
    private int FindFragment(ReadOnlySpan<byte> key)
    {
        int low = 0, high = _starts.Length;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (key.SequenceCompareTo(_starts[middle]) < 0)
                high = middle;
            else
                low = middle + 1;
        }

        return low - 1;
    }
}
