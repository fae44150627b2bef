using System.Collections.Concurrent;

namespace ShardForge.Transactions;

/// <summary>This node's transactions that hold locks, for their heartbeats (R19). Threads: safe for concurrent use.</summary>
internal sealed class OpenCommits
{
    private readonly ConcurrentDictionary<OperationId, (byte[] Primary, long Since)> _open = new();

    public void Add(OperationId id, byte[] primary, long now) => _open[id] = (primary, now);

    public void Remove(OperationId id) => _open.TryRemove(id, out _);

    /// <summary>Those that began before a moment.</summary>
    public List<(OperationId Id, byte[] Primary)> Since(long moment)
    {
        List<(OperationId, byte[])> old = [];
        foreach ((OperationId id, (byte[] primary, long since)) in _open)
        {
            if (since <= moment)
                old.Add((id, primary));
        }

        return old;
    }
}
