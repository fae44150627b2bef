using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

internal sealed partial class ShardReplica
{
    // Looks at the engine with the latches held, and fixes M. Null: it is queued to be proposed.
    private async ValueTask<ShardResponse?> EvaluateAsync(RegisteredWrite write, ShardShape shape, Timestamp answer, CancellationToken cancellationToken)
    {
        WriteRequest request = write.Request;
        if (IsTooOld(request, answer))
            return _responses.TooOld(request.KnownTimestamp, answer, _options.Horizon);
        if (!TryEnterEngine(out EngineHandle? engine))
            return NotLeader();
        try
        {
            if (request.Step is WriteStep.Decide or WriteStep.Resolve or WriteStep.Mark)
            {
                // What is answered without a proposal is a read.
                return EvaluateStep(engine.Engine, write, shape, answer) is not { } known ? null
                    : await MayReadAsync(write.Leader, cancellationToken).ConfigureAwait(false) ? known : NotLeader();
            }

            bool needsLease = false;
            if ((request.Step == WriteStep.Prewrite ? LookAtPrewrite(engine.Engine, write, shape) : Look(engine.Engine, write, shape, out needsLease)) is { } refusal)
            {
                // A compare-and-set that does not write is a plain get (R08): nothing is proposed, so only the lease notices a deposed leader.
                return needsLease && !await MayReadAsync(write.Leader, cancellationToken).ConfigureAwait(false) ? NotLeader() : refusal;
            }

            Timestamp newest = default;
            bool knowsNewest = !_rules.R06AboveNewestVersion;
            while (true)
            {
                FixOutcome outcome = TryFix(write, shape, answer, newest, knowsNewest, out ShardResponse? refused);
                switch (outcome)
                {
                    case FixOutcome.Refused:
                        return refused;
                    case FixOutcome.NeedsNewest:
                        newest = NewestVersion(engine.Engine, write);
                        knowsNewest = true;
                        break;
                    case FixOutcome.AskAgain:
                        answer = await _timestamps.NextAsync(cancellationToken).ConfigureAwait(false);
                        break;
                    case FixOutcome.Validate:
                        return Validate(engine.Engine, write) ?? QueueValidated(write, shape);
                    default:
                        return null;
                }
            }
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

    private enum FixOutcome : byte
    {
        None = 0,
        Queued,
        Refused,
        NeedsNewest,
        AskAgain,
        Validate,
    }

    // What the engine says, without choosing M. Stable from here on: the latches are held and all earlier writes of the keys are applied, except where the
    // latch is shared, and a blind write looks at nothing that the other holders change.
    private ShardResponse? Look(IStorageEngine engine, RegisteredWrite write, ShardShape shape, out bool needsLease)
    {
        needsLease = false;
        WriteRequest request = write.Request;
        ReadOnlySpan<byte> primary = request.Writes[0].Key.Span;
        if (_rules.R22FindsOwnTraces)
        {
            // R22: an earlier attempt left a version that carries the id. All keys of the request are in one entry, so the first one tells for all. Its M is
            // above what its node knew when the call began.
            if (write.Leader.Recent.Bound(write.KeyHashes[0]) > request.KnownTimestamp &&
                MvccReader.FindOperation(engine, primary, request.Id, request.KnownTimestamp) is { IsZero: false } committed)
                return request.Change == ValueChange.None ? _responses.Written(committed, shape.Epoch) : Changed(committed, MvccReader.Read(engine, primary, committed).Value, shape);

            // R14, R17: a mark or an abort makes every later attempt of the id fail.
            if (_ended.Contains(request.Id))
                return _responses.Conflict(primary, $"a mark or an abort of {request.Id}");
        }

        if (!_locks.IsEmpty)
        {
            foreach (KeyWrite keyWrite in request.Writes)
            {
                if (FindForeignLock(keyWrite.Key.Span, own: default) is { } locked)
                    return IsDoomed(request, locked.Lock!) ?? locked;
            }
        }

        if (request.HasCondition)
        {
            VersionRead found = MvccReader.Read(engine, primary, Timestamp.Max);
            bool holds = request.ExpectedValue is { } expected ? found.Value is { } value && value.AsSpan().SequenceEqual(expected.Span) : found.Value is null;
            if (!holds)
            {
                needsLease = true;
                return _responses.ConditionFailed(found.Timestamp, shape.Epoch);
            }
        }

        if (request.Change != ValueChange.None)
            return ComputeChange(engine, write, shape, ref needsLease);
        for (int i = 0; i < request.Writes.Count; i++)
        {
            if (FindConflict(engine, write, i) is { } conflict)
                return conflict;
        }

        return null;
    }

    // Read, change and write under the latch: nobody else comes between, so it conflicts with nothing.
    private ShardResponse? ComputeChange(IStorageEngine engine, RegisteredWrite write, ShardShape shape, ref bool needsLease)
    {
        WriteRequest request = write.Request;
        VersionRead found = MvccReader.Read(engine, request.Writes[0].Key.Span, Timestamp.Max);
        if (!ValueChanges.TryApply(request.Change, found.Value, request.Writes[0].Value!.Value.Span, _options.Limits.ValueBytesMax, out byte[] changed, out string? why))
        {
            needsLease = true;
            return _responses.ConditionFailed(found.Timestamp, shape.Epoch) with { Message = why };
        }

        write.ChangedValue = changed;
        return null;
    }

    private ShardResponse Changed(Timestamp commit, byte[]? value, ShardShape shape) => _responses.Value(value, commit, shape.Epoch);

    // R12: a version above the transaction's start.
    private ShardResponse? FindConflict(IStorageEngine engine, RegisteredWrite write, int at)
    {
        if (write.Request.Start is not { } start || !_rules.R12ConflictsAboveStart || write.Leader.Recent.Bound(write.KeyHashes[at]) <= start)
            return null;
        ReadOnlySpan<byte> key = write.Request.Writes[at].Key.Span;
        Timestamp newest = MvccReader.ReadHeader(engine, key, Timestamp.Max).Timestamp;
        return newest > start ? _responses.Conflict(key, $"a version at {newest}, above the transaction's start at {start}") : null;
    }

    private bool IsTooOld(WriteRequest request, Timestamp now) =>
        _rules.R18RefusesTooOld && request.Step != WriteStep.Resolve && now.Milliseconds - request.KnownTimestamp.Milliseconds > (long)_options.Horizon.TotalMilliseconds;

    // R06's critical section: M, its registration and its place in the proposal.
    private FixOutcome TryFix(RegisteredWrite write, ShardShape shape, Timestamp answer, Timestamp newest, bool knowsNewest, out ShardResponse? refusal)
    {
        WriteRequest request = write.Request;
        LeaderState leader = write.Leader;
        bool validates = request.ReadKeys.Count > 0 || request.ReadRanges.Count > 0;
        refusal = null;
        lock (_gate)
        {
            refusal = CheckBeforeQueueLocked(write, shape);
            if (refusal is not null)
                return FixOutcome.Refused;
            Timestamp commit = answer;
            if (_rules.R06AboveHighestRead)
                commit = Timestamp.Later(commit, leader.HighestRead.Next);
            if (_rules.R06AboveNewestVersion)
            {
                for (int i = 0; i < write.KeyHashes.Length; i++)
                {
                    if (leader.Recent.Bound(write.KeyHashes[i]) < commit)
                        continue;
                    if (!knowsNewest)
                        return FixOutcome.NeedsNewest;
                    commit = Timestamp.Later(commit, leader.HighestFixedLocked(request.Writes[i].Key.Span).Next);
                }

                commit = Timestamp.Later(commit, newest.Next);
            }

            // M passes the oracle's last by at most one, so that whoever asks after this write is acknowledged gets a timestamp at or above it. A validation
            // is a read at M, and no read is above the oracle's last (R07, R16).
            Timestamp last = _timestamps.LastKnown;
            if (_rules.R06AsksAgain && commit > (validates ? last : last.Next))
                return FixOutcome.AskAgain;
            if (validates && _rules.R16Validates)
            {
                if (leader.HasFixedLocked(write, commit))
                {
                    refusal = _responses.Conflict(request.Writes[0].Key.Span, $"among what its transaction read a write in flight at or below {commit}");
                    return FixOutcome.Refused;
                }

                if (_rules.R16RaisesHighestRead)
                    leader.HighestRead = Timestamp.Later(leader.HighestRead, commit);
                leader.FixLocked(write, commit);
                leader.Validating.Add(write);
                return FixOutcome.Validate;
            }

            leader.FixLocked(write, commit);
            leader.ToPropose.Enqueue(write);
            return FixOutcome.Queued;
        }
    }

    private ShardResponse? CheckBeforeQueueLocked(RegisteredWrite write, ShardShape shape)
    {
        if (_fault is not null || (write.Leader.IsLost && _rules.R11SameTerm))
            return NotLeader();
        if (_shape != shape)
            return _responses.WrongShard(_shape.Epoch);
        // The prewrites of a blind batch count the first timestamp of their call.
        Timestamp? start = write.Request.Start ?? (write.Request.Step == WriteStep.Prewrite ? write.Request.Age : null);
        return start is { } begun && begun < HistoryLimit && _rules.R12StartsAboveLimit ? _responses.HistoryGone(begun, HistoryLimit) : null;
    }

    private static Timestamp NewestVersion(IStorageEngine engine, RegisteredWrite write)
    {
        Timestamp newest = default;
        foreach (KeyWrite keyWrite in write.Request.Writes)
            newest = Timestamp.Later(newest, MvccReader.ReadHeader(engine, keyWrite.Key.Span, Timestamp.Max).Timestamp);
        return newest;
    }

    // R16 within one shard: its reads, as a read at M. Later writes of what it read land above M, since highestRead is there; earlier ones in flight were
    // looked at when M was fixed. What is left is what is applied: any version above its start and up to M is a conflict.
    private ShardResponse? Validate(IStorageEngine engine, RegisteredWrite write)
    {
        WriteRequest request = write.Request;
        return ValidateReads(engine, new ReadSet(request.Id, request.Start ?? default, write.CommitTimestamp, request.ReadKeys, request.ReadRanges, []));
    }

    private ShardResponse? QueueValidated(RegisteredWrite write, ShardShape shape)
    {
        lock (_gate)
        {
            if (CheckBeforeQueueLocked(write, shape) is { } refusal)
                return refusal;
            write.Leader.Validating.Remove(write);
            write.Leader.ToPropose.Enqueue(write);
            return null;
        }
    }
}
