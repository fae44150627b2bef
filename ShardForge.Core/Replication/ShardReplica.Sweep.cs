using System.Buffers.Binary;
using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

/// <content>Marks and decisions whose horizon has passed (R18).</content>
internal sealed partial class ShardReplica
{
    /// <summary>Looks through a part of the space of operations for records from before a moment.</summary>
    /// <param name="before">The horizon: a fresh oracle timestamp less its length.</param>
    /// <param name="after">The engine key behind which to look; null: from the start.</param>
    /// <param name="entriesMax">How many to look at.</param>
    /// <param name="expired">Gets those that were found.</param>
    /// <returns>Where to go on; null: the end was reached.</returns>
    public byte[]? FindExpiredOperations(Timestamp before, byte[]? after, int entriesMax, List<ExpiredOperation> expired)
    {
        if (!TryEnterEngine(out EngineHandle? engine))
            return null;
        try
        {
            using IStorageIterator iterator = engine.Engine.Scan(MvccKey.OperationRange());
            bool any = after is null ? iterator.MoveNext() : iterator.Seek(after);
            for (int i = 0; any; i++, any = iterator.MoveNext())
            {
                if (i == entriesMax)
                    return iterator.Key.ToArray();
                OperationRecord record = OperationRecord.Read(iterator.Value);
                if (record.Written >= before)
                    continue;
                ReadOnlySpan<byte> key = iterator.Key;
                OperationId id = new(BinaryPrimitives.ReadUInt64BigEndian(key[^16..]), BinaryPrimitives.ReadUInt64BigEndian(key[^8..]));
                expired.Add(new ExpiredOperation(key.ToArray(), id, record.Timestamp, record.IsCommitted ? OperationRecord.ReadOthers(iterator.Value) : []));
            }

            return null;
        }
        finally
        {
            engine.Exit();
        }
    }

    /// <summary>Removes them, if this replica leads.</summary>
    public async ValueTask RemoveOperationsAsync(IReadOnlyList<byte[]> engineKeys, CancellationToken cancellationToken)
    {
        (LeaderState? leader, _) = await EnterAsync(cancellationToken).ConfigureAwait(false);
        if (leader is null || engineKeys.Count == 0)
            return;
        SweepCommand command;
        lock (_gate)
        {
            if (leader.IsLost)
                return;
            command = new SweepCommand(_continuations) { EngineKeys = engineKeys, ChargedBytes = engineKeys.Count * (long)WriteOverheadBytes, Leader = leader };
            _chargedBytes += command.ChargedBytes;
            leader.ToPropose.Enqueue(command);
        }

        Propose(leader);
        await command.Fate.WaitAsync(cancellationToken).ConfigureAwait(false);
    }
}

/// <summary>A mark or decision whose horizon has passed.</summary>
/// <param name="EngineKey">Where it lies.</param>
/// <param name="Transaction">Whose it is.</param>
/// <param name="Commit">Of a committed decision: C; else zero.</param>
/// <param name="Others">Of a committed decision: keys whose locks must be gone before it goes.</param>
internal sealed record ExpiredOperation(byte[] EngineKey, OperationId Transaction, Timestamp Commit, byte[][] Others);
