using System.Buffers;
using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

internal sealed partial class ShardReplica
{
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

        try
        {
            StorageBatch batch = new();
            while (TryTakeRound(leader, out List<PendingCommand> round, out Timestamp closed))
            {
                byte[] entry = EncodeRound(batch, round, closed);
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
            write.Leader.RemoveLocked(write, released);
        released.Add(command, fate);
    }

    private byte[] EncodeRound(StorageBatch batch, List<PendingCommand> round, Timestamp closed)
    {
        batch.Clear();
        Timestamp limit = default;
        foreach (PendingCommand command in round)
        {
            if (command is RegisteredWrite write)
                EncodeWrites(batch, write);
            else if (command is LimitCommand raise)
                limit = Timestamp.Later(limit, raise.Limit);
        }

        ReadOnlySpan<byte> writes = batch.Encoded;
        byte[] entry = new byte[ShardEntry.HeaderBytes + (2 * ShardEntry.CommandHeaderBytesMax) + writes.Length + sizeof(ulong)];
        ShardEntry.WriteHeader(entry, _shape.Epoch, closed);
        int at = ShardEntry.HeaderBytes;
        if (!writes.IsEmpty)
        {
            at += ShardEntry.WriteCommandHeader(entry.AsSpan(at), ShardCommandKind.Writes, writes.Length);
            writes.CopyTo(entry.AsSpan(at));
            at += writes.Length;
        }

        if (!limit.IsZero)
            at += ShardEntry.WriteLimit(entry.AsSpan(at), limit);
        return entry[..at];
    }

    private static void EncodeWrites(StorageBatch batch, RegisteredWrite write)
    {
        foreach (KeyWrite keyWrite in write.Request.Writes)
        {
            VersionHeader header = new() { IsDeleted = keyWrite.Value is null, Operation = write.Request.Id };
            int valueBytes = keyWrite.Value?.Length ?? 0;
            byte[] key = ArrayPool<byte>.Shared.Rent(MvccKey.BytesMax(keyWrite.Key.Length));
            byte[] value = ArrayPool<byte>.Shared.Rent(header.Bytes + valueBytes);
            int keyBytes = MvccKey.WriteVersion(key, keyWrite.Key.Span, write.CommitTimestamp);
            int headerBytes = header.Write(value);
            if (keyWrite.Value is { } bytes)
                bytes.Span.CopyTo(value.AsSpan(headerBytes));
            batch.Put(key.AsSpan(0, keyBytes), value.AsSpan(0, headerBytes + valueBytes));
            ArrayPool<byte>.Shared.Return(value);
            ArrayPool<byte>.Shared.Return(key);
        }
    }

    private static Timestamp Behind(Timestamp timestamp, TimeSpan lag)
    {
        ulong back = (ulong)lag.TotalMilliseconds << Timestamp.CounterBits;
        return timestamp.Value > back ? new(timestamp.Value - back) : default;
    }
}
