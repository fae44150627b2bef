using System.IO.Hashing;

namespace ShardForge.Storage;

/// <summary>Where a transaction began: what it reads, and what of the write history it still needs.</summary>
/// <param name="Snapshot">The state it reads. Owned by the transaction.</param>
/// <param name="Sequence">Number of the last write that the snapshot holds.</param>
internal sealed record TransactionStart(IStorageSnapshot Snapshot, long Sequence);

/// <summary>Which keys were written since the oldest open transaction began: enough to let the first committer win.</summary>
/// <remarks>
/// Keys are remembered by a 64-bit hash (XxHash3) with the number of their last write: two keys with one hash cost a conflict that is
/// none, never a missed one. Nothing is remembered while no transaction is open. More than <c>entriesMax</c> remembered writes push the
/// oldest out, and transactions that began before them conflict (as in FoundationDB's resolvers).
/// The engine numbers its writes 1, 2, 3… in the order in which they become visible, and calls <see cref="Begin"/>,
/// <see cref="TryFindConflict"/> and <see cref="Record"/> in that order, one at a time: under the lock, or on the thread, that orders its
/// writes, with the snapshot taken there too. <see cref="End"/> may come from any thread.
/// </remarks>
internal sealed class WriteHistory(int entriesMax = WriteHistory.EntriesDefault)
{
    // About 50 MB at most, and only while a transaction stays open over a million writes.
    internal const int EntriesDefault = 1_000_000;

    private readonly Lock _gate = new();
    private readonly SortedDictionary<long, int> _open = [];                     // sequence of a start -> transactions
    private readonly Dictionary<ulong, long> _lastWrites = [];                   // hash of a key -> its last write
    private readonly Queue<(ulong Hash, long Sequence)> _writes = new();         // in order; the dictionary holds the newest of each hash
    private readonly Queue<(byte[] Start, byte[] End, long Sequence)> _ranges = new();
    private long _floor = long.MaxValue;                                         // writes up to here are not remembered; at first and between transactions, none is
    private volatile bool _recording;

    /// <summary>A transaction starts that sees all writes up to a number.</summary>
    public void Begin(long sequence)
    {
        lock (_gate)
        {
            if (_open.Count == 0)
                _floor = sequence;
            _open[sequence] = _open.GetValueOrDefault(sequence) + 1;
            _recording = true;
        }
    }

    /// <summary>A transaction has ended, whichever way.</summary>
    public void End(long sequence)
    {
        lock (_gate)
        {
            Invariant.Require(_open.TryGetValue(sequence, out int count));
            if (count > 1)
                _open[sequence] = count - 1;
            else
                _open.Remove(sequence);
            if (_open.Count > 0)
            {
                ForgetLocked(FirstOpenLocked());
                return;
            }

            // A commit whose caller stopped waiting may still be queued: with nothing remembered it must conflict.
            _recording = false;
            ForgetLocked(long.MaxValue);
        }
    }

    /// <summary>Notes the keys of a write, before it becomes visible.</summary>
    public void Record(ReadOnlySpan<byte> encodedBatch, long sequence)
    {
        if (!_recording)
            return;
        lock (_gate)
        {
            if (_open.Count == 0)
                return;
            StorageBatchReader reader = new(encodedBatch);
            while (reader.MoveNext())
            {
                if (reader.Kind == StorageOperationKind.DeleteRange)
                {
                    _ranges.Enqueue((reader.Key.ToArray(), reader.Value.ToArray(), sequence));
                    continue;
                }

                ulong hash = XxHash3.HashToUInt64(reader.Key);
                _lastWrites[hash] = sequence;
                _writes.Enqueue((hash, sequence));
            }

            while (_writes.Count + _ranges.Count > entriesMax)
                ForgetLocked(OldestLocked());
        }
    }

    /// <summary>Whether a key of a batch was written since a transaction began.</summary>
    /// <param name="encodedBatch">Puts and deletes of the transaction.</param>
    /// <param name="startSequence">Where the transaction began.</param>
    /// <param name="conflict">What to tell the caller; null: no conflict.</param>
    public bool TryFindConflict(ReadOnlySpan<byte> encodedBatch, long startSequence, out TransactionConflictException? conflict)
    {
        lock (_gate)
        {
            conflict = FindConflictLocked(encodedBatch, startSequence);
            return conflict is not null;
        }
    }

    private TransactionConflictException? FindConflictLocked(ReadOnlySpan<byte> encodedBatch, long startSequence)
    {
        if (startSequence < _floor)
        {
            return new TransactionConflictException(
                $"The transaction began at write {startSequence:N0}, and what was written since is not remembered any more (at most {entriesMax:N0} writes are, and none once the caller stopped waiting). Nothing was written.");
        }

        StorageBatchReader reader = new(encodedBatch);
        while (reader.MoveNext())
        {
            Invariant.Require(reader.Kind != StorageOperationKind.DeleteRange);
            if (_lastWrites.TryGetValue(XxHash3.HashToUInt64(reader.Key), out long written) && written > startSequence)
                return Conflict(reader.Key, written, startSequence);
            foreach ((byte[] start, byte[] end, long sequence) in _ranges)
            {
                if (sequence > startSequence && reader.Key.SequenceCompareTo(start) >= 0 && reader.Key.SequenceCompareTo(end) < 0)
                    return Conflict(reader.Key, sequence, startSequence);
            }
        }

        return null;
    }

    private static TransactionConflictException Conflict(ReadOnlySpan<byte> key, long written, long startSequence) =>
        new($"Key {Convert.ToHexString(key[..Math.Min(key.Length, 16)])} ({key.Length:N0} bytes) was written by another (write {written:N0}) "
            + $"after the transaction began (write {startSequence:N0}). Nothing was written.");

    private long OldestLocked()
    {
        long key = _writes.TryPeek(out (ulong Hash, long Sequence) write) ? write.Sequence : long.MaxValue;
        long range = _ranges.TryPeek(out (byte[] Start, byte[] End, long Sequence) deleted) ? deleted.Sequence : long.MaxValue;
        return Math.Min(key, range);
    }

    private long FirstOpenLocked()
    {
        using SortedDictionary<long, int>.KeyCollection.Enumerator first = _open.Keys.GetEnumerator();
        first.MoveNext();
        return first.Current;
    }

    /// <summary>Forgets all writes up to a number.</summary>
    private void ForgetLocked(long sequence)
    {
        while (_writes.TryPeek(out (ulong Hash, long Sequence) write) && write.Sequence <= sequence)
        {
            _writes.Dequeue();
            if (_lastWrites[write.Hash] == write.Sequence)
                _lastWrites.Remove(write.Hash);
        }

        while (_ranges.TryPeek(out (byte[] Start, byte[] End, long Sequence) range) && range.Sequence <= sequence)
            _ranges.Dequeue();
        _floor = Math.Max(_floor, sequence);
    }
}
