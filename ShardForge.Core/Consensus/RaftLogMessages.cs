using Microsoft.Extensions.Logging;

namespace ShardForge.Consensus;

/// <summary>What the consensus logs: changes of state. Event ids 3000 to 3099.</summary>
internal static partial class RaftLogMessages
{
    [LoggerMessage(3000, LogLevel.Information, "Shard {Shard}, replica {Replica}: {Role} in term {Term}, leader {Leader}")]
    public static partial void StatusChanged(ILogger logger, ShardId shard, ReplicaId replica, RaftRole role, Term term, ReplicaId? leader);

    [LoggerMessage(3001, LogLevel.Error, "Shard {Shard}, replica {Replica}: stopped for good; it answers nobody until it is opened again")]
    public static partial void Stopped(ILogger logger, ShardId shard, ReplicaId replica, Exception error);

    [LoggerMessage(3002, LogLevel.Warning, "Shard {Shard}, replica {Replica}: error while it closed")]
    public static partial void StopFailed(ILogger logger, ShardId shard, ReplicaId replica, Exception error);

    [LoggerMessage(3003, LogLevel.Warning, "Shard {Shard}, replica {Replica}: a message of replica {Sender} was refused: {Reason}")]
    public static partial void NotUnderstood(ILogger logger, ShardId shard, ReplicaId replica, ReplicaId sender, string reason);

    [LoggerMessage(3004, LogLevel.Information, "Shard {Shard}, replica {Replica}: snapshot of index {Index} for replica {Target} on {Node}: {Bytes} bytes sent")]
    public static partial void SnapshotSent(ILogger logger, ShardId shard, ReplicaId replica, LogIndex index, ReplicaId target, string node, long bytes);

    [LoggerMessage(3005, LogLevel.Information, "Shard {Shard}, replica {Replica}: snapshot of index {Index} installed as generation {Generation}")]
    public static partial void SnapshotInstalled(ILogger logger, ShardId shard, ReplicaId replica, LogIndex index, long generation);

    [LoggerMessage(3006, LogLevel.Information, "Shard {Shard}, replica {Replica}: {Change} replica {Member} on {Node}, by entry {Index}")]
    public static partial void MembersChanged(ILogger logger, ShardId shard, ReplicaId replica, MemberChange change, ReplicaId member, string node, LogIndex index);
}
