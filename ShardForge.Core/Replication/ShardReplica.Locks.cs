using System.Collections.Concurrent;
using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

/// <content>Requests that meet locks of undecided transactions (R07, R08, R12, R14).</content>
internal sealed partial class ShardReplica
{
    // A hint only saves questions: what is above this is asked for.
    private const int HintsMax = 65_536;

    private readonly ConcurrentDictionary<OperationId, Timestamp> _hints = new();
    private readonly List<HeldLock> _goneLocks = [];

    /// <summary>The locks of this replica that were there before a moment of the node's clock: whose owners may be gone.</summary>
    public IReadOnlyList<HeldLock> LocksSeenBefore(long moment)
    {
        if (_locks.IsEmpty)
            return [];
        List<HeldLock> old = [];
        foreach (HeldLock held in _locks.All)
        {
            if (held.Seen < moment)
                old.Add(held);
        }

        return old;
    }

    // A lock is mostly gone within a round or two of consensus. Waiting here saves its sender the questions; it holds nothing meanwhile (R20).
    private async ValueTask<ShardResponse> WaitForLocksAsync(ValueTask<ShardResponse> first, ShardRequest request, CancellationToken cancellationToken)
    {
        ShardResponse response = await first.ConfigureAwait(false);
        if (response.Status != ShardStatus.Locked || _options.LockWait <= TimeSpan.Zero)
            return response;
        long begun = _options.TimeProvider.GetTimestamp();
        while (response is { Status: ShardStatus.Locked, LockedKey: { } key, Lock: { } met } && MayWait(request, met))
        {
            TimeSpan left = _options.LockWait - _options.TimeProvider.GetElapsedTime(begun);
            if (left <= TimeSpan.Zero)
                break;
            if (_locks.TryGet(key, out HeldLock? held) && held.Lock.Transaction == met.Transaction)
            {
                try
                {
                    await held.Changed.WaitAsync(left, _options.TimeProvider, cancellationToken).ConfigureAwait(false);
                }
                catch (Exception error) when (error is TimeoutException or OperationCanceledException)
                {
                    break;
                }
            }

            response = await ExecuteOnceAsync(request, cancellationToken).ConfigureAwait(false);
        }

        return response;
    }

    // R20: who holds locks elsewhere waits only for a younger transaction, or for one that is decided.
    private bool MayWait(ShardRequest request, LockRecord met) => request switch
    {
        WriteRequest { Step: WriteStep.Prewrite } prewrite => _hints.ContainsKey(met.Transaction) || LockRecord.IsOlder(prewrite.Age, prewrite.Id, met),
        ValidateRequest validate => LockRecord.IsOlder(validate.Age, validate.Transaction, met),
        _ => true,
    };

    private void WakeLockWaiters()
    {
        if (_goneLocks.Count == 0)
            return;
        foreach (HeldLock held in _goneLocks)
        {
            // A transaction may have more locks here; those are asked for.
            if (!_hints.IsEmpty)
                _hints.TryRemove(held.Lock.Transaction, out _);
            held.Complete();
        }

        _goneLocks.Clear();
    }

    private void Hint(OperationId transaction, Timestamp commit, IReadOnlyList<ReadOnlyMemory<byte>> keys)
    {
        if (_hints.Count >= HintsMax)
            _hints.Clear();
        bool isHeld = false;
        foreach (ReadOnlyMemory<byte> key in keys)
        {
            if (_locks.TryGet(key.Span, out HeldLock? held) && held.Lock.Transaction == transaction)
            {
                if (!isHeld)
                    _hints[transaction] = commit;
                isHeld = true;
                held.Wake();
            }
        }

        // Resolved meanwhile: nobody would take the hint out again.
        if (isHeld && !IsLocked(keys, transaction))
            _hints.TryRemove(transaction, out _);
    }

    private bool IsLocked(IReadOnlyList<ReadOnlyMemory<byte>> keys, OperationId transaction)
    {
        foreach (ReadOnlyMemory<byte> key in keys)
        {
            if (_locks.TryGet(key.Span, out HeldLock? held) && held.Lock.Transaction == transaction)
                return true;
        }

        return false;
    }

    private DecidedTransaction? FindDecided(OperationId transaction, IReadOnlyList<DecidedTransaction> known)
    {
        foreach (DecidedTransaction decided in known)
        {
            if (decided.Id == transaction)
                return decided;
        }

        return _hints.TryGetValue(transaction, out Timestamp commit) ? new DecidedTransaction(transaction, commit) : null;
    }

    // What a read at R sees of a key with a lock: nothing of it (M above R, aborted, committed above R), its value, or that it has to ask.
    private LockSight LookAt(LockRecord met, Timestamp readAt, IReadOnlyList<DecidedTransaction> decided, out Timestamp commit)
    {
        commit = default;
        if (met.MinimumCommit > readAt || !_rules.R14ReadsMeetLocks)
            return LockSight.Nothing;
        if (FindDecided(met.Transaction, decided) is not { } known)
            return LockSight.Undecided;
        commit = known.Commit;
        return known.IsCommitted && known.Commit <= readAt ? LockSight.Committed : LockSight.Nothing;
    }

    private enum LockSight : byte
    {
        Nothing = 0,
        Committed,
        Undecided,
    }

    // The one place where a read of a single key meets a lock, in the snapshot in which it reads. Null: the version alone counts.
    private ShardResponse? ReadThroughLock(IStorageEngine engine, ShardShape shape, ReadOnlySpan<byte> key, Timestamp readAt, IReadOnlyList<DecidedTransaction> decided, IStorageSnapshot snapshot,
        VersionRead version)
    {
        if (MvccReader.ReadLock(engine, key, snapshot) is not { } bytes)
            return null;
        LockRecord met = LockRecord.Decode(bytes);
        switch (LookAt(met, readAt, decided, out Timestamp commit))
        {
            case LockSight.Undecided:
                return _responses.Locked(key.ToArray(), met.WithoutValue());
            case LockSight.Committed:
                Invariant.Check(commit > version.Timestamp);
                return _responses.Value(met.Value, commit, shape.Epoch);
            default:
                return null;
        }
    }

    // The one place where a write meets a foreign lock: it lets go of everything and comes again (R12).
    private ShardResponse? FindForeignLock(ReadOnlySpan<byte> key, OperationId own) =>
        _locks.TryGet(key, out HeldLock? held) && held.Lock.Transaction != own ? _responses.Locked(held.Key, held.Lock) : null;
}
