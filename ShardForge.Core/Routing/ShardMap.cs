namespace ShardForge.Routing;

/// <summary>Which shard has which slots, and which nodes have its replicas, as of one version of the metadata. Immutable.</summary>
internal sealed class ShardMap
{
    private readonly ShardRoute[] _bySlot;

    /// <param name="version">Version of the metadata it was made from.</param>
    /// <param name="partitionRule">The cluster's.</param>
    /// <param name="shards">Together they cover every slot once.</param>
    public ShardMap(ulong version, PartitionRule partitionRule, IReadOnlyList<ShardRoute> shards)
    {
        Version = version;
        PartitionRule = partitionRule;
        Shards = [.. shards.OrderBy(static shard => shard.Slots.First)];
        _bySlot = new ShardRoute[Slot.Count];
        int next = 0;
        foreach (ShardRoute shard in Shards)
        {
            Invariant.Require(shard.Slots.First == next);
            Array.Fill(_bySlot, shard, shard.Slots.First, shard.Slots.Last - shard.Slots.First + 1);
            next = shard.Slots.Last + 1;
        }

        Invariant.Require(next == Slot.Count);
    }

    public ulong Version { get; }

    public PartitionRule PartitionRule { get; }

    /// <summary>In order of their slots.</summary>
    public IReadOnlyList<ShardRoute> Shards { get; }

    public ShardRoute Find(Slot slot) => _bySlot[slot.Value];

    /// <summary>A shard by its number; <see cref="ShardUnavailableException"/> where the map has none.</summary>
    public ShardRoute Find(ShardId shard)
    {
        foreach (ShardRoute route in Shards)
        {
            if (route.Shard == shard)
                return route;
        }

        throw new ShardUnavailableException($"Shard {shard} is not in version {Version} of the shard map. Nothing was written.");
    }

    public ShardRoute Find(ReadOnlySpan<byte> key) => _bySlot[PartitionRule.SlotOf(key).Value];
}

/// <summary>One shard of a <see cref="ShardMap"/>. Immutable.</summary>
/// <param name="Shard">Its number.</param>
/// <param name="Slots">What it holds.</param>
/// <param name="Epoch">Rises with each change of slots or replicas.</param>
/// <param name="Nodes">Nodes with a replica, the preferred leader first.</param>
internal sealed record ShardRoute(ShardId Shard, SlotRange Slots, Epoch Epoch, IReadOnlyList<string> Nodes);

/// <summary>Where the router gets its map.</summary>
internal interface IShardMapSource
{
    /// <summary>The newest map known here; null before the cluster is formed.</summary>
    ShardMap? Current { get; }

    /// <summary>Completes with a map of a version above <paramref name="version"/> (0: any), asking the metadata group where needed.</summary>
    ValueTask<ShardMap> WaitForNewerAsync(ulong version, CancellationToken cancellationToken);
}

/// <summary>The shard replicas on this node.</summary>
internal interface ILocalReplicas
{
    Replication.IShardReplica? Find(ShardId shard);
}
