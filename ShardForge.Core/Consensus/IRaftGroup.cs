namespace ShardForge.Consensus;

/// <summary>One Raft group on this node: the seam above which no type of the consensus library appears.</summary>
/// <remarks>
/// Two implementations pass one conformance suite: the one on DotNext, and a scripted deterministic one in memory.
/// <para>Outcome of a proposal: <see cref="TryPropose"/> returning false means it was not appended and never will be. True gives its
/// place (index, term). The feed then tells: an entry applied at that index with that term is the proposal, committed; one with another
/// term means the proposal is lost for ever (it was not and will not be committed); no entry there yet: unknown.</para>
/// <para>Threads: safe for concurrent use. Callbacks of <see cref="IRaftStateMachine"/> come one at a time.</para>
/// </remarks>
internal interface IRaftGroup : IAsyncDisposable
{
    ShardId Shard { get; }

    ReplicaId LocalReplica { get; }

    /// <summary>The latest status; the same as the last one given to <see cref="IRaftStateMachine.OnStatusChanged"/>, or newer.</summary>
    RaftStatus Status { get; }

    /// <summary>Highest index known to be committed.</summary>
    LogIndex CommitIndex { get; }

    /// <summary>Highest index that the state machine has applied.</summary>
    LogIndex AppliedIndex { get; }

    /// <summary>
    /// Appends an entry if this replica leads in exactly <paramref name="term"/> (R11), and starts its replication. Never blocks on
    /// the disk; does not wait for durability. The bytes are kept: leave them unchanged for ever.
    /// </summary>
    /// <returns>False: not appended, and it never will be: another term, not the leader, handing over, stopped, or the log's disk is full (R34).</returns>
    bool TryPropose(Term term, ReadOnlyMemory<byte> entry, out LogIndex index);

    /// <summary>
    /// Whether commands that take room should be proposed (R34): this node's disk has some, and, where it leads, so have enough others for a majority. Where
    /// not, those that free some still may be; what is in the log already is never refused.
    /// </summary>
    bool HasRoom { get; }

    /// <summary>
    /// Whether this replica leads in <paramref name="term"/> and certainly nobody else can have been elected up to now: by the
    /// times at which a majority's positive answers were asked for, on <see cref="System.Diagnostics.Stopwatch"/> (R03, R04). Call it
    /// after the request arrived.
    /// </summary>
    bool HasLease(Term term);

    /// <summary>
    /// A read barrier: confirms with a majority, in a round begun after the call, that this replica leads in <paramref name="term"/>.
    /// </summary>
    /// <returns>The commit index to apply up to before serving; null: it does not lead in that term any more.</returns>
    ValueTask<LogIndex?> ConfirmLeadershipAsync(Term term, CancellationToken cancellationToken);

    /// <summary>Hands leadership to a member (or to the best one); gives up the lease first (R04). False: it did not happen in time.</summary>
    ValueTask<bool> TransferLeadershipAsync(ReplicaId? target, CancellationToken cancellationToken);

    /// <summary>Brings a replica that is no member yet level with the log, by a snapshot and entries; tries until the token ends.</summary>
    /// <returns>False: this replica does not lead in that term any more.</returns>
    ValueTask<bool> CatchUpAsync(Term term, RaftMember learner, CancellationToken cancellationToken);

    /// <summary>
    /// Adds or removes one member (R39), if this replica leads in <paramref name="term"/>: a new one is brought level first, and the change counts from its append. True:
    /// it is so, and committed. False: it is not, or not known: not the leader, another change is under way, or what is to be removed is the leader itself (hand
    /// over first) or the only member. May be asked again, also of another leader.
    /// </summary>
    ValueTask<bool> ChangeMemberAsync(Term term, RaftMember member, MemberChange change, CancellationToken cancellationToken);

    /// <summary>Everything up to <paramref name="index"/> is in the state machine's durable state: the log may drop it (R32).</summary>
    void ReleaseLog(LogIndex index);
}

