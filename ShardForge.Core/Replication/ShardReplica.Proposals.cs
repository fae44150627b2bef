using ShardForge.Storage;

namespace ShardForge.Replication;

internal sealed partial class ShardReplica
{
    private const int LoneWritesMax = 1;

    // Proposals whose place in the log is known and whose fate is not. They outlive the leadership: the feed still tells what became of them.
    private readonly Dictionary<LogIndex, ProposedEntry> _proposed = [];

    // Terms of entries that were applied while somebody proposed: an entry can be applied before its index is noted here.
    private readonly Dictionary<LogIndex, Term> _appliedMeanwhile = [];
    private readonly List<PendingCommand> _evaluatedInOldTerm = [];
    private int _proposingCount;

    private sealed record ProposedEntry(Term Term, LeaderState Leader, List<PendingCommand> Commands);

    // Puts what waits into entries, as long as there is something and a place in flight. One caller does it for all that come meanwhile, and nobody else until
    // TryTakeRound has found nothing more: entries are appended in the order in which their rounds were taken (R09, R13).
    private void Propose(LeaderState leader)
    {
        lock (_gate)
        {
            if (leader.IsProposing)
                return;
            leader.IsProposing = true;
            _proposingCount++;
        }

        // A lone write goes out at once. Where many are under way, those that are about to be evaluated are in the pool's queue: behind them, one entry takes all.
        if (leader.RegisteredCount > LoneWritesMax && !_options.RunContinuationsInline)
            ThreadPool.UnsafeQueueUserWorkItem(static state => state.Replica.ProposeAll(state.Leader), (Replica: this, Leader: leader), preferLocal: false);
        else
            ProposeAll(leader);
    }

    private void ProposeAll(LeaderState leader)
    {
        try
        {
            StorageBatch batch = new(), lockBatch = new();
            while (TryTakeRound(leader, out List<PendingCommand> round, out Timestamp closed))
            {
                byte[] entry = EncodeRound(batch, lockBatch, round, closed);
                bool appended = _group!.TryPropose(leader.Term, entry, out LogIndex index);
                bool leads = appended || (_group.Status is { IsLeader: true } status && status.Term == leader.Term);
                ReleasedWaiters released = new();
                lock (_gate)
                {
                    if (appended)
                        NoteProposedLocked(leader, index, round, released);
                    else
                        RefuseLocked(leader, round, leads, released);
                }

                released.Wake();
            }
        }
        catch (Exception error)
        {
            // Whether the group has the entry is not known, and a second try could append it twice. Nobody proposes in this leadership any more.
            Stop(error);
        }
        finally
        {
            lock (_gate)
            {
                if (--_proposingCount == 0)
                    _appliedMeanwhile.Clear();
            }
        }
    }

    private bool TryTakeRound(LeaderState leader, out List<PendingCommand> round, out Timestamp closed)
    {
        // R13: t first, then the lease. A leader that lost it closes nothing more.
        Timestamp closing = Behind(_timestamps.LastKnown, _options.ClosedLag);
        bool mayClose = _group!.HasLease(leader.Term);
        round = [];
        closed = default;
        lock (_gate)
        {
            if (leader.IsLost || leader.ToPropose.Count == 0 || leader.EntriesInFlight >= _options.EntriesInFlightMax)
            {
                leader.IsProposing = false;
                return false;
            }

            if (mayClose)
                CloseLocked(leader, closing);
            closed = leader.Closed;
            long bytes = 0;
            do
            {
                PendingCommand command = leader.ToPropose.Dequeue();
                bytes += command.ChargedBytes;
                round.Add(command);
            }
            while (leader.ToPropose.TryPeek(out PendingCommand? next) && bytes + next.ChargedBytes <= _options.EntryBytesTarget);
            leader.EntriesInFlight++;
            return true;
        }
    }

    // Closing is a read of the whole shard, below every registered write that is not in an earlier entry.
    private void CloseLocked(LeaderState leader, Timestamp closing)
    {
        if (_rules.R13BelowRegistered)
        {
            Timestamp lowest = leader.LowestUnproposedLocked();
            if (closing >= lowest)
                closing = lowest.Previous;
        }

        if (closing <= leader.Closed)
            return;
        leader.Closed = closing;
        if (_rules.R13RaisesHighestRead)
            leader.HighestRead = Timestamp.Later(leader.HighestRead, closing);
    }

