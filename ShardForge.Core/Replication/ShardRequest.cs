namespace ShardForge.Replication;

/// <summary>What the router asks a shard's leader; local ones are passed as they are, others through a frame.</summary>
internal abstract record ShardRequest
{
    public required ShardId Shard { get; init; }

    /// <summary>Epoch of the shard by which the router chose it; another one at the leader is <see cref="ShardStatus.WrongShard"/>.</summary>
    public required Epoch Epoch { get; init; }
}

/// <summary>A point read. Plain (R08) without <see cref="ReadAt"/>, else as of it (R07).</summary>
internal sealed record GetRequest : ShardRequest
{
    public required ReadOnlyMemory<byte> Key { get; init; }

    public Timestamp? ReadAt { get; init; }
}

/// <summary>Asks whether the replica leads and serves; answered <see cref="ShardStatus.Ok"/> under a lease or after a barrier.</summary>
internal sealed record PingRequest : ShardRequest;

/// <summary>One page of a scan as of a timestamp (R07), in key order or in reverse.</summary>
internal sealed record ScanRequest : ShardRequest
{
    /// <summary>What is still wanted: the router moves the start (in reverse: the end) behind the last entry of the page before.</summary>
    public required KeyRange Range { get; init; }

    public required Timestamp ReadAt { get; init; }

    public bool Reverse { get; init; }

    public required int EntriesMax { get; init; }

    public required int BytesMax { get; init; }
}

/// <summary>A write in one shard: puts and deletes, with a condition (compare-and-set), or as a transaction's commit.</summary>
internal sealed record WriteRequest : ShardRequest
{
    /// <summary>The request's or the transaction's id: makes a retry safe (R22).</summary>
    public required OperationId Id { get; init; }

    /// <summary>Highest timestamp the sender's node knew when the call began, for the horizon (R18).</summary>
    public required Timestamp KnownTimestamp { get; init; }

    /// <summary>True where an earlier attempt of this id may have reached a leader.</summary>
    public bool IsRetry { get; init; }

    /// <summary>The writes, each key once.</summary>
    public required IReadOnlyList<KeyWrite> Writes { get; init; }

    /// <summary>Compare-and-set: the single written key must hold <see cref="ExpectedValue"/>.</summary>
    public bool HasCondition { get; init; }

    /// <summary>With <see cref="HasCondition"/>: the expected value; null: the key must be absent.</summary>
    public ReadOnlyMemory<byte>? ExpectedValue { get; init; }

    /// <summary>A transaction's snapshot: a version above it on a written key is a conflict (R12); null: a blind write.</summary>
    public Timestamp? Start { get; init; }

    /// <summary>A serializable transaction's point reads: validated up to the commit timestamp (R16).</summary>
    public IReadOnlyList<ReadOnlyMemory<byte>> ReadKeys { get; init; } = [];

    /// <summary>A serializable transaction's scanned ranges.</summary>
    public IReadOnlyList<KeyRange> ReadRanges { get; init; } = [];
}

/// <summary>One key's new value; a null value deletes.</summary>
internal readonly record struct KeyWrite(ReadOnlyMemory<byte> Key, ReadOnlyMemory<byte>? Value);

/// <summary>How a request ended.</summary>
internal enum ShardStatus : byte
{
    None = 0,

    Ok = 1,

    /// <summary>This replica does not lead (or not yet, R10), nothing was done. <see cref="ShardResponse.LeaderNode"/> says who does, if it knows.</summary>
    NotLeader = 2,

    /// <summary>The key or range is not (only) of this shard, or the epoch differs: refresh the map. Nothing was done.</summary>
    WrongShard = 3,

    /// <summary>Compare-and-set: the key holds something else. Nothing was written; final unless another attempt of the id is open (R22).</summary>
    ConditionFailed = 4,

    /// <summary>A version or lock of another (R12, R16). Nothing was written.</summary>
    Conflict = 5,

    /// <summary>A bounded queue is full. Nothing was written.</summary>
    Overloaded = 6,

    /// <summary>Proposed; whether it is or will be committed is not known here.</summary>
    OutcomeUnknown = 7,

    /// <summary>The read or the transaction is below the limit of history (R28).</summary>
    HistoryGone = 8,

    /// <summary>A read above the oracle's last answer (R07).</summary>
    AheadOfOracle = 9,

    /// <summary>From before the horizon (R18): not written by this attempt.</summary>
    TooOld = 10,

    /// <summary>The replica is faulted (a failed flush, damage); <see cref="ShardResponse.Message"/> says why. Nothing was done.</summary>
    Faulted = 11,

    /// <summary>The request's own wait ran out before anything was proposed. Nothing was written.</summary>
    TimedOut = 12,
}

/// <summary>The answer to a <see cref="ShardRequest"/>.</summary>
internal sealed record ShardResponse
{
    public required ShardStatus Status { get; init; }

    /// <summary>Node that leads, as far as the answering replica knows.</summary>
    public string? LeaderNode { get; init; }

    /// <summary>The shard's epoch at the answering replica; 0: unknown.</summary>
    public Epoch Epoch { get; init; }

    /// <summary>For an error: what happened, for the exception's message.</summary>
    public string? Message { get; init; }

    /// <summary>Of a get: the value; null: absent. Owned by the receiver.</summary>
    public byte[]? Value { get; init; }

    /// <summary>Of a write: its commit timestamp. Of a get, and of a compare-and-set that failed: that of the version it met, a delete marker too; zero: none.</summary>
    public Timestamp Timestamp { get; init; }

    /// <summary>Of a scan: the page.</summary>
    public IReadOnlyList<KeyValuePair<byte[], byte[]>> Entries { get; init; } = [];

    /// <summary>Of a scan: whether the range may hold more behind the page.</summary>
    public bool HasMore { get; init; }
}

/// <summary>A shard's replica on this node, as the router sees it. Safe for concurrent use.</summary>
internal interface IShardReplica
{
    ShardId Shard { get; }

    /// <summary>Role, term, leader.</summary>
    Consensus.RaftStatus Status { get; }

    /// <summary>Whether it leads and serves (R10).</summary>
    bool IsServing { get; }

    /// <summary>
    /// Executes a request on the leader. Never throws for what <see cref="ShardStatus"/> can say: a cancelled token ends the wait with
    /// <see cref="ShardStatus.TimedOut"/> (nothing was done) or, once a write was proposed, with <see cref="ShardStatus.OutcomeUnknown"/> (it may still happen).
    /// Whoever owns the token knows whether that was a deadline or a cancellation.
    /// </summary>
    ValueTask<ShardResponse> ExecuteAsync(ShardRequest request, CancellationToken cancellationToken);
}
