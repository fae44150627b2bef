namespace ShardForge.Consensus.NodeLog;

/// <summary>One replica's part of the node log: its entries, hard state, compaction mark and generation.</summary>
/// <remarks>
/// <para>Properties are volatile reads from any thread. Changing calls of one replica are serialised by the log (they take its lock for
/// memory work only); what must be durable is awaited by the returned task, which group commit completes off the lock.</para>
/// <para>After a failed flush (R35) every waiter fails with <see cref="IOException"/>, <see cref="Failure"/> is set, and every later changing call throws it.</para>
/// <para>Invariants: compacted &lt;= durable &lt;= last; terms never fall with the index; the hard state is never lower than the last entry's term.</para>
/// </remarks>
internal interface IReplicaLog
{
    ReplicaId Replica { get; }

    Term Term { get; }

    /// <summary>Whom this replica voted for in <see cref="Term"/>; none where it did not.</summary>
    ReplicaId VotedFor { get; }

    /// <summary>0 where the log is empty; right after a snapshot or compaction of everything: the compacted index.</summary>
    LogIndex LastIndex { get; }

    Term LastTerm { get; }

    /// <summary>Everything up to here is on disk.</summary>
    LogIndex DurableIndex { get; }

    /// <summary>Entries up to here are gone, represented by the state machine's durable state or snapshot.</summary>
    LogIndex CompactedIndex { get; }

    Term CompactedTerm { get; }

    /// <summary>The group's configuration as of <see cref="CompactedIndex"/> (encoded).</summary>
    ReadOnlyMemory<byte> CompactedConfiguration { get; }

    /// <summary>The last configuration in the log, committed or not, else the compacted one (encoded), with its index.</summary>
    (LogIndex Index, ReadOnlyMemory<byte> Configuration) LastConfiguration { get; }

    /// <summary>The configuration (encoded) that counted at an index, which is not below <see cref="CompactedIndex"/>.</summary>
    ReadOnlyMemory<byte> ConfigurationAt(LogIndex index);

    /// <summary>Which generation of the replica's engine directory counts (R33).</summary>
    long Generation { get; }

    /// <summary>Why the log stopped; null while it is well.</summary>
    Exception? Failure { get; }

    /// <summary>The entry's term, also for the compacted index itself; null below it and beyond the last.</summary>
    Term? TermAt(LogIndex index);

    /// <summary>Term and vote in one record, durable when the task ends. The term never falls; within a term a vote never changes.</summary>
    ValueTask SetHardStateAsync(Term term, ReplicaId votedFor, CancellationToken cancellationToken = default);

    /// <summary>The leader's append: gives the entry its index and starts its way to the disk. The bytes are kept: leave them unchanged for ever. Refused (false) unless <paramref name="term"/> is the log's current term.</summary>
    bool TryAppend(Term term, RaftEntryKind kind, ReadOnlyMemory<byte> payload, out LogIndex index);

    /// <summary>
    /// The follower's append: skips what is at or below <paramref name="committed"/> or already there with the same term, truncates at the first
    /// real conflict of terms only, appends the rest (payloads are copied). Durable when the task ends; completes at once where nothing was new and all of it is durable.
    /// </summary>
    ValueTask AppendAsync(LogIndex first, ReadOnlyMemory<ReplicaLogEntry> entries, LogIndex committed, CancellationToken cancellationToken = default);

    /// <summary>Completes when everything up to <paramref name="index"/> is durable.</summary>
    ValueTask WaitDurableAsync(LogIndex index, CancellationToken cancellationToken = default);

    /// <summary>
    /// Entries from <paramref name="first"/> to at most <paramref name="last"/>, ended early at <paramref name="bytesMax"/> of payload (at least one entry). Recent ones come from
    /// memory, others from segments. <see cref="ArgumentOutOfRangeException"/> at or below the compacted index or beyond the last.
    /// </summary>
    ReplicaLogLease Read(LogIndex first, LogIndex last, long bytesMax);

    /// <summary>
    /// Everything up to <paramref name="index"/> (at most the durable index) may go; the mark carries term and configuration. Not awaited: it becomes durable with a later flush, and
    /// no segment goes before.
    /// </summary>
    void Compact(LogIndex index);

    /// <summary>
    /// Installs a snapshot: the log now starts behind <paramref name="index"/>, the tail is kept only if the entry at <paramref name="index"/> has <paramref name="term"/>;
    /// <paramref name="generation"/> counts from the record's durability on, i.e. when the task ends.
    /// </summary>
    ValueTask ResetToSnapshotAsync(LogIndex index, Term term, ReadOnlyMemory<byte> configuration, long generation, CancellationToken cancellationToken = default);
}

/// <summary>An entry on its way into or out of a log.</summary>
internal readonly record struct ReplicaLogEntry(Term Term, RaftEntryKind Kind, ReadOnlyMemory<byte> Payload);

/// <summary>Entries read from a log; their bytes live until it is disposed.</summary>
internal abstract class ReplicaLogLease : IDisposable
{
    public abstract LogIndex First { get; }

    public abstract ReadOnlyMemory<ReplicaLogEntry> Entries { get; }

    public abstract void Dispose();
}

/// <summary>The durable log of all groups of a node.</summary>
internal interface INodeLog : IAsyncDisposable
{
    /// <summary>Replicas that were created and not removed.</summary>
    IReadOnlyCollection<IReplicaLog> Replicas { get; }

    /// <summary>Whether a replica of that id was ever created here, also if it was removed since (R40).</summary>
    bool WasCreated(ReplicaId replica);

    /// <summary>
    /// Creates a replica's log: term 1, no vote, the given configuration as of index 0, generation 1. Durable when the task ends. Creating an id again,
    /// also one that was removed: <see cref="InvalidOperationException"/>.
    /// </summary>
    /// <param name="replica">Never used before.</param>
    /// <param name="descriptor">What the layer above wants to find at the next open (shard id and more), at most 64 KiB.</param>
    /// <param name="configuration">Encoded members.</param>
    /// <param name="cancellationToken">Stops the wait.</param>
    ValueTask<IReplicaLog> CreateReplicaAsync(ReplicaId replica, ReadOnlyMemory<byte> descriptor, ReadOnlyMemory<byte> configuration, CancellationToken cancellationToken = default);

    /// <summary>What <see cref="CreateReplicaAsync"/> was given.</summary>
    ReadOnlyMemory<byte> GetDescriptor(ReplicaId replica);

    /// <summary>Removes a replica's log; its id stays known. Durable when the task ends.</summary>
    ValueTask RemoveReplicaAsync(ReplicaId replica, CancellationToken cancellationToken = default);

    /// <summary>Position behind the last durable byte over the log's whole life; rises only (R38).</summary>
    long DurablePosition { get; }

    /// <summary>
    /// Whether commands are admitted (R34). False: the disk is full and only the reserve is left, for votes, configurations and what frees segments; appending
    /// a command throws <see cref="OverloadedException"/>, reads and compaction go on.
    /// </summary>
    bool HasRoom { get; }

    /// <summary>Bytes kept on disk for the replicas.</summary>
    long RetainedBytes { get; }

    /// <summary>A replica holds back more log than the budget allows: its owner should make its state durable and call <see cref="IReplicaLog.Compact"/>. Comes on the log's own thread: hand it on.</summary>
    event Action<ReplicaId>? CompactionWanted;

    /// <summary>The log stopped for good (R35); comes once.</summary>
    event Action<Exception>? Failed;
}
