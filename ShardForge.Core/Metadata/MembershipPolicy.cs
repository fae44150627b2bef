using System.Net;
using ShardForge.Network;

namespace ShardForge.Metadata;

/// <summary>Whom this node's links accept: members of its cluster, in the run and on the directory that is known of them (R38, R42).</summary>
/// <remarks>
/// Strangers may ask questions (formation, joining) if they name the same cluster; a lasting link is for members. Of every instance the highest open counter and
/// end of log are remembered, in memory; what is lower comes from a restored copy, and is told so. Group 0 remembers the counters for good.
/// <para>It is there before the service is, since the network needs it first: <paramref name="current"/> is null until the node is a member.</para>
/// <para>A restored machine image that matches in both is not noticed. Threads: safe for concurrent use.</para></remarks>
/// <param name="nodeId">This node.</param>
/// <param name="clusterName">As configured.</param>
/// <param name="initialMembers">As configured; empty: the node is alone, or joins.</param>
/// <param name="current">The latest state that this node knows; null: it is no member yet.</param>
internal sealed class MembershipPolicy(string nodeId, string clusterName, IReadOnlyCollection<string> initialMembers, Func<ClusterState?> current) : IHandshakePolicy
{
    private readonly Func<ClusterState?> _current = current;
    private readonly Lock _gate = new();
    private readonly Dictionary<Guid, Seen> _seen = [];

    public HandshakeVerdict Check(HandshakeHello remote, LinkDirection direction)
    {
        ClusterState? state = _current();
        if (!string.Equals(remote.ClusterName, clusterName, StringComparison.Ordinal))
            return HandshakeVerdict.Refuse(RefusalCode.WrongCluster, $"node {nodeId} is of cluster '{clusterName}', not of '{remote.ClusterName}'");
        if (state is not null && remote.ClusterId != Guid.Empty && remote.ClusterId != state.ClusterId)
            return HandshakeVerdict.Refuse(RefusalCode.WrongCluster, $"node {nodeId} is of the cluster with the id {state.ClusterId}, not of {remote.ClusterId}");
        if (remote.Purpose != HandshakePurpose.Link)
            return HandshakeVerdict.Accept;
        if (state is null)
        {
            // Not a member yet: whoever is one already may dial ahead, if this node was told of it.
            return initialMembers.Count == 0 || initialMembers.Contains(remote.NodeId)
                ? HandshakeVerdict.Accept
                : HandshakeVerdict.Refuse(RefusalCode.UnknownNode, $"{remote.NodeId} is no initial member as node {nodeId} is configured");
        }

        HandshakeVerdict verdict = CheckMember(state, remote);
        return verdict.IsAccepted ? Remember(remote) : verdict;
    }

    private HandshakeVerdict CheckMember(ClusterState state, HandshakeHello remote) => state.FindNode(remote.NodeId) switch
    {
        null => HandshakeVerdict.Refuse(RefusalCode.UnknownNode, $"{remote.NodeId} is no node of cluster '{state.ClusterName}', as of version {state.Version}"),
        { IsRemoved: true } => HandshakeVerdict.Refuse(RefusalCode.NodeRemoved, $"{remote.NodeId} was taken out of cluster '{state.ClusterName}'"),
        NodeInfo node when node.InstanceId != Guid.Empty && node.InstanceId != remote.InstanceId =>
            HandshakeVerdict.Refuse(RefusalCode.InstanceConflict, $"{remote.NodeId} is known with the data directory {node.InstanceId}, not with {remote.InstanceId}"),
        NodeInfo node when node.OpenCounter > remote.OpenCounter =>
            HandshakeVerdict.Refuse(RefusalCode.StaleCopy, $"{remote.NodeId} was open {node.OpenCounter} times, its directory says {remote.OpenCounter}"),
        _ when remote.FeatureLevel < (uint)state.FeatureLevel =>
            HandshakeVerdict.Refuse(RefusalCode.FeatureLevel, $"the cluster has feature level {state.FeatureLevel}, {remote.NodeId} knows {remote.FeatureLevel}"),
        _ => HandshakeVerdict.Accept,
    };

    private HandshakeVerdict Remember(HandshakeHello remote)
    {
        lock (_gate)
        {
            if (_seen.TryGetValue(remote.InstanceId, out Seen seen))
            {
                if (remote.OpenCounter < seen.OpenCounter)
                    return HandshakeVerdict.Refuse(RefusalCode.StaleCopy, $"{remote.NodeId} was seen in its run {seen.OpenCounter}, now it is in run {remote.OpenCounter}");
                // Within a run, hellos of two connections may come in the other order.
                if (remote.OpenCounter > seen.OpenCounter && remote.LogEnd < seen.LogEnd)
                    return HandshakeVerdict.Refuse(RefusalCode.StaleCopy, $"the log of {remote.NodeId} was seen with its end at {seen.LogEnd:N0}, now it ends at {remote.LogEnd:N0}");
                if (remote.OpenCounter == seen.OpenCounter && !Equals(remote.AdvertisedEndPoint, seen.Address))
                    return HandshakeVerdict.Refuse(RefusalCode.InstanceConflict, $"{remote.NodeId} is open on two copies of its directory, at {seen.Address} and at {remote.AdvertisedEndPoint}");
            }

            _seen[remote.InstanceId] = new(remote.OpenCounter, Math.Max(remote.LogEnd, seen.LogEnd), remote.AdvertisedEndPoint);
            return HandshakeVerdict.Accept;
        }
    }

    private readonly record struct Seen(ulong OpenCounter, ulong LogEnd, EndPoint? Address);
}
