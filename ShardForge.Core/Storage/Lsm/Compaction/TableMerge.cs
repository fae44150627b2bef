using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>Writes merged entries into tables and leaves out what nobody can see: the work of flushes and compactions.</summary>
/// <remarks>
/// Snapshots cut the sequence numbers into stripes; all readers of one stripe see the same. Per stripe a key keeps its newest entry, and a range its newest
/// tombstone. In the oldest stripe, where nothing of the key group lies deeper, deletes and tombstones go, and a put gets sequence 0.
/// <para>A put under a kept tombstone keeps its sequence number: with 0 it would be covered.</para>
/// Tables are cut between key groups only. Range tombstones are clipped to the table that they are in. One thread.
/// <para>What is left after that is shown to the owner's filter, if there is one: entries of the oldest stripe only (<see cref="ICompactionFilterSource"/>).</para>
/// </remarks>
internal sealed class TableMerge(MergeTask task, Func<(ulong Number, TableWriter Writer)> newTable, Action<ulong, TableSummary> finished)
{
    private readonly List<RangeTombstone> _kept = [];
    private readonly int[] _deeperAt = new int[task.Deeper.Length];
    private byte[] _lastKey = new byte[64];
    private int _lastKeyBytes;
    private ulong _lastStripe;
    private bool _hasLastKey;
    private TableWriter? _writer;
    private ulong _number;
    private byte[]? _cut = task.Start;

    public void Run(EntryCursor entries, RangeTombstoneSet tombstones, CancellationToken stop)
    {
        KeepTombstones(tombstones);
        int untilCheck = 0;
        if (task.Start is null)
            entries.SeekFirst();
        else
            entries.Seek(task.Start, EntryTrailer.Newest);
        for (; entries.IsValid; entries.MoveNext())
        {
            if (--untilCheck < 0)
            {
                stop.ThrowIfCancellationRequested();
                task.Yield?.Invoke();
                untilCheck = 1024;
            }

            ReadOnlySpan<byte> key = entries.Key;
            if (task.End is not null && key.SequenceCompareTo(task.End) >= 0)
                break;
            if (!TryKeep(key, entries.Trailer, tombstones, out ulong trailer))
                continue;
            ReadOnlySpan<byte> value = entries.Value;
            if (task.Filter is null || TryPass(key, ref trailer, ref value))
                Write(key, trailer, value);
        }

        if (_writer is null && RestOfTombstones(task.End).Count > 0)
            (_number, _writer) = newTable();
        if (_writer is not null)
            FinishTable(task.End);
    }

    private bool TryKeep(ReadOnlySpan<byte> key, ulong trailer, RangeTombstoneSet tombstones, out ulong kept)
    {
        ulong sequence = EntryTrailer.Sequence(trailer);
        ulong stripe = Stripe(sequence);
        bool sameKey = _hasLastKey && key.SequenceEqual(_lastKey.AsSpan(0, _lastKeyBytes));
        kept = trailer;
        if (sameKey && stripe == _lastStripe)
            return false;
        if (!sameKey)
            RememberKey(key);
        _lastStripe = stripe;

        // Whoever sees this entry sees the tombstone too.
        if (tombstones.NewestOver(key, stripe) > sequence)
            return false;
        if (!IsOldestStripe(sequence) || !task.DropsDeletes || HasDeeper(key))
            return true;
        if (EntryTrailer.Kind(trailer) == EntryKind.Delete)
            return false;
        if (task.ZeroesSequences && (tombstones.IsEmpty || tombstones.NewestOver(key, EntryTrailer.SequenceMax) == 0))
            kept = EntryTrailer.Of(0, EntryTrailer.Kind(trailer));
        return true;
    }

    /// <summary>Asks the owner's filter. False: the entry goes.</summary>
    private bool TryPass(ReadOnlySpan<byte> key, ref ulong trailer, ref ReadOnlySpan<byte> value)
    {
        ulong sequence = EntryTrailer.Sequence(trailer);
        if (EntryTrailer.Kind(trailer) != EntryKind.Put || !IsOldestStripe(sequence))
            return true;
        bool isBottom = !HasDeeper(key);
        CompactionVerdict verdict = task.Filter!.Decide(key, value, isBottom);
        if (verdict == CompactionVerdict.Keep)
            return true;
        if (isBottom || verdict == CompactionVerdict.DropUnique)
            return false;
        trailer = EntryTrailer.Of(sequence, EntryKind.Delete);
        value = [];
        return true;
    }

