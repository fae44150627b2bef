namespace ShardForge.Replication;

internal sealed partial class ShardReplica
{
    private const int WriteOverheadBytes = 64, StallsForDeletesMax = 6;

    private long _chargedBytes;

    // R06, R09: registered and queued for its latches first, open; then the oracle is asked, while it waits for its turn; then it is evaluated, M is fixed, and it
    // is proposed. From there on only its fate ends it, whatever becomes of the caller.
    private async ValueTask<ShardResponse> WriteAsync(WriteRequest request, CancellationToken cancellationToken)
    {
        long bytes = CheckWrites(request);
        RegisteredWrite write;
        ShardShape shape;
        try
        {
            (LeaderState? leader, ShardResponse? refusal) = await EnterAsync(cancellationToken).ConfigureAwait(false);
            if (leader is null)
                return refusal!;
            shape = _shape;
            foreach (KeyWrite keyWrite in request.Writes)
            {
                if (CheckKey(shape, request, keyWrite.Key.Span) is { } wrong)
                    return wrong;
            }

            if (request.Writes.Count == 0)
                return _responses.Written(default, shape.Epoch);
            if (request.Step == WriteStep.Resolve && !_locks.HoldsAny(request))
                return await MayReadAsync(leader, cancellationToken).ConfigureAwait(false) ? _responses.Written(request.CommitAt, shape.Epoch) : NotLeader();
            write = new RegisteredWrite(request, _continuations) { ChargedBytes = bytes, Leader = leader };
        }
        catch (OperationCanceledException error)
        {
            return _responses.TimedOut("the leader's first entry", error);
        }

        bool isRegistered = false, isProposed = false;
        try
        {
            Timestamp? before = _rules.R06RegistersBeforeAsking && request.Step != WriteStep.Resolve ? null : await AskAsync(request, cancellationToken).ConfigureAwait(false);
            if (TryRegister(write, out bool hasTurn) is { } refusal)
                return refusal;
            isRegistered = true;
            Timestamp answer = before ?? await AskAsync(request, cancellationToken).ConfigureAwait(false);
            if (!hasTurn && !await write.Turn.WaitAsync(cancellationToken).ConfigureAwait(false))
                return NotLeader();
            if (await EvaluateAsync(write, shape, answer, cancellationToken).ConfigureAwait(false) is { } answered)
                return answered;
            isProposed = true;
        }
        catch (OperationCanceledException error)
        {
            return _responses.TimedOut("a timestamp and for writes of the same keys", error);
        }
        catch (ShardForgeException error) when (error.IsTransient)
        {
            return _responses.TimedOut("the timestamp oracle", error);
        }
        finally
        {
            if (isRegistered && !isProposed)
                Release(write);
        }

        Propose(write.Leader);
        return await OutcomeAsync(write, shape, cancellationToken).ConfigureAwait(false);
    }

    // A resolution fixes no M and is not judged by the horizon: it does something only where it meets the lock.
    private ValueTask<Timestamp> AskAsync(WriteRequest request, CancellationToken cancellationToken) =>
        _rules.R06AsksTheOracle && request.Step != WriteStep.Resolve ? _timestamps.NextAsync(cancellationToken) : new(_timestamps.LastKnown);

    private ShardResponse? TryRegister(RegisteredWrite write, out bool hasTurn)
    {
        hasTurn = false;
        if (RefuseForRoom(write) is { } full)
            return full;
        lock (_gate)
        {
            if (write.Leader.IsLost)
                return NotLeader();
            if (_chargedBytes + write.ChargedBytes > _options.Limits.ProposalBytesMax)
                return _responses.Overloaded("the queue of proposals", _options.Limits.ProposalBytesMax, _chargedBytes);
            _chargedBytes += write.ChargedBytes;
            hasTurn = write.Leader.RegisterLocked(write);
        }

        return null;
    }

    // R34: deletes may use what is kept for them, until apply has found several times that even that is used up.
    private ShardResponse? RefuseForRoom(RegisteredWrite write)
    {
        Exception? stalledBy = _stalledBy;
        if (write.OnlyDeletes)
            return stalledBy is not null && _stallCount > StallsForDeletesMax ? _responses.DiskFull(stalledBy.Message) : null;
        return stalledBy is not null || !_group!.HasRoom ? _responses.DiskFull(stalledBy?.Message ?? "deletes are still taken") : null;
    }

    // Only for a write that was not handed over to be proposed.
    private void Release(RegisteredWrite write)
    {
        ReleasedWaiters released = new();
        lock (_gate)
        {
            write.Leader.Validating.Remove(write);
            _chargedBytes -= write.ChargedBytes;
            write.Leader.RemoveLocked(write, released);
        }

        released.Wake();
    }

    private async ValueTask<ShardResponse> OutcomeAsync(RegisteredWrite write, ShardShape shape, CancellationToken cancellationToken)
    {
        CommandFate fate;
        try
        {
            fate = await write.Fate.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            if (!_rules.R09StaysRegistered)
                TakeOut(write);
            return _responses.OutcomeUnknown();
        }

        return fate switch
        {
            CommandFate.Applied when write.ChangedValue is not null => Changed(write.CommitTimestamp, write.ChangedValue, shape),
            CommandFate.Applied => write.Answer ?? _responses.Written(Timestamp.Later(write.CommitTimestamp, write.EarlierTimestamp), shape.Epoch),
            CommandFate.NotWritten when _shape != shape => _responses.WrongShard(_shape.Epoch),
            CommandFate.NotWritten => write.Leader.IsLost || _group!.HasRoom ? NotLeader() : _responses.DiskFull("the log takes no more"),
            _ => _responses.OutcomeUnknown(),
        };
    }

    // The anomaly of R09, for the test that shows it.
    private void TakeOut(RegisteredWrite write)
    {
        ReleasedWaiters released = new();
        lock (_gate)
            write.Leader.RemoveLocked(write, released);
        released.Wake();
    }

    // Limits, and the rule that each key comes once (two places in one queue would wait for each other).
    private long CheckWrites(WriteRequest request)
    {
        Limits limits = _options.Limits;
        long bytes = 0;
        foreach (KeyWrite write in request.Writes)
        {
            int valueBytes = write.Value?.Length ?? 0;
            if (write.Key.Length > limits.KeyBytesMax)
                throw new LimitExceededException($"Limits.{nameof(Limits.KeyBytesMax)}", limits.KeyBytesMax, write.Key.Length);
            if (valueBytes > limits.ValueBytesMax)
                throw new LimitExceededException($"Limits.{nameof(Limits.ValueBytesMax)}", limits.ValueBytesMax, valueBytes);
            bytes += write.Key.Length + valueBytes;
        }

        if (bytes > limits.TransactionBytesMax)
            throw new LimitExceededException($"Limits.{nameof(Limits.TransactionBytesMax)}", limits.TransactionBytesMax, bytes);
        if (request.Writes.Count > 1)
        {
            HashSet<ReadOnlyMemory<byte>> keys = new(request.Writes.Count, MemoryKeyComparer.Instance);
            foreach (KeyWrite write in request.Writes)
            {
                if (!keys.Add(write.Key))
                    throw new ArgumentException("A key comes twice in one write request. Nothing was written.", nameof(request));
            }
        }

        return bytes + (request.Writes.Count * WriteOverheadBytes);
    }
}
