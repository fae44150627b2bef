namespace ShardForge.Replication;

/// <summary>What the router asks a shard's leader; local ones are passed as they are, others through a frame.</summary>
internal abstract record ShardRequest
{
    public required ShardId Shard { get; init; }

    /// <summary>Epoch of the shard by which the router chose it; another one at the leader is <see cref="ShardStatus.WrongShard"/>.</summary>
    public required Epoch Epoch { get; init; }
}

/// <summary>What meets locks and does not write.</summary>
internal abstract record ReadRequest : ShardRequest
{
    /// <summary>Transactions that the reader knows to be decided: their locks are read through (R23).</summary>
    public IReadOnlyList<DecidedTransaction> Decided { get; init; } = [];
}

/// <summary>A point read. Plain (R08) without <see cref="ReadAt"/>, else as of it (R07).</summary>
internal sealed record GetRequest : ReadRequest
{
    public required ReadOnlyMemory<byte> Key { get; init; }

    public Timestamp? ReadAt { get; init; }
}

/// <summary>Asks whether the replica leads and serves; answered <see cref="ShardStatus.Ok"/> under a lease or after a barrier.</summary>
internal sealed record PingRequest : ShardRequest;

/// <summary>One page of a scan as of a timestamp (R07), in key order or in reverse.</summary>
internal sealed record ScanRequest : ReadRequest
{
    /// <summary>What is still wanted: the router moves the start (in reverse: the end) behind the last entry of the page before.</summary>
    public required KeyRange Range { get; init; }

    public required Timestamp ReadAt { get; init; }

    public bool Reverse { get; init; }

    public required int EntriesMax { get; init; }

    public required int BytesMax { get; init; }
}

/// <summary>R16: a serializable transaction's reads in one shard, validated up to its commit timestamp.</summary>
internal sealed record ValidateRequest : ReadRequest
{
    public required OperationId Transaction { get; init; }

    /// <summary>The snapshot at which it read.</summary>
    public required Timestamp Start { get; init; }

    /// <summary>Its age (R20).</summary>
    public required Timestamp Age { get; init; }

    /// <summary>C.</summary>
    public required Timestamp Commit { get; init; }

    public IReadOnlyList<ReadOnlyMemory<byte>> ReadKeys { get; init; } = [];

    public IReadOnlyList<KeyRange> ReadRanges { get; init; } = [];
}

/// <summary>What is asked of, or told to, the leader of a transaction's key, and proposes nothing.</summary>
internal sealed record TransactionRequest : ShardRequest
{
    public required TransactionQuestion Question { get; init; }

    public required OperationId Transaction { get; init; }

    /// <summary>The primary; of a hint: locked keys of the shard.</summary>
    public required IReadOnlyList<ReadOnlyMemory<byte>> Keys { get; init; }

    /// <summary>Of a hint: C. Of a question: M of the lock that was met, below which the transaction did not commit.</summary>
    public Timestamp Timestamp { get; init; }
}

/// <summary>The kinds of <see cref="TransactionRequest"/>. They travel.</summary>
internal enum TransactionQuestion : byte
{
    None = 0,

    /// <summary>What the primary knows (R15, R19): <see cref="ShardStatus.Decided"/>, <see cref="ShardStatus.Live"/>, <see cref="ShardStatus.Expired"/> or <see cref="ShardStatus.Missing"/>.</summary>
    Status = 1,

    /// <summary>The owner is alive (R19).</summary>
    Heartbeat = 2,

    /// <summary>It is committed at that timestamp, irrevocably: in memory, so that reads pass its locks before they are resolved (R15).</summary>
    Hint = 3,

    /// <summary>Nobody will read below that timestamp (R28): the shard's limit of history may rise to it. The keys are of no meaning.</summary>
    Limit = 4,
}

/// <summary>Which step of a write a request is. They travel.</summary>
internal enum WriteStep : byte
{
    /// <summary>All of it, in this one shard: versions.</summary>
    Commit = 0,

    /// <summary>R14: a lock with the value on each key. Answered <see cref="ShardStatus.Ok"/> with M.</summary>
    Prewrite = 1,

    /// <summary>R15: the decision at the primary, the first key; the first decision counts. Locks of the other keys end in the same entry. Answered <see cref="ShardStatus.Decided"/>, or <see cref="ShardStatus.Missing"/> where nothing is there to commit.</summary>
    Decide = 2,

    /// <summary>Locks become versions at <see cref="WriteRequest.CommitAt"/>, or nothing.</summary>
    Resolve = 3,

    /// <summary>R17: is the lock there? If not, a mark keeps it from coming. Answered <see cref="ShardStatus.Ok"/> with M, <see cref="ShardStatus.Missing"/> or <see cref="ShardStatus.Decided"/>.</summary>
    Mark = 4,
}

/// <summary>What a prewrite puts into its locks (R14).</summary>
internal sealed record PrewriteSpec
{
    public required byte[] Primary { get; init; }

    /// <summary>The transaction's other keys; they go into the primary's lock.</summary>
    public required IReadOnlyList<byte[]> Others { get; init; }

    /// <summary>R16: never inferred as committed.</summary>
    public bool IsExplicit { get; init; }
}

/// <summary>A write in one shard: puts and deletes, with a condition (compare-and-set), as a transaction's commit, or as one step of a commit over shards.</summary>
internal sealed record WriteRequest : ShardRequest
{
    public WriteStep Step { get; init; }

    /// <summary>The leader computes the single key's new value from its present one and the operand that is its value here.</summary>
    public ValueChange Change { get; init; }

    /// <summary>Of a prewrite.</summary>
    public PrewriteSpec? Prewrite { get; init; }

    /// <summary>Age for R20 (first oracle timestamp of the call, over all of its runs); zero: it waits for nobody while it holds something.</summary>
    public Timestamp Age { get; init; }

    /// <summary>Of a decision or resolution: C; zero: abort. Of a mark: M of the lock that was met.</summary>
    public Timestamp CommitAt { get; init; }

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

    /// <summary>A lock of another transaction is in the way: <see cref="ShardResponse.Lock"/>. Nothing was done.</summary>
    Locked = 13,

    /// <summary>The transaction is decided: committed at <see cref="ShardResponse.Timestamp"/>, or aborted where that is zero.</summary>
    Decided = 14,

    /// <summary>No trace of the transaction is here; after a mark: and none will come.</summary>
    Missing = 15,

    /// <summary>The transaction is undecided and its owner was heard of not long ago (R19).</summary>
    Live = 16,

    /// <summary>The transaction is undecided and its owner was not heard of for too long; <see cref="ShardResponse.Lock"/> is the primary's.</summary>
    Expired = 17,
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

    /// <summary>With <see cref="ShardStatus.Locked"/> and <see cref="ShardStatus.Expired"/>: the lock, without its value.</summary>
    public Mvcc.LockRecord? Lock { get; init; }

    /// <summary>With <see cref="Lock"/>: the locked key.</summary>
    public byte[]? LockedKey { get; init; }
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
