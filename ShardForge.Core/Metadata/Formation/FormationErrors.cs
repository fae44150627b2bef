namespace ShardForge.Metadata.Formation;

/// <summary>Refusals as the errors that a user gets.</summary>
internal static class FormationErrors
{
    /// <summary>The same; that the node is known with another data directory is not the end where its own is empty: it may come in the other's place.</summary>
    public static Exception RefusedAtFormation(FormationRefusal refusal, string nodeId, string reason) =>
        refusal == FormationRefusal.OtherInstance ? new ReplacementException(reason) : Refused(refusal, nodeId, reason);

    public static ConfigurationException Refused(FormationRefusal refusal, string nodeId, string reason) => refusal switch
    {
        FormationRefusal.OtherCluster =>
            new("ClusterName", $"Node {nodeId} met another cluster: {reason}. It is no member, and nothing was changed there."),
        FormationRefusal.OtherMembers =>
            new("Members", $"Node {nodeId} cannot form a cluster: {reason}. All initial members must list the same ones. Nothing was formed."),
        FormationRefusal.WrongNode =>
            new("Members", $"Node {nodeId} cannot form a cluster: {reason}. Nothing was formed."),
        FormationRefusal.UnknownNode =>
            new("Members", $"Node {nodeId} is no member of the cluster, which is formed already: {reason}. To add the node, leave Members empty and set Join."),
        FormationRefusal.OtherInstance =>
            new("DataDirectory", $"Node {nodeId} is known to the cluster with another data directory: {reason}. Two nodes have one id: the one with the other directory is connected, or took this one's place. This one does not take part, and forms no cluster of its own."),
        FormationRefusal.RestoredCopy =>
            new("DataDirectory", $"Node {nodeId} runs on an older copy of its data directory: {reason}. What it acknowledged since is missing there, so it does not take part."),
        FormationRefusal.NodeRemoved =>
            new("DataDirectory", $"Node {nodeId} was taken out of the cluster: {reason}."),
        FormationRefusal.FeatureLevel =>
            new("DataDirectory", $"Node {nodeId} is too old for the cluster's feature level: {reason}. Open it with a newer build."),
        _ => new("Members", $"Node {nodeId} was refused for a reason that this build does not know ({(byte)refusal}): {reason}."),
    };
}
