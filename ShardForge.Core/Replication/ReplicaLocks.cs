using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

/// <summary>The replica's locks, without their values, kept in memory beside the space of locks (section B): a key without a lock pays for one look into a table.</summary>
/// <remarks>
/// A lock is in the table before the engine has it, and leaves it after the engine has lost it. So who finds none in the table and <i>then</i> reads the engine reads
/// either no lock, or one that came after the look; and a lock that comes later has an M above every read that was registered before (R06, R07). Who finds one
/// reads the space of locks in the same snapshot as the versions.
/// Threads: changed by the apply loop alone, read by any.
/// </remarks>
internal sealed class ReplicaLocks
{
    private readonly ConcurrentDictionary<byte[], HeldLock> _byKey = new(KeyComparer.Instance);
    private readonly HashSet<byte[]> _removed = new(KeyComparer.Instance);
    private readonly TimeProvider _timeProvider;
    private readonly TaskCreationOptions _continuations;
    private int _count;
    private long _changes;
    private bool _prepared;

    public ReplicaLocks(TimeProvider timeProvider, TaskCreationOptions continuations)
    {
        _timeProvider = timeProvider;
        _continuations = continuations;
    }

    /// <summary>No key is locked.</summary>
    public bool IsEmpty => Volatile.Read(ref _count) == 0;

    /// <summary>Rises before the engine gets a change of locks and after it has it: the same before and after a look at all of them means that the look saw all.</summary>
    public long Changes => Volatile.Read(ref _changes);

    /// <summary>Fills it from an engine that was just opened.</summary>
    public void Load(IStorageEngine engine)
    {
        List<HeldLock> gone = [.. _byKey.Values];
        _byKey.Clear();
        _removed.Clear();
        using (IStorageIterator iterator = engine.Scan(MvccKey.LockRange(KeyRange.All)))
        {
            while (iterator.MoveNext())
                Add(iterator.Key, iterator.Value);
        }

        Publish();
        foreach (HeldLock held in gone)
            held.Complete();
    }

    /// <summary>Before the engine gets a batch that touches locks.</summary>
    public void Prepare(ReadOnlySpan<byte> encodedBatch)
    {
        StorageBatchReader reader = new(encodedBatch);
        while (reader.MoveNext())
        {
            if (reader.Key.IsEmpty || reader.Key[0] != (byte)KeySpace.Lock)
                continue;
            if (reader.Kind == StorageOperationKind.Put)
                _removed.Remove(Add(reader.Key, reader.Value));
            else
                _removed.Add(UserKeyOf(reader.Key));
        }

        _prepared = true;
        Publish();
    }

    /// <summary>After the engine got what was prepared.</summary>
    /// <param name="gone">Gets the locks that are no more; who waits for them is woken by the caller.</param>
    public void Settle(List<HeldLock> gone)
    {
        if (!_prepared)
            return;
        _prepared = false;
        foreach (byte[] key in _removed)
        {
            if (_byKey.TryRemove(key, out HeldLock? held))
                gone.Add(held);
        }

        _removed.Clear();
        Publish();
    }

    public bool TryGet(ReadOnlySpan<byte> userKey, [NotNullWhen(true)] out HeldLock? held)
    {
        held = null;
        return !IsEmpty && _byKey.GetAlternateLookup<ReadOnlySpan<byte>>().TryGetValue(userKey, out held);
    }

    /// <summary>Whether a transaction has a lock on any of a resolution's keys.</summary>
    public bool HoldsAny(WriteRequest resolution)
    {
        foreach (KeyWrite write in resolution.Writes)
        {
            if (TryGet(write.Key.Span, out HeldLock? held) && held.Lock.Transaction == resolution.Id)
                return true;
        }

        return false;
    }

    /// <summary>All locks now, in no order.</summary>
    public IEnumerable<HeldLock> All => _byKey.Values;

    /// <summary>The lowest M of a lock; <see cref="Timestamp.Max"/>: none.</summary>
    public Timestamp LowestMinimumCommit()
    {
        Timestamp lowest = Timestamp.Max;
        if (!IsEmpty)
        {
            foreach (HeldLock held in _byKey.Values)
                lowest = Timestamp.Earlier(lowest, held.Lock.MinimumCommit);
        }

        return lowest;
    }

    private byte[] Add(ReadOnlySpan<byte> engineKey, ReadOnlySpan<byte> value)
    {
        byte[] userKey = UserKeyOf(engineKey);
        _byKey[userKey] = new HeldLock(userKey, LockRecord.Decode(value).WithoutValue(), _timeProvider.GetTimestamp(), _continuations);
        return userKey;
    }

    private static byte[] UserKeyOf(ReadOnlySpan<byte> engineKey)
    {
        byte[] userKey = new byte[engineKey.Length];
        return MvccKey.TryReadUserKey(engineKey, KeySpace.Lock, userKey, out int length, out _)
            ? userKey[..length]
            : throw new InvalidDataException($"An engine key among the locks is none: {Convert.ToHexString(engineKey[..Math.Min(engineKey.Length, 32)])}.");
    }

    private void Publish()
    {
        Volatile.Write(ref _count, _byKey.Count);
        Interlocked.Increment(ref _changes);
    }
}

/// <summary>A lock of an undecided transaction as a replica keeps it in memory.</summary>
/// <param name="key">The locked user key.</param>
/// <param name="record">The lock, without its value.</param>
/// <param name="seen">When this replica got it, on its own clock.</param>
/// <param name="continuations">How who waits for it is woken.</param>
internal sealed class HeldLock(byte[] key, LockRecord record, long seen, TaskCreationOptions continuations)
{
    private TaskCompletionSource? _changed;

    public byte[] Key => key;

    public LockRecord Lock => record;

    public long Seen => seen;

    /// <summary>Completes when the lock is gone, or more is known of its transaction.</summary>
    public Task Changed
    {
        get
        {
            TaskCompletionSource? changed = Volatile.Read(ref _changed);
            if (changed is null)
            {
                TaskCompletionSource created = new(continuations);
                changed = Interlocked.CompareExchange(ref _changed, created, null) ?? created;
            }

            return changed.Task;
        }
    }

    /// <summary>More is known of the transaction: who waits looks again.</summary>
    public void Wake() => Interlocked.Exchange(ref _changed, null)?.TrySetResult();

    /// <summary>The lock is gone: who waits, or will, looks again.</summary>
    public void Complete()
    {
        TaskCompletionSource completed = new(continuations);
        (Interlocked.CompareExchange(ref _changed, completed, null) ?? completed).TrySetResult();
    }
}
