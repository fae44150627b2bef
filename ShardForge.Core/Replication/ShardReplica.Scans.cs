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
            long lockChanges = _locks.Changes;
            using IStorageSnapshot snapshot = engine.Engine.CreateSnapshot();
            if (_locks.MayHaveBeenAny(lockChanges) && FindLock(engine.Engine, request.Range, request.ReadAt, snapshot) is { } met)
                return met;
            if (_rules.R07ChecksAgain)
            {
                if (_shape != shape)
                    return _responses.WrongShard(_shape.Epoch);
                if (BelowLimit(request.ReadAt) is { } gone)
                    return gone;
            }

            List<KeyValuePair<byte[], byte[]>> entries = [];
            bool hasMore = false;
            long bytes = 0;
            using MvccCursor cursor = new(engine.Engine, request.Range, request.ReadAt, request.Reverse, snapshot);
            while (cursor.MoveNext())
            {
                int entryBytes = cursor.Key.Length + cursor.Value.Length;
                hasMore = entries.Count >= request.EntriesMax || (entries.Count > 0 && bytes + entryBytes > request.BytesMax);
                if (hasMore)
                    break;
                entries.Add(new(cursor.Key.ToArray(), cursor.Value.ToArray()));
                bytes += entryBytes;
            }

            return new ShardResponse { Status = ShardStatus.Ok, Epoch = shape.Epoch, Entries = entries, HasMore = hasMore };
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