/// <summary>What a group feeds: the replica above it. Calls come one at a time, in order; the next starts when the task of the last has ended.</summary>
internal interface IRaftStateMachine
{
    /// <summary>Index that the recovered state covers; asked for once, at start.</summary>
    LogIndex RecoveredIndex { get; }

    /// <summary>
    /// Committed entries in log order, without gaps, each exactly once per run, no-ops and configurations too. When the task ends they are
    /// applied, and <see cref="IRaftGroup.AppliedIndex"/> moves. An exception faults the group (<see cref="RaftStatus.Fault"/>).
    /// </summary>
    ValueTask ApplyAsync(ReadOnlyMemory<CommittedEntry> entries, CancellationToken cancellationToken);

    /// <summary>Role, term, leader, members or fault have changed. Must return quickly; may come while <see cref="ApplyAsync"/> runs (the one exception to "one at a time").</summary>
    void OnStatusChanged(RaftStatus status);

    /// <summary>
    /// Writes a consistent, flushed copy of the applied state for a follower that is behind the log: files into <paramref name="directory"/>
    /// (absent or empty).
    /// </summary>
    /// <returns>The index that the copy covers; at or below <see cref="IRaftGroup.AppliedIndex"/>.</returns>
    ValueTask<LogIndex> WriteSnapshotAsync(string directory, CancellationToken cancellationToken);

    /// <summary>Where the staged files of a new generation belong (R33); the caller fills it, flushes it and then records the generation.</summary>
    string GetGenerationDirectory(long generation);

    /// <summary>
    /// Replaces the whole state by the copy that lies, complete and flushed, in the directory of <paramref name="generation"/>. Called between two
    /// <see cref="ApplyAsync"/>, after the node log recorded the generation (the moment it counts); the state machine opens it and removes the others.
    /// </summary>
    ValueTask InstallSnapshotAsync(long generation, LogIndex index, CancellationToken cancellationToken);
}

/// <summary>Role of a replica in its group.</summary>
internal enum RaftRole
{
    /// <summary>Follows, or does not know whom to follow.</summary>
    Follower,

    /// <summary>Stands for election.</summary>
    Candidate,

    /// <summary>Leads in <see cref="RaftStatus.Term"/>. It serves only after an entry of that term is applied (R10).</summary>
    Leader,

    /// <summary>Does not take part any more; see <see cref="RaftStatus.Fault"/>.</summary>
    Stopped,
}

/// <summary>What a replica knows of its group. Immutable.</summary>
internal sealed record RaftStatus
{
    public required RaftRole Role { get; init; }

    public required Term Term { get; init; }

    /// <summary>The leader of <see cref="Term"/>; null where none is known.</summary>
    public ReplicaId? Leader { get; init; }

    /// <summary>Members by the configuration that counts now (from its append on).</summary>
    public required IReadOnlyList<RaftMember> Members { get; init; }

    /// <summary>Why the replica stopped serving (R35, a broken invariant); null while it is well.</summary>
    public Exception? Fault { get; init; }

    public bool IsLeader => Role == RaftRole.Leader;
}

/// <summary>A member of a group: a replica and the node that hosts it.</summary>
internal readonly record struct RaftMember(ReplicaId Replica, string NodeId);

/// <summary>What an entry is to the consensus.</summary>
internal enum RaftEntryKind : byte
{
    None = 0,

    /// <summary>A new leader's first entry; no payload.</summary>
    NoOp = 1,

    /// <summary>What <see cref="IRaftGroup.TryPropose"/> was given.</summary>
    Command = 2,

    /// <summary>A configuration (members); payload: <see cref="RaftConfiguration"/>.</summary>
    Configuration = 3,
}

/// <summary>An entry that a majority has. Its payload lives until the task of the call that carries it has ended.</summary>
internal readonly record struct CommittedEntry(LogIndex Index, Term Term, RaftEntryKind Kind, ReadOnlyMemory<byte> Payload);
