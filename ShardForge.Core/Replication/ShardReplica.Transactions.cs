using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

/// <content>A leader's part in commits over shards: prewrites (R14), decisions (R15), validations (R16), marks (R17), the age of owners (R19).</content>
internal sealed partial class ShardReplica
{
    private readonly record struct ReadSet(OperationId Transaction, Timestamp Start, Timestamp Commit, IReadOnlyList<ReadOnlyMemory<byte>> Keys, IReadOnlyList<KeyRange> Ranges,
        IReadOnlyList<DecidedTransaction> Decided);

    // R14: what earlier attempts left counts first. A key that is locked or written already is left alone; with all of them so, that is the answer.
    private ShardResponse? LookAtPrewrite(IStorageEngine engine, RegisteredWrite write, ShardShape shape)
    {
        WriteRequest request = write.Request;
        int doneCount = 0;
        for (int i = 0; i < request.Writes.Count; i++)
        {
            if (FindOwnTrace(engine, write, i, out Timestamp trace) is { } refusal)
                return refusal;
            if (!trace.IsZero)
            {
                write.EarlierTimestamp = Timestamp.Later(write.EarlierTimestamp, trace);
                (write.Skipped ??= new bool[request.Writes.Count])[i] = true;
                doneCount++;
            }
            else if (FindForeignLock(request.Writes[i].Key.Span, request.Id) is { } locked)
            {
                return IsDoomed(request, locked.Lock!) ?? locked;
            }
            else if (FindConflict(engine, write, i) is { } conflict)
            {
                return conflict;
            }
        }

        return doneCount == request.Writes.Count ? _responses.Written(write.EarlierTimestamp, shape.Epoch) : null;
    }

    // R20 lets it wait; but a lock with M above its start ends in a version above its start, unless the other is rolled back. So it fails at once: a re-run waits
    // where waiting pays, in its reads.
    private ShardResponse? IsDoomed(WriteRequest request, LockRecord met)
    {
        if (request.Start is not { } start || met.MinimumCommit <= start || !_rules.R12ConflictsAboveStart || FindDecided(met.Transaction, []) is { IsCommitted: false })
            return null;
        return _responses.Conflict(request.Writes[0].Key.Span, $"beside it a lock of transaction {met.Transaction}, which commits above the transaction's start at {start}");
    }

    // The lock's M or the commit's C; a mark or abort refuses.
    private ShardResponse? FindOwnTrace(IStorageEngine engine, RegisteredWrite write, int at, out Timestamp trace)
    {
        WriteRequest request = write.Request;
        ReadOnlySpan<byte> key = request.Writes[at].Key.Span;
        trace = default;
        if (_locks.TryGet(key, out HeldLock? held) && held.Lock.Transaction == request.Id && _rules.R14KeepsM)
        {
            trace = held.Lock.MinimumCommit;
            return null;
        }

        if (!_rules.R14FindsOwnTraces)
            return null;
        if (write.Leader.Recent.Bound(write.KeyHashes[at]) > request.KnownTimestamp)
        {
            trace = MvccReader.FindOperation(engine, key, request.Id, request.KnownTimestamp);
            if (!trace.IsZero)
                return null;
        }

        if (_ended.Contains(request.Id))
            return _responses.Conflict(key, $"a mark or an abort of transaction {request.Id}");
        if (request.IsRetry && key.SequenceEqual(request.Prewrite!.Primary) && MvccReader.ReadOperation(engine, key, OperationRecordKind.Decision, request.Id) is { } decision)
            trace = decision.Timestamp;
        return null;
    }

