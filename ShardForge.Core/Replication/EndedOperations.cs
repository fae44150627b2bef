using System.Buffers.Binary;
using System.Collections.Concurrent;
using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

/// <summary>Ids that may write nothing here any more: those with a mark or an abort in the space of operations (R17, R21). In memory, so that a write looks at no engine for it.</summary>
/// <remarks>Bounded by the horizon, for which marks and decisions are kept. Threads: changed by the apply loop alone, read by any.</remarks>
internal sealed class EndedOperations
{
    private readonly ConcurrentDictionary<OperationId, int> _counts = new();

    public bool Contains(OperationId id) => !_counts.IsEmpty && _counts.ContainsKey(id);

    public void Load(IStorageEngine engine)
    {
        _counts.Clear();
        using IStorageIterator iterator = engine.Scan(MvccKey.OperationRange());
        while (iterator.MoveNext())
        {
            if (Ends(iterator.Key, iterator.Value))
                Add(iterator.Key);
        }
    }

    /// <summary>Takes over what a batch does to marks and decisions.</summary>
    public void Apply(ReadOnlySpan<byte> encodedBatch)
    {
        StorageBatchReader reader = new(encodedBatch);
        while (reader.MoveNext())
        {
            if (reader.Key.IsEmpty || reader.Key[0] != (byte)KeySpace.Operation)
                continue;
            if (reader.Kind == StorageOperationKind.Put && Ends(reader.Key, reader.Value))
                Add(reader.Key);
            else if (reader.Kind == StorageOperationKind.Delete)
                Remove(reader.Key);
        }
    }

    private static bool Ends(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) =>
        (OperationRecordKind)key[^(1 + OperationId.Bytes)] switch
        {
            OperationRecordKind.Mark => true,
            OperationRecordKind.Decision => !OperationRecord.Read(value).IsCommitted,
            _ => false,
        };

    private static OperationId IdOf(ReadOnlySpan<byte> key) => new(BinaryPrimitives.ReadUInt64BigEndian(key[^16..]), BinaryPrimitives.ReadUInt64BigEndian(key[^8..]));

    private void Add(ReadOnlySpan<byte> key) => _counts.AddOrUpdate(IdOf(key), 1, static (_, count) => count + 1);

    private void Remove(ReadOnlySpan<byte> key)
    {
        OperationId id = IdOf(key);
        if (_counts.TryGetValue(id, out int count) && count > 1)
            _counts[id] = count - 1;
        else
            _counts.TryRemove(id, out _);
    }
}
