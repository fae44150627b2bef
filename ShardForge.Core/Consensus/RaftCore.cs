using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.CompilerServices;
using DotNext.IO.Log;
using DotNext.Net.Cluster;
using DotNext.Net.Cluster.Consensus.Raft;
using LibraryTimestamp = DotNext.Diagnostics.Timestamp;

namespace ShardForge.Consensus;

/// <summary>The consensus library's group: makes what it protects callable, and knows three of its fields.</summary>
/// <remarks>
/// <para>The receiving verbs take the library's transition lock through our log's append and flush; the library calls members and log under it too. So
/// nothing in here may be called from inside a log method, and no callback may wait.</para>
/// <para>The fields: <c>electionTimeout</c> (also the time a candidate gives a vote, and how long a heard leader is protected),
/// <c>electionTimeoutProvider</c> (what later ones are drawn from, and heartbeats are a part of) and <c>lastUpdated</c> (when a leader was heard). With
/// them a chosen replica stands for election at once, and all are more patient while links are slow. Safety does not depend on them: terms, votes
/// and logs decide. Where the names are gone, <see cref="CanSteer"/> is false and the caller does without.</para>
/// </remarks>
internal sealed class RaftCore : RaftCluster<RaftPeer>
{
    [SetsRequiredMembers]
    public RaftCore(RaftNodeOptions options, RaftLog log) : base(new Configuration(options)) => AuditTrail = log;

    /// <summary>Whether the library's fields are where this build expects them.</summary>
    public static bool CanSteer { get; } = HasField("electionTimeout", typeof(int))
        && HasField("electionTimeoutProvider", typeof(ElectionTimeout)) && HasField("lastUpdated", typeof(LibraryTimestamp));

    /// <summary>Milliseconds until this replica stands for election; see the class.</summary>
    public int ElectionTimeoutMilliseconds
    {
        get => Volatile.Read(ref Fields.ElectionTimeout(this));
        set => Volatile.Write(ref Fields.ElectionTimeout(this), value);
    }

    /// <summary>What the library draws the next election timeouts from; an election that is under way keeps its own.</summary>
    public void SetElectionTimeouts(TimeSpan lower, TimeSpan upper) =>
        Fields.ElectionTimeoutProvider(this) = new ElectionTimeout { LowerValue = (int)lower.TotalMilliseconds, UpperValue = (int)upper.TotalMilliseconds };

    /// <summary>As if no leader had been heard for long: this replica may vote at once.</summary>
    public void ForgetLeaderContact() => LibraryTimestamp.VolatileWrite(ref Fields.LastUpdated(this), default);

    public async Task OpenAsync(IEnumerable<RaftPeer> members, CancellationToken cancellationToken)
    {
        ConfigurationChangeScope scope = await ChangeConfigurationAsync(cancellationToken).ConfigureAwait(false);
        foreach (RaftPeer member in members)
            scope.MarkAsAdded(member);
        await scope.DisposeAsync().ConfigureAwait(false);
        await StartAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Changes the members, by what is worked out under the library's lock.</summary>
    public async Task SwitchMembersAsync(Func<(IReadOnlyList<RaftPeer> Added, IReadOnlyList<RaftPeer> Removed)> workOut, CancellationToken cancellationToken)
    {
        ConfigurationChangeScope scope = await ChangeConfigurationAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            (IReadOnlyList<RaftPeer> added, IReadOnlyList<RaftPeer> removed) = workOut();
            foreach (RaftPeer member in removed)
                scope.MarkAsRemoved(member);
            foreach (RaftPeer member in added)
                scope.MarkAsAdded(member);
        }
        finally
        {
            await scope.DisposeAsync().ConfigureAwait(false);       // gives the lock back
        }
    }

    /// <summary>Starts the election timer (or, alone in the group, leads).</summary>
    public void Follow() => StartFollowing();

