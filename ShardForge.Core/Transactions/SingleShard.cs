using ShardForge.Replication;
using ShardForge.Routing;

namespace ShardForge.Transactions;

/// <summary>Finds the one shard of a write; what spans several is refused until commits over shards exist.</summary>
internal static class SingleShard
{
    public static ShardRoute Find(WriteRequest request, ShardMap map)
    {
        ShardRoute shard = map.Find(request.Writes[0].Key.Span);
        foreach (KeyWrite write in request.Writes)
            Check(shard, map.Find(write.Key.Span), write.Key.Span);
        foreach (ReadOnlyMemory<byte> key in request.ReadKeys)
            Check(shard, map.Find(key.Span), key.Span);
        foreach (KeyRange range in request.ReadRanges)
        {
            if (map.PartitionRule.SlotOf(range) is { } slot)
                Check(shard, map.Find(slot), range.Start.Span);
            else if (map.Shards.Count > 1)
                throw Spans($"it scanned {range}, which may lie in any shard, and writes shard {shard.Shard}");
        }

        return shard;
    }

    private static void Check(ShardRoute shard, ShardRoute other, ReadOnlySpan<byte> key)
    {
        if (shard.Shard != other.Shard)
            throw Spans($"key {ByteOrder.Show(key)} is in shard {other.Shard}, another one in shard {shard.Shard}");
    }

    private static NotSupportedException Spans(string why) =>
        new($"A batch or transaction that spans shards is not supported in this version: {why}. Nothing was written. Keys that share a partition key (ShardForgeConfig.PartitionRule) live in one shard.");
}
