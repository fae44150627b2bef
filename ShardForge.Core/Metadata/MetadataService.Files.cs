using System.Net;
using ShardForge.Metadata.Formation;
using ShardForge.Network;

namespace ShardForge.Metadata;

/// <summary>The service's two files, and how its settings stand to them.</summary>
internal sealed partial class MetadataService
{
    private ulong _savedVersion;

    private static ClusterState? LoadState(MetadataOptions options, string name, ulong magic)
    {
        string path = Path.Combine(options.Directory, name);
        if (MetadataFile.TryLoad(options.FileSystem, path, magic) is not { } content)
            return null;
        try
        {
            return ClusterStateCodec.Decode(content);
        }
        catch (InvalidDataException error)
        {
            throw new CorruptionException(path, 0, error.Message, error);
        }
    }

    /// <summary>The cache counts only if it is whole, of this cluster, and newer than the record.</summary>
    private ClusterState? LoadCachedTopology(ClusterState record)
    {
        try
        {
            ClusterState? cached = LoadState(_options, MetadataFile.TopologyName, MetadataFile.TopologyMagic);
            return cached is not null && cached.ClusterId == record.ClusterId && cached.Version > record.Version ? cached : null;
        }
        catch (CorruptionException error)
        {
            // Only a hint where the peers are: the record names most of them, and group 0 all.
            MetadataLog.TopologyNotRead(_options.Logger, NodeId, error);
            return null;
        }
    }

    private static void Check(MetadataOptions options, ClusterState? record)
    {
        if (record is not null)
        {
            if (options.KnownClusterId != Guid.Empty && options.KnownClusterId != record.ClusterId)
                throw new ConfigurationException("DataDirectory", $"{options.Directory} is of cluster {options.KnownClusterId} by its identity and of {record.ClusterId} by its formation record. Nothing was changed.");
            if (!string.Equals(record.ClusterName, options.ClusterName, StringComparison.Ordinal))
                throw new ConfigurationException("DataDirectory", $"{options.Directory} is of cluster '{record.ClusterName}', not of '{options.ClusterName}'. Nothing was changed.");
            if (record.FindNode(options.NodeId) is null)
                throw new ConfigurationException("DataDirectory", $"{options.Directory} is not of node {options.NodeId}. Nothing was changed.");
            return;
        }

        if (options.Members.Count > 0 && options.Join.Count > 0)
            throw new ConfigurationException("Join", "Members and Join are both set. An initial member has Members, a node that joins later has Join.");
        if (options.Members.Count > 0 && !options.Members.ContainsKey(options.NodeId))
            throw new ConfigurationException("Members", $"Members ({string.Join(", ", options.Members.Keys)}) does not name this node, {options.NodeId}.");
        if (options.Link is null && (options.Members.Count > 1 || options.Join.Count > 0))
            throw new ConfigurationException("ListenEndPoint", $"Node {options.NodeId} has other members to talk to and no listener. Set ListenEndPoint, or leave Members and Join empty.");
        if (options.ShardCount is < 1 or > Slot.Count)
            throw new ConfigurationException("ShardCount", $"ShardCount is {options.ShardCount:N0}; 1 to {Slot.Count:N0} are allowed.");
        int members = Math.Max(1, options.Members.Count);
        if (options.Join.Count == 0 && options.ReplicationFactor is { } factor && (factor < 1 || factor > members))
            throw new ConfigurationException("ReplicationFactor", $"ReplicationFactor is {factor}; with {members} initial member(s) 1 to {members} are allowed.");
        if (options.KnownClusterId != Guid.Empty && options.Members.Count <= 1)
        {
            throw new CorruptionException(Path.Combine(options.Directory, MetadataFile.FormationName), 0,
                $"the formation record of cluster {options.KnownClusterId} is missing, and there is no other member to get it from.");
        }
    }

    private ClusterFormation NewFormation(ClusterState? record)
    {
        Dictionary<string, string> members = new(StringComparer.Ordinal);
        foreach ((string nodeId, EndPoint address) in _options.Members)
            members.Add(nodeId, EndPointText.Format(address));
        if (members.Count == 0)
            members.Add(NodeId, OwnAddress());
        FormationSettings settings = new()
        {
            ClusterName = _options.ClusterName,
            NodeId = NodeId,
            InstanceId = _options.InstanceId,
            OpenCounter = _options.OpenCounter,
            SupportedFeatureLevel = _options.SupportedFeatureLevel,
            Members = members,
            Cluster = new()
            {
                ShardCount = _options.ShardCount,
                ReplicationFactor = _options.ReplicationFactor ?? Math.Min(Placement.DefaultReplicationFactor, members.Count),
                GrowsReplication = _options.ReplicationFactor is null,
                PartitionRule = _options.PartitionRule,
            },
            NewClusterId = _options.NewClusterId,
            LostCluster = record is null ? _options.KnownClusterId : Guid.Empty,
        };
        return new(settings, record, _options.Link, SaveRecordAsync, _options.Logger);
    }

    private string OwnAddress() => EndPointText.Format(_options.Members.GetValueOrDefault(NodeId) ?? _options.AdvertisedEndPoint);

    private RegisterNodeCommand Registration() => new(NodeId, OwnAddress(), _options.InstanceId, _options.OpenCounter, _options.SupportedFeatureLevel);

    private Task SaveRecordAsync(ClusterState record) => MetadataFile.SaveAsync(
        _options.FileSystem, Path.Combine(_options.Directory, MetadataFile.FormationName), MetadataFile.FormationMagic, ClusterStateCodec.Encode(record), $"shardforge-meta {NodeId}");

    private Task SaveTopologyAsync(ClusterState state) => MetadataFile.SaveAsync(
        _options.FileSystem, Path.Combine(_options.Directory, MetadataFile.TopologyName), MetadataFile.TopologyMagic, ClusterStateCodec.Encode(state), $"shardforge-meta {NodeId}");
}
