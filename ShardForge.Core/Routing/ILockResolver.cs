using ShardForge.Common;
using ShardForge.Mvcc;
using ShardForge.Replication;

namespace ShardForge.Routing;

/// <summary>Finds out what became of a transaction whose lock a request met (R17). The root wires it.</summary>
internal interface ILockResolver
{
    /// <param name="met">The lock, without its value.</param>
    /// <param name="key">The locked key.</param>
    /// <param name="resolve">Whether to wait until the lock is gone, should the transaction be decided: for writes. Reads pass it.</param>
    /// <param name="deadline">Bound of the call.</param>
    /// <returns>Null: it is undecided, or that cannot be found out now.</returns>
    ValueTask<DecidedTransaction?> MeetAsync(LockRecord met, byte[] key, bool resolve, Deadline deadline);

    /// <summary>What became of a write in one shard whose outcome was not known; where it has not happened, it never will.</summary>
    Task<bool> FindOutAsync(WriteRequest request, CancellationToken cancellationToken);
}
