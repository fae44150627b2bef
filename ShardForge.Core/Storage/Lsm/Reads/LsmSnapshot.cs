namespace ShardForge.Storage.Lsm.Reads;

/// <summary>A sequence number that readers hold: merges keep what it sees.</summary>
internal sealed class LsmSnapshot(SnapshotList owner, ulong sequence) : IStorageSnapshot
{
    private int _disposed;

    public ulong Sequence => sequence;

    public SnapshotList Owner => owner;

    public bool IsDisposed => Volatile.Read(ref _disposed) != 0;

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
            owner.Remove(sequence);
    }
}

/// <summary>The snapshots of an engine that are open. Safe for concurrent use.</summary>
internal sealed class SnapshotList
{
    private readonly Lock _gate = new();
    private readonly SortedDictionary<ulong, int> _open = [];

    /// <summary>Opens a snapshot; the sequence number is read inside, so that no merge can come between.</summary>
    public LsmSnapshot Add(Func<ulong> visibleSequence)
    {
        lock (_gate)
        {
            ulong sequence = visibleSequence();
            _open[sequence] = _open.GetValueOrDefault(sequence) + 1;
            return new LsmSnapshot(this, sequence);
        }
    }

    public int Count
    {
        get
        {
            lock (_gate)
            {
                int count = 0;
                foreach (int own in _open.Values)
                    count += own;
                return count;
            }
        }
    }

    public void Remove(ulong sequence)
    {
        lock (_gate)
        {
            int left = _open[sequence] - 1;
            if (left == 0)
                _open.Remove(sequence);
            else
                _open[sequence] = left;
        }
    }

    /// <summary>Their sequence numbers, ascending. A snapshot that is opened later sees all that was visible before the call.</summary>
    public ulong[] ToArray()
    {
        lock (_gate)
            return [.. _open.Keys];
    }
}