    private void Write(ReadOnlySpan<byte> key, ulong trailer, ReadOnlySpan<byte> value)
    {
        if (_writer is not null && _writer.EstimatedBytes >= task.TableBytes && !KeyGroup.Same(_writer.LastKey, key, task.VersionSuffixBytes))
        {
            byte[] cut = KeyGroup.Start(key, task.VersionSuffixBytes);
            FinishTable(cut.AsSpan().SequenceCompareTo(_writer.LastKey) > 0 ? cut : key.ToArray());
        }

        if (_writer is null)
            (_number, _writer) = newTable();
        _writer.Add(key, trailer, value);
    }

    private void FinishTable(byte[]? cut)
    {
        _writer!.AddTombstones(RestOfTombstones(cut));
        finished(_number, _writer.Finish());
        _writer = null;
        _cut = cut;
    }

    /// <summary>The kept tombstones from the last cut up to the next, clipped to that.</summary>
    private List<RangeTombstone> RestOfTombstones(byte[]? end)
    {
        List<RangeTombstone> clipped = [];
        foreach (RangeTombstone tombstone in _kept)
        {
            byte[] from = _cut is not null && tombstone.Start.AsSpan().SequenceCompareTo(_cut) < 0 ? _cut : tombstone.Start;
            byte[] to = end is not null && tombstone.End.AsSpan().SequenceCompareTo(end) > 0 ? end : tombstone.End;
            if (from.AsSpan().SequenceCompareTo(to) < 0)
                clipped.Add(new(from, to, tombstone.Sequence));
        }

        return clipped;
    }

    private void KeepTombstones(RangeTombstoneSet tombstones)
    {
        for (int index = 0; index < tombstones.Count; index++)
        {
            (byte[] start, byte[] end, ulong[] sequences) = tombstones.Fragment(index);
            bool hasDeeper = !task.DropsDeletes || Array.Exists(task.Deeper, level => Array.Exists(level, table => table.OverlapsGroups(start, end)));
            ulong? lastStripe = null;
            foreach (ulong sequence in sequences)
            {
                ulong stripe = Stripe(sequence);
                if (stripe == lastStripe)
                    continue;
                lastStripe = stripe;
                if (hasDeeper || !IsOldestStripe(sequence))
                    _kept.Add(new(start, end, sequence));
            }
        }
    }

    /// <summary>The oldest reader that sees a sequence number, by its own.</summary>
    private ulong Stripe(ulong sequence)
    {
        foreach (ulong snapshot in task.Snapshots)
        {
            if (snapshot >= sequence)
                return snapshot;
        }

        return EntryTrailer.SequenceMax;
    }

    private bool IsOldestStripe(ulong sequence) => task.Snapshots.Length == 0 || sequence <= task.Snapshots[0];

    /// <summary>Whether a deeper level may have something of the key's group. Keys come in order, so each level is walked once.</summary>
    private bool HasDeeper(ReadOnlySpan<byte> key)
    {
        for (int level = 0; level < task.Deeper.Length; level++)
        {
            TableFile[] tables = task.Deeper[level];
            ref int at = ref _deeperAt[level];
            while (at < tables.Length && key.SequenceCompareTo(tables[at].GroupEnd) >= 0)
                at++;
            if (at < tables.Length && key.SequenceCompareTo(tables[at].GroupStart) >= 0)
                return true;
        }

        return false;
    }

    private void RememberKey(ReadOnlySpan<byte> key)
    {
        if (_lastKey.Length < key.Length)
            _lastKey = new byte[Math.Max(key.Length, 2 * _lastKey.Length)];
        key.CopyTo(_lastKey);
        _lastKeyBytes = key.Length;
        _hasLastKey = true;
    }
}
