using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

internal sealed partial class ShardReplica
{
    // R07: one page as of a timestamp. Each page enters anew: between two pages the leadership may have gone.
    private async ValueTask<ShardResponse> ScanAsync(ScanRequest request, CancellationToken cancellationToken)
    {
        try
        {
            (LeaderState? leader, ShardResponse? refusal) = await EnterAtAsync(request.ReadAt, cancellationToken).ConfigureAwait(false);
            if (leader is null)
                return refusal!;
            ShardShape shape = _shape;
            if (request.Epoch != shape.Epoch)
                return _responses.WrongShard(shape.Epoch);
            if (BelowLimit(request.ReadAt) is { } gone)
                return gone;
            ReadWaiter? waiter;
            lock (_gate)
            {
                if (leader.IsLost)
                    return NotLeader();
                RaiseHighestReadLocked(leader, request.ReadAt);
                waiter = _rules.R07WaitsForRegistered ? leader.WaitForRangeLocked(request.Range, request.ReadAt) : null;
            }

            ShardResponse? early = _rules.R07ReadsAfterTheWait ? null : ReadPage(shape, request);
            if (waiter is not null && !await waiter.Task.WaitAsync(cancellationToken).ConfigureAwait(false) && _rules.R09WaitersMoveOn)
                return NotLeader();
            return early ?? ReadPage(shape, request);
        }
        catch (OperationCanceledException error)
        {
            return _responses.TimedOut("writes in the range", error);
        }
    }

    private ShardResponse ReadPage(ShardShape shape, ScanRequest request)
    {
        if (!TryEnterEngine(out EngineHandle? engine))
            return NotLeader();
        try
        {
            // Before the snapshot: see ReplicaLocks.
            bool mayHaveLocks = !_locks.IsEmpty;
            using IStorageSnapshot snapshot = engine.Engine.CreateSnapshot();
            if (_rules.R07ChecksAgain)
            {
                if (_shape != shape)
                    return _responses.WrongShard(_shape.Epoch);
                if (BelowLimit(request.ReadAt) is { } gone)
                    return gone;
            }

            PageWriter page = new(request);
            using MvccCursor cursor = new(engine.Engine, request.Range, request.ReadAt, request.Reverse, snapshot);
            if (mayHaveLocks)
            {
                using LockCursor locks = new(engine.Engine, request.Range, request.Reverse, snapshot);
                if (!MergeLocks(page, cursor, locks, request))
                    return page.Entries.Count > 0 ? page.Finish(shape.Epoch) : _responses.Locked(locks.Key.ToArray(), locks.Lock.WithoutValue());
            }
            else
            {
                while (cursor.MoveNext() && page.TryAdd(cursor.Key, cursor.Value))
                {
                }
            }

            return page.Finish(shape.Epoch);
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

    // Versions and locks in one order. False: an undecided lock is next, and what lies before it is in the page.
    private bool MergeLocks(PageWriter page, MvccCursor cursor, LockCursor locks, ScanRequest request)
    {
        bool hasVersion = cursor.MoveNext(), hasLock = locks.MoveNext();
        while (hasVersion || hasLock)
        {
            int order = !hasLock ? -1 : !hasVersion ? 1 : cursor.Key.SequenceCompareTo(locks.Key);
            if (request.Reverse && hasLock && hasVersion)
                order = -order;
            if (order < 0)
            {
                if (!page.TryAdd(cursor.Key, cursor.Value))
                    return true;
                hasVersion = cursor.MoveNext();
                continue;
            }

            LockRecord met = locks.Lock;
            switch (LookAt(met, request.ReadAt, request.Decided, out _))
            {
                case LockSight.Undecided:
                    page.HasMore = true;
                    return false;
                case LockSight.Committed:
                    if (met.Value is not null && !page.TryAdd(locks.Key, met.Value))
                        return true;
                    if (order == 0)
                        hasVersion = cursor.MoveNext();
                    break;
                default:
                    // The version below it, if there is one, is next.
                    break;
            }

            hasLock = locks.MoveNext();
        }

        return true;
    }

    /// <summary>Collects a page up to its bounds.</summary>
    private sealed class PageWriter(ScanRequest request)
    {
        private long _bytes;

        public List<KeyValuePair<byte[], byte[]>> Entries { get; } = [];

        public bool HasMore { get; set; }

        /// <summary>False: it is full, and there is more.</summary>
        public bool TryAdd(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            int entryBytes = key.Length + value.Length;
            HasMore = Entries.Count >= request.EntriesMax || (Entries.Count > 0 && _bytes + entryBytes > request.BytesMax);
            if (HasMore)
                return false;
            Entries.Add(new(key.ToArray(), value.ToArray()));
            _bytes += entryBytes;
            return true;
        }

        public ShardResponse Finish(Epoch epoch) => new() { Status = ShardStatus.Ok, Epoch = epoch, Entries = Entries, HasMore = HasMore };
    }
}
