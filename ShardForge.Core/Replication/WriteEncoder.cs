using System.Buffers;
using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

/// <summary>Turns an evaluated write into engine writes. Stateless.</summary>
internal static class WriteEncoder
{
    /// <summary>A commit in one shard: versions at its M.</summary>
    public static void WriteVersions(StorageBatch batch, RegisteredWrite write)
    {
        if (write.ChangedValue is { } changed)
        {
            PutVersion(batch, write.Request.Writes[0].Key.Span, write.CommitTimestamp, write.Request.Id, changed, isDelete: false);
            return;
        }

        foreach (KeyWrite keyWrite in write.Request.Writes)
            PutVersion(batch, keyWrite.Key.Span, write.CommitTimestamp, write.Request.Id, keyWrite.Value is { } value ? value.Span : default, keyWrite.Value is null);
    }

    /// <summary>A step of a commit over shards: locks, the decision, what becomes of locks, a mark.</summary>
    public static void WriteStep(StorageBatch batch, RegisteredWrite write)
    {
        WriteRequest request = write.Request;
        switch (request.Step)
        {
            case Replication.WriteStep.Prewrite:
                PutLocks(batch, write);
                break;
            case Replication.WriteStep.Resolve:
                EndLocks(batch, write);
                break;
            case Replication.WriteStep.Decide:
                EndLocks(batch, write);
                OperationRecord decision = new(!request.CommitAt.IsZero, request.CommitAt, write.Written);
                PutOperation(batch, request, OperationRecordKind.Decision, decision.Encode(decision.IsCommitted ? write.Locks![0]!.Others : []));
                break;
            default:
                Invariant.Require(request.Step == Replication.WriteStep.Mark);
                PutOperation(batch, request, OperationRecordKind.Mark, new OperationRecord(IsCommitted: false, default, write.Written).Encode([]));
                break;
        }
    }

    private static void PutLocks(StorageBatch batch, RegisteredWrite write)
    {
        PrewriteSpec spec = write.Request.Prewrite!;
        byte[] engineKey = ArrayPool<byte>.Shared.Rent(KeyBytesMax(write));
        for (int i = 0; i < write.Request.Writes.Count; i++)
        {
            if (write.Skipped is { } skipped && skipped[i])
                continue;
            KeyWrite keyWrite = write.Request.Writes[i];
            LockRecord record = new()
            {
                MinimumCommit = write.CommitTimestamp,
                Transaction = write.Request.Id,
                Start = write.Request.Age,
                Primary = spec.Primary,
                Others = keyWrite.Key.Span.SequenceEqual(spec.Primary) ? spec.Others : [],
                IsExplicit = spec.IsExplicit,
                Value = keyWrite.Value?.ToArray(),
            };
            batch.Put(engineKey.AsSpan(0, MvccKey.WriteLock(engineKey, keyWrite.Key.Span)), record.Encode());
        }

        ArrayPool<byte>.Shared.Return(engineKey);
    }

    // Lock to version, or to nothing.
    private static void EndLocks(StorageBatch batch, RegisteredWrite write)
    {
        if (write.Locks is not { } locks)
            return;
        Timestamp commit = write.Request.CommitAt;
        byte[] engineKey = ArrayPool<byte>.Shared.Rent(KeyBytesMax(write));
        for (int i = 0; i < locks.Length; i++)
        {
            if (locks[i] is not { } held)
                continue;
            ReadOnlySpan<byte> key = write.Request.Writes[i].Key.Span;
            Invariant.Require(held.Transaction == write.Request.Id);
            if (!commit.IsZero)
                PutVersion(batch, key, commit, write.Request.Id, held.Value, held.Value is null);
            batch.Delete(engineKey.AsSpan(0, MvccKey.WriteLock(engineKey, key)));
        }

        ArrayPool<byte>.Shared.Return(engineKey);
    }

    private static void PutOperation(StorageBatch batch, WriteRequest request, OperationRecordKind kind, byte[] record)
    {
        ReadOnlySpan<byte> key = request.Writes[0].Key.Span;
        byte[] engineKey = ArrayPool<byte>.Shared.Rent(MvccKey.OperationBytesMax(key.Length));
        batch.Put(engineKey.AsSpan(0, MvccKey.WriteOperation(engineKey, key, kind, request.Id)), record);
        ArrayPool<byte>.Shared.Return(engineKey);
    }

    private static void PutVersion(StorageBatch batch, ReadOnlySpan<byte> key, Timestamp commit, OperationId id, ReadOnlySpan<byte> value, bool isDelete)
    {
        VersionHeader header = new() { IsDeleted = isDelete, Operation = id };
        byte[] engineKey = ArrayPool<byte>.Shared.Rent(MvccKey.BytesMax(key.Length));
        byte[] bytes = ArrayPool<byte>.Shared.Rent(header.Bytes + value.Length);
        int keyBytes = MvccKey.WriteVersion(engineKey, key, commit);
        int headerBytes = header.Write(bytes);
        value.CopyTo(bytes.AsSpan(headerBytes));
        batch.Put(engineKey.AsSpan(0, keyBytes), bytes.AsSpan(0, headerBytes + value.Length));
        ArrayPool<byte>.Shared.Return(bytes);
        ArrayPool<byte>.Shared.Return(engineKey);
    }

    private static int KeyBytesMax(RegisteredWrite write)
    {
        int bytes = 0;
        foreach (KeyWrite keyWrite in write.Request.Writes)
            bytes = Math.Max(bytes, keyWrite.Key.Length);
        return MvccKey.BytesMax(bytes);
    }
}