    // Decisions, resolutions, marks: the latches are held, so what the table and the engine say of these keys stays so. Null: it is queued to be proposed.
    private ShardResponse? EvaluateStep(IStorageEngine engine, RegisteredWrite write, ShardShape shape, Timestamp answer)
    {
        write.Written = answer;
        ShardResponse? known = write.Request.Step switch
        {
            WriteStep.Decide => LookAtDecision(engine, write),
            WriteStep.Resolve => LookAtResolution(engine, write, shape),
            _ => LookAtMark(engine, write, shape),
        };
        if (known is not null)
            return known;
        lock (_gate)
        {
            if (CheckBeforeQueueLocked(write, shape) is { } refusal)
                return refusal;
            if (write.Locks is not null && !write.Request.CommitAt.IsZero)
                write.Leader.NoteResolvedLocked(write, write.Request.CommitAt);
            write.Leader.ToPropose.Enqueue(write);
            return null;
        }
    }

    // R15: the first decision counts. R21: a rollback that finds no lock leaves the abort, which refuses the late prewrite.
    private ShardResponse? LookAtDecision(IStorageEngine engine, RegisteredWrite write)
    {
        WriteRequest request = write.Request;
        ReadOnlySpan<byte> key = request.Writes[0].Key.Span;
        if (FindOutcome(engine, key, request.Id, request.Age, snapshot: null) is { } decided)
            return decided;
        CollectLocks(engine, write);
        if (write.Locks?[0] is null && !request.CommitAt.IsZero)
            return ShardResponses.Missing();
        write.Answer = ShardResponses.Decided(request.CommitAt);
        return null;
    }

    private ShardResponse? LookAtResolution(IStorageEngine engine, RegisteredWrite write, ShardShape shape)
    {
        CollectLocks(engine, write);
        write.Answer = _responses.Written(write.Request.CommitAt, shape.Epoch);
        return write.Locks is null ? write.Answer : null;
    }

    // R17: the latch has waited for a prewrite in flight.
    private ShardResponse? LookAtMark(IStorageEngine engine, RegisteredWrite write, ShardShape shape)
    {
        WriteRequest request = write.Request;
        ReadOnlySpan<byte> key = request.Writes[0].Key.Span;
        if (_locks.TryGet(key, out HeldLock? held) && held.Lock.Transaction == request.Id)
            return _responses.Written(held.Lock.MinimumCommit, shape.Epoch);
        if (FindOutcome(engine, key, request.Id, request.Age, snapshot: null) is { } decided)
            return decided.Timestamp.IsZero ? ShardResponses.Missing() : decided;
        if (!_rules.R17MarksMissing)
            return ShardResponses.Missing();
        write.Answer = ShardResponses.Missing();
        return null;
    }

    private void CollectLocks(IStorageEngine engine, RegisteredWrite write)
    {
        WriteRequest request = write.Request;
        for (int i = 0; i < request.Writes.Count; i++)
        {
            if (ReadOwnLock(engine, request.Writes[i].Key.Span, request.Id) is not { } own)
                continue;
            Invariant.Require(request.CommitAt.IsZero || request.CommitAt >= own.MinimumCommit || !_rules.R14KeepsM);
            (write.Locks ??= new LockRecord?[request.Writes.Count])[i] = own;
        }
    }

    private LockRecord? ReadOwnLock(IStorageEngine engine, ReadOnlySpan<byte> key, OperationId id)
    {
        if (!_locks.TryGet(key, out HeldLock? held) || held.Lock.Transaction != id)
            return null;
        LockRecord own = LockRecord.Decode(MvccReader.ReadLock(engine, key)!);
        Invariant.Require(own.Transaction == id);
        return own;
    }

    // What is durable here of a transaction's outcome: the decision, a mark (at the primary it is as good as an abort), or its version (R15).
    private ShardResponse? FindOutcome(IStorageEngine engine, ReadOnlySpan<byte> key, OperationId id, Timestamp above, IStorageSnapshot? snapshot)
    {
        if (MvccReader.ReadOperation(engine, key, OperationRecordKind.Decision, id, snapshot) is { } decision)
            return ShardResponses.Decided(decision.Timestamp);
        if (MvccReader.ReadOperation(engine, key, OperationRecordKind.Mark, id, snapshot) is not null)
            return ShardResponses.Decided(default);
        Timestamp commit = MvccReader.FindOperation(engine, key, id, above, snapshot);
        return commit.IsZero ? null : ShardResponses.Decided(commit);
    }

