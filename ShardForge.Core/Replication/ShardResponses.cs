using ShardForge.Consensus;

namespace ShardForge.Replication;

/// <summary>The answers of a replica, each with a message that says where and what became of the data.</summary>
internal sealed class ShardResponses(ShardId shard, string nodeId)
{
    public ShardResponse Value(byte[]? value, Timestamp version, Epoch epoch) => new() { Status = ShardStatus.Ok, Value = value, Timestamp = version, Epoch = epoch };

    public ShardResponse Written(Timestamp commit, Epoch epoch) => new() { Status = ShardStatus.Ok, Timestamp = commit, Epoch = epoch };

    public ShardResponse NotLeader(RaftStatus? status)
    {
        string? leader = null;
        foreach (RaftMember member in status?.Members ?? [])
        {
            if (member.Replica == status!.Leader)
                leader = member.NodeId;
        }

        return new()
        {
            Status = ShardStatus.NotLeader,
            LeaderNode = leader,
            Message = $"Shard {shard} on {nodeId}: this replica does not lead (term {status?.Term.Value ?? 0}, leader {leader ?? "unknown"}). Nothing was done.",
        };
    }

    public ShardResponse WrongShard(Epoch epoch) => new()
    {
        Status = ShardStatus.WrongShard,
        Epoch = epoch,
        Message = $"Shard {shard} on {nodeId}: the key is not of this shard at epoch {epoch}. Nothing was done.",
    };

    public ShardResponse ConditionFailed(Timestamp version, Epoch epoch) => new() { Status = ShardStatus.ConditionFailed, Timestamp = version, Epoch = epoch };

    public ShardResponse Conflict(ReadOnlySpan<byte> key, string with) => new()
    {
        Status = ShardStatus.Conflict,
        Message = $"Shard {shard} on {nodeId}: key {Prefix(key)} has {with}. Nothing was written.",
    };

    public ShardResponse Locked(byte[] key, Mvcc.LockRecord met) => new()
    {
        Status = ShardStatus.Locked,
        Lock = met,
        LockedKey = key,
        Message = $"Shard {shard} on {nodeId}: key {Prefix(key)} has a lock of the undecided transaction {met.Transaction}. Nothing was done.",
    };

    public static ShardResponse Decided(Timestamp commit) => new() { Status = ShardStatus.Decided, Timestamp = commit };

    public static ShardResponse Missing() => new() { Status = ShardStatus.Missing };

    public ShardResponse Overloaded(string queue, long maximum, long actual) => new()
    {
        Status = ShardStatus.Overloaded,
        Message = $"Shard {shard} on {nodeId}: {queue} is full ({actual:N0} of {maximum:N0} bytes). Nothing was written.",
    };

    public ShardResponse DiskFull(string reason) => new()
    {
        Status = ShardStatus.Overloaded,
        Message = $"Shard {shard} on {nodeId}: the disk is full, committed writes wait for room ({reason}). Nothing was written.",
    };

    public ShardResponse OutcomeUnknown() => new()
    {
        Status = ShardStatus.OutcomeUnknown,
        Message = $"Shard {shard} on {nodeId}: the write was proposed, and whether it is or will be committed is not known. Read before you try again.",
    };

    public ShardResponse HistoryGone(Timestamp wanted, Timestamp limit) => new()
    {
        Status = ShardStatus.HistoryGone,
        Message = $"Shard {shard} on {nodeId}: history is kept from {limit} on, {wanted} is before it. Nothing was done.",
    };

    public ShardResponse AheadOfOracle(Timestamp wanted, Timestamp last) => new()
    {
        Status = ShardStatus.AheadOfOracle,
        Message = $"Shard {shard} on {nodeId}: {wanted} is above the last timestamp of the cluster, {last}. Nothing was read.",
    };

    public ShardResponse TooOld(Timestamp known, Timestamp now, TimeSpan horizon) => new()
    {
        Status = ShardStatus.TooOld,
        Timestamp = now,
        Message = $"Shard {shard} on {nodeId}: the request began at {known}, more than {horizon} before {now}; what earlier attempts left may be forgotten. This attempt wrote nothing.",
    };

    public ShardResponse Faulted(Exception fault) => new()
    {
        Status = ShardStatus.Faulted,
        Message = $"Shard {shard} on {nodeId}: the replica does not serve: {fault.Message} Nothing was done.",
    };

    public ShardResponse TimedOut(string waitedFor, Exception? cause = null) => new()
    {
        Status = ShardStatus.TimedOut,
        Message = $"Shard {shard} on {nodeId}: the wait for {waitedFor} ended{(cause is null or OperationCanceledException ? "" : $" ({cause.Message})")}. Nothing was written.",
    };

    private static string Prefix(ReadOnlySpan<byte> key) => key.Length <= 16 ? Convert.ToHexString(key) : Convert.ToHexString(key[..16]) + "...";
}
