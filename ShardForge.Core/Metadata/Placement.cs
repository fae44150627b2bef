using ShardForge.Consensus;

namespace ShardForge.Metadata;

/// <summary>Which nodes host which replicas when a cluster is formed. A pure function of node ids and settings.</summary>
/// <remarks>
/// Replicas are dealt out like cards: the positions of all replicas of all shards, one after the other, go round the nodes. So no node has two of one
/// shard (there are at least as many nodes as replicas of one), and counts differ by at most one. Each shard's preferred leader is the replica whose node
/// leads least so far. Group 0 has min(5, nodes) replicas, made odd (R41), on the first nodes by id.
/// </remarks>
internal static class Placement
{
    /// <summary>Group 0 has at most so many replicas (R41).</summary>
    private const int MetadataReplicasMax = 5;

    public const int DefaultReplicationFactor = 3;

    /// <summary>How many replicas group 0 has in a cluster of so many nodes: odd, since an even one more survives no more losses.</summary>
    public static int MetadataReplicaCount(int nodeCount)
    {
        int count = Math.Min(MetadataReplicasMax, nodeCount);
        return count % 2 == 0 ? count - 1 : count;
    }

    /// <param name="nodeIds">Each once, ordered (ordinal).</param>
    /// <param name="shardCount">At least 1.</param>
    /// <param name="replicationFactor">1 to the number of nodes.</param>
    public static PlacementPlan Place(IReadOnlyList<string> nodeIds, int shardCount, int replicationFactor)
    {
        Invariant.Require(shardCount is >= 1 and <= Slot.Count);
        Invariant.Require(replicationFactor >= 1 && replicationFactor <= nodeIds.Count);

        ulong nextReplicaId = 1;
        RaftMember[] metadata = new RaftMember[MetadataReplicaCount(nodeIds.Count)];
        for (int i = 0; i < metadata.Length; i++)
            metadata[i] = new(new ReplicaId(nextReplicaId++), nodeIds[i]);

        int[] leaders = new int[nodeIds.Count];
        int position = 0;
        ShardInfo[] shards = new ShardInfo[shardCount];
        for (int i = 0; i < shardCount; i++)
        {
            RaftMember[] replicas = new RaftMember[replicationFactor];
            int leader = 0, leaderNode = -1;
            for (int j = 0; j < replicationFactor; j++, position = (position + 1) % nodeIds.Count)
            {
                replicas[j] = new(new ReplicaId(nextReplicaId++), nodeIds[position]);
                if (leaderNode < 0 || leaders[position] < leaders[leaderNode])
                {
                    leader = j;
                    leaderNode = position;
                }
            }

            leaders[leaderNode]++;
            shards[i] = new()
            {
                Shard = new ShardId(i + 1),
                Slots = SlotRange.Part(i, shardCount),
                Group = new() { Epoch = new Epoch(1), Replicas = replicas },
                PreferredLeader = replicas[leader].Replica,
            };
        }

        return new(new() { Epoch = new Epoch(1), Replicas = metadata }, shards, nextReplicaId);
    }
}

/// <summary>Where everything goes.</summary>
internal sealed record PlacementPlan(GroupInfo MetadataGroup, IReadOnlyList<ShardInfo> Shards, ulong NextReplicaId);