    private void NoteProposedLocked(LeaderState leader, LogIndex index, List<PendingCommand> round, ReleasedWaiters released)
    {
        // An entry of an earlier term at this index was cut off, or this one could not be there.
        if (_proposed.Remove(index, out ProposedEntry? earlier))
            EndLocked(earlier, CommandFate.NotWritten, released);
        ProposedEntry entry = new(leader.Term, leader, round);
        if (_fault is not null)
            EndLocked(entry, CommandFate.Stopped, released);
        else if (index > AppliedIndex)
            _proposed.Add(index, entry);
        else if (_appliedMeanwhile.TryGetValue(index, out Term term))
            EndLocked(entry, term == leader.Term ? CommandFate.Applied : CommandFate.NotWritten, released);
        else
            EndLocked(entry, CommandFate.Unknown, released);
    }

    // R11: it was not appended and never will be. Whoever leads now has another term; or this one still does, and the log is full (R34) or a hand-over has begun
    // that may yet fail: then there is nothing to lose but this round.
    private void RefuseLocked(LeaderState leader, List<PendingCommand> round, bool leads, ReleasedWaiters released)
    {
        if (!_rules.R11SameTerm)
            _evaluatedInOldTerm.AddRange(round);
        else
            EndLocked(new ProposedEntry(leader.Term, leader, round), CommandFate.NotWritten, released);
        if (!leads)
            LoseLocked(leader, released);
    }

    // What is in no entry yet never will be.
    private void RefuseQueuedLocked(LeaderState leader, ReleasedWaiters released)
    {
        while (leader.ToPropose.TryDequeue(out PendingCommand? command))
        {
            if (leader.IsLost && !_rules.R11SameTerm)
                _evaluatedInOldTerm.Add(command);
            else
                EndLocked(command, CommandFate.NotWritten, released);
        }
    }

    private void EndLocked(ProposedEntry entry, CommandFate fate, ReleasedWaiters released)
    {
        entry.Leader.EntriesInFlight--;
        foreach (PendingCommand command in entry.Commands)
            EndLocked(command, fate, released);
    }

    // Registration and latches end here, with the fate (R09).
    private void EndLocked(PendingCommand command, CommandFate fate, ReleasedWaiters released)
    {
        _chargedBytes -= command.ChargedBytes;
        if (command is RegisteredWrite write)
        {
            write.Leader.RemoveLocked(write, released);
            if (write.Request.Step == WriteStep.Decide)
                write.Leader.ForgetHeardLocked(write.Request.Id);
        }

        released.Add(command, fate);
    }

    // Versions apart from what touches locks. A key's commands exclude each other, but for blind writes, which are all in the first, so their order is kept.
    private byte[] EncodeRound(StorageBatch batch, StorageBatch lockBatch, List<PendingCommand> round, Timestamp closed)
    {
        batch.Clear();
        lockBatch.Clear();
        Timestamp limit = default;
        foreach (PendingCommand command in round)
        {
            if (command is RegisteredWrite { Request.Step: WriteStep.Commit } write)
                WriteEncoder.WriteVersions(batch, write);
            else if (command is RegisteredWrite step)
                WriteEncoder.WriteStep(lockBatch, step);
            else if (command is SweepCommand sweep)
                sweep.Write(lockBatch);
            else if (command is LimitCommand raise)
                limit = Timestamp.Later(limit, raise.Limit);
        }

        ReadOnlySpan<byte> writes = batch.Encoded, locks = lockBatch.Encoded;
        byte[] entry = new byte[ShardEntry.HeaderBytes + (3 * ShardEntry.CommandHeaderBytesMax) + writes.Length + locks.Length + sizeof(ulong)];
        ShardEntry.WriteHeader(entry, _shape.Epoch, closed);
        int at = ShardEntry.HeaderBytes;
        at += WriteBatch(entry.AsSpan(at), ShardCommandKind.Writes, writes);
        at += WriteBatch(entry.AsSpan(at), ShardCommandKind.WritesWithLocks, locks);
        if (!limit.IsZero)
            at += ShardEntry.WriteLimit(entry.AsSpan(at), limit);
        return entry[..at];
    }

    private static int WriteBatch(Span<byte> target, ShardCommandKind kind, ReadOnlySpan<byte> batch)
    {
        if (batch.IsEmpty)
            return 0;
        int at = ShardEntry.WriteCommandHeader(target, kind, batch.Length);
        batch.CopyTo(target[at..]);
        return at + batch.Length;
    }

    private static Timestamp Behind(Timestamp timestamp, TimeSpan lag)
    {
        ulong back = (ulong)lag.TotalMilliseconds << Timestamp.CounterBits;
        return timestamp.Value > back ? new(timestamp.Value - back) : default;
    }
}
