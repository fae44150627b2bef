using System.Collections.Concurrent;
using ShardForge.Consensus.NodeLog;
using ShardForge.Network;

namespace ShardForge.Consensus;

/// <summary>All Raft groups of a node: opens them, and hands them what comes in over the link.</summary>
/// <remarks>
/// Entry type of the folder. On the way of a message: <see cref="IRaftLink"/> (<see cref="PeerRaftLink"/>), <see cref="RaftMessage"/>,
/// <see cref="DotNextRaftGroup"/>, <see cref="RaftCore"/> (the library), <see cref="RaftLog"/>; outgoing: <see cref="RaftPeer"/>.
/// <para>A message for a replica that is not here (never was, removed, not open yet) is answered so; it never is an error of the link.</para>
/// <para>Threads: safe for concurrent use. Disposing closes the groups that are still open.</para>
/// </remarks>
internal sealed class RaftNode : IRaftLinkHandler, IAsyncDisposable
{
    private readonly ConcurrentDictionary<ReplicaId, DotNextRaftGroup> _groups = new();
    private readonly ITimer _health;
    private readonly SnapshotFiles _snapshotFiles;
    private long _slackTicks;
    private int _disposed;

    public RaftNode(IRaftLink link, RaftNodeOptions options)
    {
        options.Validate();
        Link = link;
        Options = options;
        _snapshotFiles = new SnapshotFiles(options.FileSystem);
        link.Register(this);
        _health = TimeProvider.System.CreateTimer(static node => ((RaftNode)node!).CheckHealth(), this, options.HealthInterval, options.HealthInterval);
    }

    public IRaftLink Link { get; }

    public RaftNodeOptions Options { get; }

    public IEnumerable<IRaftGroup> Groups => _groups.Values;

    /// <summary>
    /// Added to how long replicas wait for a sign of their leader, a vote or an answer, while links are known to be slow. Leases do not grow with it: a leader
    /// trusts nothing but the shortest timeout (R04), so it may differ between nodes, come and go.
    /// </summary>
    public TimeSpan Slack
    {
        get => new(Volatile.Read(ref _slackTicks));
        set
        {
            Volatile.Write(ref _slackTicks, value.Ticks);
            foreach (DotNextRaftGroup group in _groups.Values)
                group.ApplySlack();
        }
    }

    /// <summary>Shortest time without a leader after which a replica stands for election, as links are now.</summary>
    internal TimeSpan Patience => Options.ElectionTimeoutLower + Slack;

    /// <summary>Longest; twice the slack, so that replicas do not meet in elections.</summary>
    internal TimeSpan PatienceMax => Options.ElectionTimeoutUpper + (2 * Slack);

    internal SnapshotFiles SnapshotFiles => _snapshotFiles;

    /// <summary>Opens a replica; from here on it takes part. Close it by disposing it, before its log and state machine.</summary>
    /// <param name="shard">Its group.</param>
    /// <param name="log">Its part of the node log; names the replica and its members. Stays the caller's.</param>
    /// <param name="stateMachine">Gets the committed entries. Stays the caller's.</param>
    /// <param name="options">What is special about it.</param>
    /// <param name="cancellationToken">Stops the opening.</param>
    /// <exception cref="CorruptionException">Log and state machine do not fit together.</exception>
    public async ValueTask<IRaftGroup> OpenGroupAsync(
        ShardId shard, IReplicaLog log, IRaftStateMachine stateMachine, RaftGroupOptions options, CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_disposed != 0, this);
        return await DotNextRaftGroup.OpenAsync(this, shard, log, stateMachine, options, cancellationToken).ConfigureAwait(false);
    }

    public ValueTask<PeerBuffer> HandleAsync(string from, ReadOnlyMemory<byte> message, CancellationToken cancellationToken)
    {
        if (!RaftMessage.TryReadHeader(message.Span, out RaftHeader header))
            return new(RaftMessage.Answer(message.Length > 1 ? (RaftMessageKind)message.Span[1] : RaftMessageKind.None, RaftAnswerCode.NotUnderstood, default));
        if (!_groups.TryGetValue(header.Target, out DotNextRaftGroup? group) || group.Shard != header.Shard || !group.MayHear(header, from))
            return new(RaftMessage.Answer(header.Kind, RaftAnswerCode.UnknownReplica, default));
        return group.HandleAsync(header, message[RaftMessage.HeaderBytes..], cancellationToken);
    }

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        await _health.DisposeAsync().ConfigureAwait(false);
        Task[] closing = [.. _groups.Values.Select(static group => group.DisposeAsync().AsTask())];
        await Task.WhenAll(closing).ConfigureAwait(false);
        _snapshotFiles.Dispose();
    }

    /// <summary>The node log failed: every replica on it stops and says why (R35).</summary>
    public void FailAll(Exception error)
    {
        foreach (DotNextRaftGroup group in _groups.Values)
            group.Stop(error);
    }

    internal void Add(DotNextRaftGroup group)
    {
        if (!_groups.TryAdd(group.LocalReplica, group))
            throw new InvalidOperationException($"Replica {group.LocalReplica} of shard {group.Shard} is open already.");
    }

    internal void Remove(DotNextRaftGroup group) => _groups.TryRemove(new KeyValuePair<ReplicaId, DotNextRaftGroup>(group.LocalReplica, group));

    /// <summary>An election timeout, by seed and replica; the library draws later ones itself.</summary>
    internal int DrawElectionTimeout(ReplicaId replica)
    {
        Random random = new(unchecked((Options.Seed * 397) ^ (int)replica.Value));
        return random.Next((int)Patience.TotalMilliseconds, (int)PatienceMax.TotalMilliseconds + 1);
    }

    private void CheckHealth()
    {
        foreach (DotNextRaftGroup group in _groups.Values)
            group.CheckHealth();
    }
}
