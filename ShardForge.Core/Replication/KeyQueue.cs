namespace ShardForge.Replication;

/// <summary>The writes registered on one key, in the order in which they came: the first holds the key's latch, or several that share it. Guarded by the gate.</summary>
/// <remarks>Invariant: the first <see cref="_grantedCount"/> hold the key; they are one write, or all shared. The queue lives as long as it has a write.</remarks>
internal sealed class KeyQueue(byte[] key)
{
    private readonly List<RegisteredWrite> _writes = [];
    private int _grantedCount;

    public byte[] Key { get; } = key;

    /// <summary>Highest M fixed on this key while the queue lives: holders that share the key may not be applied yet, so the engine does not know it.</summary>
    public Timestamp HighestFixed { get; set; }

    public IReadOnlyList<RegisteredWrite> Writes => _writes;

    public bool IsEmpty => _writes.Count == 0;

    public void Add(RegisteredWrite write)
    {
        _writes.Add(write);
        if (CanGrantNext())
            _grantedCount++;
        else
            write.BlockedKeyCount++;
    }

    /// <summary>Takes a write out, and grants the key to those whose turn it is now.</summary>
    /// <param name="write">In the queue.</param>
    /// <param name="granted">Gets the writes that now hold all their keys.</param>
    public void Remove(RegisteredWrite write, List<RegisteredWrite> granted)
    {
        int at = _writes.IndexOf(write);
        Invariant.Require(at >= 0);
        _writes.RemoveAt(at);
        if (at < _grantedCount)
            _grantedCount--;
        while (_grantedCount < _writes.Count && CanGrantNext())
        {
            RegisteredWrite next = _writes[_grantedCount++];
            if (--next.BlockedKeyCount == 0)
                granted.Add(next);
        }
    }

    private bool CanGrantNext() => _grantedCount == 0 || (_writes[_grantedCount].IsShared && _writes[0].IsShared);
}