    // ---- questions

    private async ValueTask<ShardResponse> AnswerAsync(TransactionRequest request, CancellationToken cancellationToken)
    {
        try
        {
            (LeaderState? leader, ShardResponse? refusal) = await EnterAsync(cancellationToken).ConfigureAwait(false);
            if (leader is null)
                return refusal!;
            ShardShape shape = _shape;
            if (request.Question == TransactionQuestion.Limit)
            {
                await RaiseHistoryLimitAsync(request.Timestamp, cancellationToken).ConfigureAwait(false);
                return new ShardResponse { Status = ShardStatus.Ok, Epoch = shape.Epoch };
            }

            foreach (ReadOnlyMemory<byte> key in request.Keys)
            {
                if (CheckKey(shape, request, key.Span) is { } wrong)
                    return wrong;
            }

            if (request.Question == TransactionQuestion.Hint)
            {
                Hint(request.Transaction, request.Timestamp, request.Keys);
                return new ShardResponse { Status = ShardStatus.Ok, Epoch = shape.Epoch };
            }

            if (!await MayReadAsync(leader, cancellationToken).ConfigureAwait(false))
                return NotLeader();
            if (request.Question == TransactionQuestion.Status)
                return AnswerStatus(leader, shape, request);
            lock (_gate)
                leader.HeardLocked(request.Transaction, _options.TimeProvider.GetTimestamp(), isHeard: true);
            return new ShardResponse { Status = ShardStatus.Ok, Epoch = shape.Epoch };
        }
        catch (OperationCanceledException error)
        {
            return _responses.TimedOut("the leader's first entry", error);
        }
    }

    private ShardResponse AnswerStatus(LeaderState leader, ShardShape shape, TransactionRequest request)
    {
        ReadOnlySpan<byte> primary = request.Keys[0].Span;
        if (!TryEnterEngine(out EngineHandle? engine))
            return NotLeader();
        try
        {
            LockRecord? own;
            using (IStorageSnapshot snapshot = engine.Engine.CreateSnapshot())
            {
                if (FindOutcome(engine.Engine, primary, request.Transaction, request.Timestamp, snapshot) is { } decided)
                    return decided;
                own = MvccReader.ReadLock(engine.Engine, primary, snapshot) is { } bytes && LockRecord.Decode(bytes) is { } there && there.Transaction == request.Transaction ? there : null;
            }

            if (_shape != shape)
                return _responses.WrongShard(_shape.Epoch);
            long now = _options.TimeProvider.GetTimestamp(), heard;
            lock (_gate)
                heard = leader.HeardLocked(request.Transaction, now, isHeard: false);
            if (_options.TimeProvider.GetElapsedTime(heard, now) < _options.LockLife)
                return new ShardResponse { Status = ShardStatus.Live, Epoch = shape.Epoch };
            return own is null
                ? ShardResponses.Missing()
                : new ShardResponse { Status = ShardStatus.Expired, Epoch = shape.Epoch, Lock = own.WithoutValue(), LockedKey = own.Primary };
        }
        catch (Exception error) when (error is InvalidDataException or CorruptionException or IOException)
        {
            return _responses.Faulted(error);
        }
        finally
        {
            engine.Exit();
        }
    }

    // ---- validation

