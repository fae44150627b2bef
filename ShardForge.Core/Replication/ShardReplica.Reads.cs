using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

internal sealed partial class ShardReplica
{
    // R08: the newest committed version. Complete at once where the lease is valid and no write is registered on the key.
    private ValueTask<ShardResponse> GetAsync(GetRequest request, CancellationToken cancellationToken)
    {
        LeaderState? leader = _leader;
        ShardShape shape = _shape;
        if (leader is not { IsServing: true } || _fault is not null || !_rules.R08NeedsLease || !_group!.HasLease(leader.Term))
            return GetAfterWaitAsync(request, cancellationToken);
        if (CheckKey(shape, request, request.Key.Span) is { } refusal)
            return new(refusal);
        if (!leader.IsIdle && IsRegistered(leader, request.Key.Span))
            return GetAfterWaitAsync(request, cancellationToken);
        return new(ReadChecked(shape, request.Key.Span, Timestamp.Max, request.Decided));
    }

    /// <summary>A plain get (R08), where all that it needs is here and nothing has to be waited for. Allocates nothing but the value.</summary>
    /// <param name="key">The user key.</param>
    /// <param name="epoch">Under which its sender took this for the key's shard.</param>
    /// <param name="value">Null: there is none.</param>
    /// <returns>False: not known; ask with a request, which also says what is wrong.</returns>
    public bool TryGetNow(ReadOnlySpan<byte> key, Epoch epoch, out byte[]? value)
    {
        value = null;
        LeaderState? leader = _leader;
        ShardShape shape = _shape;
        if (leader is not { IsServing: true } || _fault is not null || !_rules.R08NeedsLease || !_group!.HasLease(leader.Term))
            return false;
        if (key.Length > _options.Limits.KeyBytesMax || shape.Epoch != epoch || !shape.Contains(key))
            return false;
        if ((!leader.IsIdle && IsRegistered(leader, key)) || !TryEnterEngine(out EngineHandle? engine))
            return false;
        try
        {
            // Before the engine is read: see ReplicaLocks.
            if (_locks.TryGet(key, out _))
                return false;
            value = MvccReader.Read(engine.Engine, key, Timestamp.Max).Value;
            return _shape == shape;
        }
        catch (Exception error) when (error is InvalidDataException or CorruptionException or IOException)
        {
            return false;       // a request meets it again, and tells
        }
        finally
        {
            engine.Exit();
        }
    }

    private bool IsRegistered(LeaderState leader, ReadOnlySpan<byte> key)
    {
        lock (_gate)
            return leader.IsRegisteredLocked(key);
    }

    private async ValueTask<ShardResponse> GetAfterWaitAsync(GetRequest request, CancellationToken cancellationToken)
    {
        try
        {
            (LeaderState? leader, ShardResponse? refusal) = await EnterAsync(cancellationToken).ConfigureAwait(false);
            if (leader is null)
                return refusal!;
            ShardShape shape = _shape;
            if (CheckKey(shape, request, request.Key.Span) is { } wrong)
                return wrong;
            if (!await MayReadAsync(leader, cancellationToken).ConfigureAwait(false))
                return NotLeader();
            ReadWaiter? waiter;
            lock (_gate)
            {
                if (leader.IsLost && _rules.R09WaitersMoveOn)
                    return NotLeader();
                waiter = _rules.R08WaitsForRegistered ? leader.WaitForKeyLocked(request.Key.Span) : null;
            }

            if (waiter is not null && !await waiter.Task.WaitAsync(cancellationToken).ConfigureAwait(false) && _rules.R09WaitersMoveOn)
                return NotLeader();
            return ReadChecked(shape, request.Key.Span, Timestamp.Max, request.Decided);
        }
        catch (OperationCanceledException error)
        {
            return _responses.TimedOut("writes of the key", error);
        }
    }