    public ValueTask<Result<bool>> OnVoteAsync(ReplicaId sender, Term term, LogIndex lastIndex, Term lastTerm, CancellationToken cancellationToken) =>
        VoteAsync(RaftMemberId.FromReplica(sender), term.Value, lastIndex.Value, lastTerm.Value, stateVersion: 0, cancellationToken);

    /// <summary>The library's callee wants the term after the sender's.</summary>
    public ValueTask<Result<PreVoteResult>> OnPreVoteAsync(ReplicaId sender, Term term, LogIndex lastIndex, Term lastTerm, CancellationToken cancellationToken) =>
        PreVoteAsync(RaftMemberId.FromReplica(sender), term.Value + 1, lastIndex.Value, lastTerm.Value, stateVersion: 0, cancellationToken);

    public ValueTask<Result<ReplicationStatus>> OnAppendAsync(
        ReplicaId sender, Term term, ILogEntryProducer<RaftLogEntry> entries, LogIndex previous, Term previousTerm, LogIndex commit, CancellationToken cancellationToken) =>
        AppendEntriesAsync(RaftMemberId.FromReplica(sender), term.Value, entries, previous.Value, previousTerm.Value, commit.Value, stateVersion: 0, cancellationToken);

    /// <summary>A sign of life from the leader that says nothing about the log.</summary>
    public ValueTask<Result<ReplicationStatus>> OnHeartbeatAsync(ReplicaId sender, Term term, CancellationToken cancellationToken) =>
        OnAppendAsync(sender, term, ILogEntryProducer<RaftLogEntry>.Empty, default, default, default, cancellationToken);

    public ValueTask<Result<HeartbeatResult>> OnSnapshotAsync(ReplicaId sender, Term term, RaftSnapshot snapshot, CancellationToken cancellationToken) =>
        InstallSnapshotAsync(RaftMemberId.FromReplica(sender), term.Value, snapshot, snapshot.Index.Value, stateVersion: 0, cancellationToken);

    public new ValueTask<bool> ResignAsync(CancellationToken cancellationToken) => base.ResignAsync(cancellationToken);

    /// <summary>Starts the next round of replication at once, if this replica leads; calls coalesce.</summary>
    /// <remarks>What the library calls synchronise sets the same event as its ForceReplicationAsync, without a waiter per call.</remarks>
    public void Kick()
    {
        ValueTask<long?> kicked = SynchronizeAsync(-1, CancellationToken.None);
        Invariant.Check(kicked.IsCompleted);
        if (!kicked.IsCompletedSuccessfully)
            _ = kicked.AsTask().Exception;      // disposed under our feet: nobody leads here any more
    }

    private static bool HasField(string name, Type type) =>
        typeof(RaftCluster<RaftPeer>).GetField(name, BindingFlags.Instance | BindingFlags.NonPublic)?.FieldType == type;

    private static class Fields
    {
        [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "electionTimeout")]
        public static extern ref int ElectionTimeout(RaftCluster<RaftPeer> cluster);

        [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "electionTimeoutProvider")]
        public static extern ref ElectionTimeout ElectionTimeoutProvider(RaftCluster<RaftPeer> cluster);

        [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "lastUpdated")]
        public static extern ref LibraryTimestamp LastUpdated(RaftCluster<RaftPeer> cluster);
    }

    private sealed class Configuration(RaftNodeOptions options) : IClusterMemberConfiguration
    {
        public double HeartbeatThreshold => options.HeartbeatFraction;

        public ElectionTimeout ElectionTimeout { get; } = new()
        {
            LowerValue = (int)options.ElectionTimeoutLower.TotalMilliseconds,
            UpperValue = (int)options.ElectionTimeoutUpper.TotalMilliseconds,
        };

        public bool Standby => false;

        // A live leader vetoes pre-votes, so a member that lost only its own link to it cannot disturb the others.
        public bool AggressiveLeaderStickiness => true;

        public bool IsLeaderLeaseEnabled => false;
    }
}