    // R16: as a read at C. It waits until the oracle has passed C, and looks at the lease after that (R07).
    private async ValueTask<ShardResponse> ValidateAsync(ValidateRequest request, CancellationToken cancellationToken)
    {
        try
        {
            (LeaderState? leader, ShardResponse? refusal) = await EnterAsync(cancellationToken).ConfigureAwait(false);
            if (leader is null)
                return refusal!;
            ShardShape shape = _shape;
            if (request.Epoch != shape.Epoch)
                return _responses.WrongShard(shape.Epoch);
            foreach (ReadOnlyMemory<byte> key in request.ReadKeys)
            {
                if (CheckKey(shape, request, key.Span) is { } wrong)
                    return wrong;
            }

            while (request.Commit > _timestamps.LastKnown)
                await _timestamps.NextAsync(cancellationToken).ConfigureAwait(false);
            if (!await MayReadAsync(leader, cancellationToken).ConfigureAwait(false))
                return NotLeader();
            ReadWaiter? waiter;
            lock (_gate)
            {
                if (leader.IsLost)
                    return NotLeader();
                RaiseHighestReadLocked(leader, request.Commit);
                waiter = leader.WaitForReadsLocked(request.ReadKeys, request.ReadRanges, request.Commit);
            }

            if (waiter is not null && !await waiter.Task.WaitAsync(cancellationToken).ConfigureAwait(false))
                return NotLeader();
            return ValidateHere(shape, request);
        }
        catch (OperationCanceledException error)
        {
            return _responses.TimedOut("writes of what was read", error);
        }
        catch (ShardForgeException error) when (error.IsTransient)
        {
            return _responses.TimedOut("the timestamp oracle", error);
        }
    }

    private ShardResponse ValidateHere(ShardShape shape, ValidateRequest request)
    {
        if (!TryEnterEngine(out EngineHandle? engine))
            return NotLeader();
        try
        {
            ShardResponse? found = ValidateReads(engine.Engine, new ReadSet(request.Transaction, request.Start, request.Commit, request.ReadKeys, request.ReadRanges, request.Decided));
            if (_shape != shape)
                return _responses.WrongShard(_shape.Epoch);
            if (request.Start < HistoryLimit && _rules.R12StartsAboveLimit)
                return _responses.HistoryGone(request.Start, HistoryLimit);
            return found ?? new ShardResponse { Status = ShardStatus.Ok, Epoch = shape.Epoch };
        }
        catch (Exception error) when (error is InvalidDataException or CorruptionException or IOException)
        {
            return _responses.Faulted(error);
        }
        finally
        {
            engine.Exit();
        }
    }

    // Null: nothing of another lies above its start and up to C on what it read.
    private ShardResponse? ValidateReads(IStorageEngine engine, ReadSet reads)
    {
        // Before the snapshot: see ReplicaLocks.
        bool mayHaveLocks = !_locks.IsEmpty;
        using IStorageSnapshot snapshot = engine.CreateSnapshot();
        foreach (ReadOnlyMemory<byte> key in reads.Keys)
        {
            if (mayHaveLocks && MvccReader.ReadLock(engine, key.Span, snapshot) is { } bytes && CheckLock(LockRecord.Decode(bytes), key.Span, reads) is { } locked)
                return locked;
            Timestamp newest = MvccReader.ReadHeader(engine, key.Span, reads.Commit, snapshot).Timestamp;
            if (newest > reads.Start)
                return _responses.Conflict(key.Span, $"a version at {newest}, which its transaction, started at {reads.Start}, did not read");
        }

        foreach (KeyRange range in reads.Ranges)
        {
            if (mayHaveLocks)
            {
                using LockCursor locks = new(engine, range, reverse: false, snapshot);
                while (locks.MoveNext())
                {
                    if (CheckLock(locks.Lock, locks.Key, reads) is { } locked)
                        return locked;
                }
            }

            if (MvccReader.HasVersionBetween(engine, range, reads.Start, reads.Commit, snapshot))
                return _responses.Conflict(range.Start.Span, $"behind it, in a range that its transaction read, a version between {reads.Start} and {reads.Commit}");
        }

        return null;
    }

    private ShardResponse? CheckLock(LockRecord met, ReadOnlySpan<byte> key, ReadSet reads)
    {
        if (met.Transaction == reads.Transaction)
            return null;
        return LookAt(met, reads.Commit, reads.Decided, out Timestamp commit) switch
        {
            LockSight.Undecided => _responses.Locked(key.ToArray(), met.WithoutValue()),
            LockSight.Committed => _responses.Conflict(key, $"a value of transaction {met.Transaction} at {commit}, which its transaction, started at {reads.Start}, did not read"),
            _ => null,
        };
    }
}
