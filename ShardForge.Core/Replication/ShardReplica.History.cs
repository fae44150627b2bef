using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

internal sealed partial class ShardReplica
{
    /// <summary>Proposes that history below <paramref name="wanted"/> may go (R28), as far as no write is fixed and no lock undecided below it.</summary>
    /// <returns>False: this replica does not lead, or it is not known whether the limit was raised.</returns>
    public async ValueTask<bool> RaiseHistoryLimitAsync(Timestamp wanted, CancellationToken cancellationToken)
    {
        (LeaderState? leader, _) = await EnterAsync(cancellationToken).ConfigureAwait(false);
        if (leader is null)
            return false;
        Timestamp limit = Timestamp.Earlier(wanted, Timestamp.Earlier(_timestamps.LastKnown, BelowLocks()));
        LimitCommand command;
        lock (_gate)
        {
            if (leader.IsLost)
                return false;
            Timestamp lowest = leader.LowestFixedLocked();
            if (limit >= lowest)
                limit = lowest.Previous;
            if (limit <= HistoryLimit)
                return true;
            command = new LimitCommand(_continuations) { Limit = limit, ChargedBytes = WriteOverheadBytes, Leader = leader };
            _chargedBytes += command.ChargedBytes;
            leader.ToPropose.Enqueue(command);
        }

        Propose(leader);
        return await command.Fate.WaitAsync(cancellationToken).ConfigureAwait(false) == CommandFate.Applied;
    }

    private Timestamp BelowLocks()
    {
        Timestamp lowest = Timestamp.Max;
        if (!_locks.MayHaveBeenAny(_locks.Changes) || !TryEnterEngine(out EngineHandle? engine))
            return lowest;
        try
        {
            using IStorageIterator iterator = engine.Engine.Scan(MvccKey.LockRange(KeyRange.All));
            while (iterator.MoveNext())
                lowest = Timestamp.Earlier(lowest, LockRecord.ReadMinimumCommit(iterator.Value).Previous);
            return lowest;
        }
        finally
        {
            engine.Exit();
        }
    }
}