    // R07: as of a timestamp.
    private async ValueTask<ShardResponse> GetAtAsync(GetRequest request, CancellationToken cancellationToken)
    {
        try
        {
            Timestamp readAt = request.ReadAt!.Value;
            (LeaderState? leader, ShardResponse? refusal) = await EnterAtAsync(readAt, cancellationToken).ConfigureAwait(false);
            if (leader is null)
                return refusal!;
            ShardShape shape = _shape;
            if (CheckKey(shape, request, request.Key.Span) is { } wrong)
                return wrong;
            if (BelowLimit(readAt) is { } gone)
                return gone;
            ReadWaiter? waiter;
            lock (_gate)
            {
                if (leader.IsLost)
                    return NotLeader();
                RaiseHighestReadLocked(leader, readAt);
                waiter = _rules.R07WaitsForRegistered ? leader.WaitForKeyLocked(request.Key.Span, readAt) : null;
            }

            ShardResponse? early = _rules.R07ReadsAfterTheWait ? null : ReadChecked(shape, request.Key.Span, readAt, request.Decided);
            if (waiter is not null && !await waiter.Task.WaitAsync(cancellationToken).ConfigureAwait(false) && _rules.R09WaitersMoveOn)
                return NotLeader();
            return early ?? ReadChecked(shape, request.Key.Span, readAt, request.Decided);
        }
        catch (OperationCanceledException error)
        {
            return _responses.TimedOut("writes of the key", error);
        }
    }

    // What every read at R begins with. First the oracle, then the lease: with the lease first, R could be issued, and writes of the next leader
    // acknowledged below it, between the two.
    private async ValueTask<(LeaderState? Leader, ShardResponse? Refusal)> EnterAtAsync(Timestamp readAt, CancellationToken cancellationToken)
    {
        (LeaderState? leader, ShardResponse? refusal) = await EnterAsync(cancellationToken).ConfigureAwait(false);
        if (leader is null)
            return (null, refusal);
        if (readAt > _timestamps.LastKnown && _rules.R07RefusesAheadOfOracle)
        {
            Timestamp last;
            try
            {
                last = await _timestamps.NextAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (ShardForgeException error)
            {
                return (null, _responses.TimedOut("the timestamp oracle", error));
            }

            if (readAt > last)
                return (null, _responses.AheadOfOracle(readAt, last));
        }

        return await MayReadAsync(leader, cancellationToken).ConfigureAwait(false) ? (leader, null) : (null, NotLeader());
    }

    private void RaiseHighestReadLocked(LeaderState leader, Timestamp readAt)
    {
        if (_rules.R07RaisesHighestRead)
            leader.HighestRead = Timestamp.Later(leader.HighestRead, readAt);
    }

    private ShardResponse? BelowLimit(Timestamp readAt) =>
        readAt < HistoryLimit && _rules.R28RefusesBelowLimit ? _responses.HistoryGone(readAt, HistoryLimit) : null;

    // Looks for a lock, reads, and only then looks at what may have changed: range and epoch, limit (R07's second look).
    private ShardResponse ReadChecked(ShardShape shape, ReadOnlySpan<byte> key, Timestamp readAt, IReadOnlyList<DecidedTransaction> decided)
    {
        if (!TryEnterEngine(out EngineHandle? engine))
            return NotLeader();
        try
        {
            ShardResponse? locked = null;
            VersionRead version;
            // Before the engine is read: see ReplicaLocks.
            if (_locks.TryGet(key, out HeldLock? held) && held.Lock.MinimumCommit <= readAt)
            {
                using IStorageSnapshot snapshot = engine.Engine.CreateSnapshot();
                version = MvccReader.Read(engine.Engine, key, readAt, snapshot);
                locked = ReadThroughLock(engine.Engine, shape, key, readAt, decided, snapshot, version);
            }
            else
            {
                version = MvccReader.Read(engine.Engine, key, readAt);
            }

            if (_rules.R07ChecksAgain)
            {
                if (_shape != shape)
                    return _responses.WrongShard(_shape.Epoch);
                if (BelowLimit(readAt) is { } gone)
                    return gone;
            }

            return locked ?? _responses.Value(version.Value, version.Timestamp, shape.Epoch);
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
}
