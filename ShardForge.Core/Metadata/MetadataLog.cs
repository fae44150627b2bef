using Microsoft.Extensions.Logging;

namespace ShardForge.Metadata;

/// <summary>Log lines of the metadata: one per change of state. Event ids 6000 to 6099.</summary>
internal static partial class MetadataLog
{
    [LoggerMessage(6000, LogLevel.Information, "{Node}: formed cluster {Cluster} ({ClusterId}) of {Nodes} nodes with {Shards} shards")]
    public static partial void Formed(ILogger logger, string node, string cluster, Guid clusterId, int nodes, int shards);

    [LoggerMessage(6001, LogLevel.Information, "{Node}: joined cluster {Cluster} ({ClusterId}), as {Peer} knows it")]
    public static partial void Joined(ILogger logger, string node, string cluster, Guid clusterId, string peer);

    [LoggerMessage(6002, LogLevel.Error, "{Node}: cannot become a member: {Reason}")]
    public static partial void Refused(ILogger logger, string node, string reason);

    [LoggerMessage(6003, LogLevel.Information, "{Node}: cluster state is now version {Version}, feature level {FeatureLevel}")]
    public static partial void StateChanged(ILogger logger, string node, ulong version, int featureLevel);

    [LoggerMessage(6004, LogLevel.Warning, "{Node}: registration refused: {Outcome}")]
    public static partial void RegistrationRefused(ILogger logger, string node, MetadataOutcome outcome);

    [LoggerMessage(6005, LogLevel.Warning, "{Node}: the image of the metadata group at entry {Index} was not written; its log is kept")]
    public static partial void ImageNotWritten(ILogger logger, string node, long index, Exception error);

    [LoggerMessage(6006, LogLevel.Warning, "{Node}: the last known cluster state was not written; the next start finds its peers by an older one")]
    public static partial void TopologyNotWritten(ILogger logger, string node, Exception error);

    [LoggerMessage(6007, LogLevel.Information, "{Node}: serves as the metadata group's leader")]
    public static partial void Serving(ILogger logger, string node);

    [LoggerMessage(6008, LogLevel.Warning, "{Node}: what {Peer} answered is not understood")]
    public static partial void AnswerNotUnderstood(ILogger logger, string node, string peer, Exception error);

    [LoggerMessage(6009, LogLevel.Warning, "{Node}: the last known cluster state was not read; the peers are looked for where they were when the cluster was formed")]
    public static partial void TopologyNotRead(ILogger logger, string node, Exception error);

    [LoggerMessage(6010, LogLevel.Error, "{Node}: a loop of the metadata service ended")]
    public static partial void UpkeepFailed(ILogger logger, string node, Exception error);

    [LoggerMessage(6011, LogLevel.Information, "{Node}: placement: {Step} ({Outcome})")]
    public static partial void Placed(ILogger logger, string node, string step, MetadataOutcome outcome);

    [LoggerMessage(6012, LogLevel.Information, "{Node}: leadership of shard {Shard} was handed to its preferred replica {Replica}")]
    public static partial void HandedOver(ILogger logger, string node, ShardId shard, ReplicaId replica);

    [LoggerMessage(6013, LogLevel.Information, "{Node}: the cluster knows this node with another data directory, {Reason}; it joins in its place")]
    public static partial void Replaces(ILogger logger, string node, string reason);

    [LoggerMessage(6014, LogLevel.Warning, "{Node}: the data directory of {Replaced} is replaced by an empty one ({Instance}); its replicas are lost")]
    public static partial void Replaced(ILogger logger, string node, string replaced, Guid instance);
}
