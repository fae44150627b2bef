using ShardForge.Metadata;

namespace ShardForge.Tests.Metadata;

/// <summary>Cluster states for tests.</summary>
internal static class States
{
    /// <summary>The record of three nodes with four shards.</summary>
    public static ClusterState Formation(int nodeCount = 3, int shardCount = 4, int replicationFactor = 2)
    {
        NodeInfo[] nodes = [.. Enumerable.Range(1, nodeCount).Select(static number => new NodeInfo
        {
            NodeId = $"n{number}",
            Address = $"10.0.0.{number}:7400",
            InstanceId = new Guid(number, 0, 0, new byte[8]),
            OpenCounter = 1,
            SupportedFeatureLevel = 1,
        })];
        PlacementPlan plan = Placement.Place([.. nodes.Select(static node => node.NodeId)], shardCount, replicationFactor);
        return new()
        {
            ClusterId = new Guid("00112233-4455-6677-8899-aabbccddeeff"),
            ClusterName = "test",
            Version = ClusterState.FormationVersion,
            FeatureLevel = 1,
            Settings = new() { ShardCount = shardCount, ReplicationFactor = replicationFactor, PartitionRule = PartitionRule.UpTo((byte)'/') },
            Nodes = nodes,
            MetadataGroup = plan.MetadataGroup,
            Shards = plan.Shards,
            NextReplicaId = plan.NextReplicaId,
        };
    }

    public static RegisterNodeCommand Register(string node, int instance, ulong openCounter, int featureLevel = 1) =>
        new(node, "10.0.0.9:7400", new Guid(instance, 0, 0, new byte[8]), openCounter, featureLevel);
}
