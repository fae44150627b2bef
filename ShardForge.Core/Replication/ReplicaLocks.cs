using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

/// <summary>Which keys are locked: kept in memory beside the space of locks, so that a shard without locks pays nothing for looking.</summary>
/// <remarks>
/// A look has to hold for the moment that was read. So <see cref="Changes"/> rises before the engine gets a lock, and <see cref="_count"/> falls after it lost one: if the number of
/// changes is the same before and after a read, and no lock is there after it, none was there at it. Else the space of locks is read in the same snapshot.
/// Threads: changed by the apply loop alone, read by any.
/// </remarks>
internal sealed class ReplicaLocks
{
    private readonly HashSet<byte[]> _keys = new(KeyComparer.Instance);
    private readonly List<byte[]> _removed = [];
    private long _changes;
    private int _count;

    /// <summary>Take it before a read.</summary>
    public long Changes => Volatile.Read(ref _changes);

    /// <summary>After a read: whether a lock may have been there.</summary>
    public bool MayHaveBeenAny(long changesBefore) => Volatile.Read(ref _count) > 0 || Volatile.Read(ref _changes) != changesBefore;

    /// <summary>Fills it from an engine that was just opened.</summary>
    public void Load(IStorageEngine engine)
    {
        _keys.Clear();
        using IStorageIterator iterator = engine.Scan(MvccKey.LockRange(KeyRange.All));
        while (iterator.MoveNext())
            _keys.Add(iterator.Key.ToArray());
        Publish();
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
                _keys.Add(reader.Key.ToArray());
            else
                _removed.Add(reader.Key.ToArray());
        }

        Publish();
    }

    /// <summary>After the engine got what was prepared.</summary>
    public void Settle()
    {
        if (_removed.Count == 0)
            return;
        foreach (byte[] key in _removed)
            _keys.Remove(key);
        _removed.Clear();
        Publish();
    }

    private void Publish()
    {
        Volatile.Write(ref _count, _keys.Count);
        Interlocked.Increment(ref _changes);
    }
}
