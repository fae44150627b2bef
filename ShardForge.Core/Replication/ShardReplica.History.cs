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
        LimitCommand command;
        while (true)
        {
            // A prewrite becomes a lock between its registration and the table's; the table's changes tell whether it did while this looked at both.
            long lockChanges = _locks.Changes;
            Timestamp limit = Timestamp.Earlier(wanted, Timestamp.Earlier(_timestamps.LastKnown, _locks.LowestMinimumCommit().Previous));
            lock (_gate)
            {
                if (leader.IsLost)
                    return false;
                if (lockChanges != _locks.Changes)
                    continue;
                Timestamp lowest = leader.LowestFixedLocked();
                if (limit >= lowest)
                    limit = lowest.Previous;
                if (limit <= HistoryLimit)
                    return true;
                command = new LimitCommand(_continuations) { Limit = limit, ChargedBytes = WriteOverheadBytes, Leader = leader };
                _chargedBytes += command.ChargedBytes;
                leader.ToPropose.Enqueue(command);
                break;
            }
        }

        Propose(leader);
        return await command.Fate.WaitAsync(cancellationToken).ConfigureAwait(false) == CommandFate.Applied;
    }
}
