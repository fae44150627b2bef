using System.Collections.Concurrent;
using ShardForge.Replication;

namespace ShardForge.Transactions;

/// <summary>What this node knows of decided transactions, so that their locks are passed without a question. Bounded: what falls out is asked for again.</summary>
/// <remarks>An outcome is final, so what is here never has to be taken back. Threads: safe for concurrent use.</remarks>
internal sealed class KnownOutcomes
{
    private const int Max = 16_384;

    private readonly ConcurrentDictionary<OperationId, Timestamp> _commits = new();
    private readonly ConcurrentQueue<OperationId> _order = new();

    public void Add(OperationId id, Timestamp commit)
    {
        if (!_commits.TryAdd(id, commit))
            return;
        _order.Enqueue(id);
        while (_order.Count > Max && _order.TryDequeue(out OperationId oldest))
            _commits.TryRemove(oldest, out _);
    }

    public DecidedTransaction? Find(OperationId id) => _commits.TryGetValue(id, out Timestamp commit) ? new DecidedTransaction(id, commit) : null;
}
