using ShardForge.Replication;
using ShardForge.Routing;

namespace ShardForge.Transactions;

/// <summary>Finds the one shard of a write; what spans several throws, and goes on as a commit over shards.</summary>
internal static class SingleShard
{
    public static ShardRoute Find(WriteRequest request, ShardMap map) => TryFind(request.Writes, request.ReadKeys, request.ReadRanges, map) ?? throw new SpansShardsException();

    /// <summary>Null: it spans several.</summary>
    public static ShardRoute? TryFind(IReadOnlyList<KeyWrite> writes, IReadOnlyList<ReadOnlyMemory<byte>> readKeys, IReadOnlyList<KeyRange> readRanges, ShardMap map)
    {
        ShardRoute shard = map.Find(writes[0].Key.Span);
        for (int i = 1; i < writes.Count; i++)
        {
            if (map.Find(writes[i].Key.Span) != shard)
                return null;
        }

        for (int i = 0; i < readKeys.Count; i++)
        {
            if (map.Find(readKeys[i].Span) != shard)
                return null;
        }

        for (int i = 0; i < readRanges.Count; i++)
        {
            if (map.PartitionRule.SlotOf(readRanges[i]) is { } slot ? map.Find(slot) != shard : map.Shards.Count > 1)
                return null;
        }

        return shard;
    }
}

/// <summary>A write to one shard turned out to span several: the shard map was another one, or changed.</summary>
internal sealed class SpansShardsException() : Exception("The write spans shards.");
