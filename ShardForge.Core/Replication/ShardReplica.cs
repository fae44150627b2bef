using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;
using ShardForge.Consensus;
using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

/// <summary>A shard's replica on this node: evaluates requests while it leads, proposes what they write, applies what is committed.</summary>
/// <remarks><code>
/// request → Reads  → (wait for registered writes) → engine
///         → Writes → registration and latch → oracle → evaluation → M → Proposals → IRaftGroup
///                                     IRaftGroup → Apply → engine → latch ends, caller continues
/// </code>
/// Concerns, in that order: <c>.Leadership</c> (terms, when it serves), <c>.Reads</c>, <c>.Scans</c>, <c>.Writes</c>, <c>.Evaluation</c>, <c>.Proposals</c>, <c>.Apply</c>,
/// <c>.Snapshots</c>; <c>.Locks</c> and <c>.Transactions</c> are commits over shards. What a leader keeps in memory is <see cref="LeaderState"/>, one per term.
/// <para>Threads: requests come from any; the group calls back one at a time, status changes at any moment. One gate guards the leader's state and the
/// proposals in flight; under it nothing is read, written or completed, and the group is not called. Engine reads run on the caller's thread.</para>
/// </remarks>
internal sealed partial class ShardReplica : IShardReplica, IRaftStateMachine, IAsyncDisposable
{
    private readonly ShardReplicaOptions _options;
    private readonly ReplicationRules _rules;
    private readonly ITimestampSource _timestamps;
    private readonly ShardResponses _responses;
    private readonly ReplicaLocks _locks;
    private readonly EndedOperations _ended = new();
    private readonly ILogger _logger;
    private readonly TaskCreationOptions _continuations;
    private readonly bool _checksClosed;     // off where a test broke a rule on purpose
    private readonly Lock _gate = new();
    private readonly CancellationTokenSource _stopping = new();

    private EngineHandle _engine;
    private IRaftGroup? _group;
    private volatile ShardShape _shape;
    private volatile LeaderState? _leader;
    private volatile Exception? _fault;
    private bool _disposed;

    private ShardReplica(ShardReplicaOptions options, EngineHandle engine)
    {
        _options = options;
        _rules = options.Rules;
        _checksClosed = Invariant.Enabled && options.Rules == ReplicationRules.All;
        _timestamps = options.Timestamps;
        _responses = new ShardResponses(options.Shard, options.NodeId);
        _logger = options.LoggerFactory.CreateLogger("ShardForge.Replication");
        _continuations = options.RunContinuationsInline ? TaskCreationOptions.None : TaskCreationOptions.RunContinuationsAsynchronously;
        _locks = new ReplicaLocks(options.TimeProvider, _continuations);
        _engine = engine;
        _shape = new ShardShape(options.Epoch, options.Slots, options.PartitionRule);
    }

    public ShardId Shard => _options.Shard;

    public ReplicaId Replica => _options.Replica;

    public RaftStatus Status => _group?.Status ?? s_detached;

    public bool IsServing => _fault is null && _leader is { IsServing: true };

    /// <summary>Why the replica stopped serving; null while it is well.</summary>
    public Exception? Fault => _fault;

    /// <summary>No write at or below it will come in an entry that is not applied here (R13).</summary>
    public Timestamp ClosedTimestamp => new(Interlocked.Read(ref _closed));

    /// <summary>Reads below it fail (R28).</summary>
    public Timestamp HistoryLimit => new(Interlocked.Read(ref _historyLimit));

    internal ShardReplicaOptions Options => _options;

    /// <summary>The present generation's engine.</summary>
    internal IStorageEngine Engine => _engine.Engine;

    /// <summary>Opens the generation that counts, removes the others, and reads how far it was applied.</summary>
    /// <exception cref="InvalidDataException">The engine's content is not what a replica writes.</exception>
    public static async ValueTask<ShardReplica> OpenAsync(ShardReplicaOptions options, CancellationToken cancellationToken = default)
    {
        ShardReplica replica = new(options, await OpenEngineAsync(options, options.Generation, cancellationToken).ConfigureAwait(false));
        try
        {
            replica.LoadState();
            RemoveOtherGenerations(options, options.Generation);
            return replica;
        }
        catch
        {
            await replica._engine.CloseAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Gives it the group that it proposes to; call it before the group starts to feed.</summary>
    public void Attach(IRaftGroup group)
    {
        Invariant.Require(_group is null);
        _group = group;
        OnStatusChanged(group.Status);
    }

    /// <summary>
    /// The shard's range or epoch has changed. Reads that began before and end after answer <see cref="ShardStatus.WrongShard"/>, and so do writes that are in no
    /// entry yet: what was evaluated under an epoch is appended under it (R11).
    /// </summary>
    public void Reshape(Epoch epoch, SlotRange slots)
    {
        ReleasedWaiters released = new();
        lock (_gate)
        {
            if (epoch <= _shape.Epoch)
                return;
            _shape = new ShardShape(epoch, slots, _options.PartitionRule);
            if (_leader is { } leader)
                RefuseQueuedLocked(leader, released);
        }

        released.Wake();
    }

    // Without a lock there is nothing to wait for; one that comes meanwhile is answered to the sender.
    public ValueTask<ShardResponse> ExecuteAsync(ShardRequest request, CancellationToken cancellationToken) =>
        _locks.IsEmpty ? ExecuteOnceAsync(request, cancellationToken) : WaitForLocksAsync(ExecuteOnceAsync(request, cancellationToken), request, cancellationToken);

    private ValueTask<ShardResponse> ExecuteOnceAsync(ShardRequest request, CancellationToken cancellationToken) => request switch
    {
        GetRequest { ReadAt: null } get => GetAsync(get, cancellationToken),
        GetRequest get => GetAtAsync(get, cancellationToken),
        ScanRequest scan => ScanAsync(scan, cancellationToken),
        WriteRequest write => WriteAsync(write, cancellationToken),
        ValidateRequest validate => ValidateAsync(validate, cancellationToken),
        TransactionRequest transaction => AnswerAsync(transaction, cancellationToken),
        PingRequest => PingAsync(cancellationToken),
        _ => throw new ArgumentException($"A request of type {request.GetType().Name} is none that a shard knows.", nameof(request)),
    };

    /// <summary>Ends the replica: whoever waits gets an answer, the engine is closed. Dispose the group first.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_disposed)
            return;
        _disposed = true;
        await _stopping.CancelAsync().ConfigureAwait(false);
        Stop(new ObjectDisposedException($"Shard {Shard} on {_options.NodeId}"));
        await EndTakeOversAsync().ConfigureAwait(false);
        await _engine.CloseAsync().ConfigureAwait(false);
        _stopping.Dispose();
    }

    // Whether the replica can look at a request at all; a wait for its own first entry (R10) is part of it.
    private async ValueTask<(LeaderState? Leader, ShardResponse? Refusal)> EnterAsync(CancellationToken cancellationToken)
    {
        LeaderState? leader = _leader;
        if (_fault is { } fault)
            return (null, _responses.Faulted(fault));
        if (leader is null || leader.IsLost)
            return (null, NotLeader());
        if (!leader.IsServing && !await leader.Serving.WaitAsync(cancellationToken).ConfigureAwait(false))
            return (null, _fault is { } later ? _responses.Faulted(later) : NotLeader());
        return (leader, null);
    }

    private async ValueTask<ShardResponse> PingAsync(CancellationToken cancellationToken)
    {
        (LeaderState? leader, ShardResponse? refusal) = await EnterAsync(cancellationToken).ConfigureAwait(false);
        if (leader is null)
            return refusal!;
        return await MayReadAsync(leader, cancellationToken).ConfigureAwait(false) ? new ShardResponse { Status = ShardStatus.Ok, Epoch = _shape.Epoch } : NotLeader();
    }

    private ShardResponse NotLeader() => _fault is { } fault ? _responses.Faulted(fault) : _responses.NotLeader(_group?.Status);

    // R08, R07: the lease, looked at after the request arrived; without it a round that confirms the leadership. A leader's applied state then has
    // everything that was acknowledged: writes of this term are acknowledged once they are applied here, earlier ones lie before the own first entry.
    private ValueTask<bool> MayReadAsync(LeaderState leader, CancellationToken cancellationToken)
    {
        if (!_rules.R08NeedsLease || _group!.HasLease(leader.Term))
            return new(result: true);
        return ConfirmAsync(leader, cancellationToken);
    }

    private async ValueTask<bool> ConfirmAsync(LeaderState leader, CancellationToken cancellationToken) =>
        await _group!.ConfirmLeadershipAsync(leader.Term, cancellationToken).ConfigureAwait(false) is not null;

    private bool TryEnterEngine([NotNullWhen(true)] out EngineHandle? engine)
    {
        // The handle is replaced at most once between two looks: by a snapshot, and then this replica does not lead.
        engine = Volatile.Read(ref _engine);
        if (engine.TryEnter())
            return true;
        engine = null;
        return false;
    }

    private ShardResponse? CheckKey(ShardShape shape, ShardRequest request, ReadOnlySpan<byte> key)
    {
        if (key.Length > _options.Limits.KeyBytesMax)
            throw new LimitExceededException($"Limits.{nameof(Limits.KeyBytesMax)}", _options.Limits.KeyBytesMax, key.Length);
        return request.Epoch == shape.Epoch && shape.Contains(key) ? null : _responses.WrongShard(shape.Epoch);
    }

    [LoggerMessage(EventId = 5001, Level = LogLevel.Information, Message = "Shard {Shard} on {Node}: serves in term {Term}, from timestamp {Timestamp}")]
    private static partial void LogServing(ILogger logger, ShardId shard, string node, Term term, Timestamp timestamp);

    [LoggerMessage(EventId = 5002, Level = LogLevel.Information, Message = "Shard {Shard} on {Node}: lost leadership of term {Term} to {Leader} in term {NewTerm}")]
    private static partial void LogLost(ILogger logger, ShardId shard, string node, Term term, ReplicaId? leader, Term newTerm);

    [LoggerMessage(EventId = 5003, Level = LogLevel.Error, Message = "Shard {Shard} on {Node}: the replica stopped")]
    private static partial void LogFault(ILogger logger, ShardId shard, string node, Exception fault);

    [LoggerMessage(EventId = 5004, Level = LogLevel.Warning, Message = "Shard {Shard} on {Node}: the disk is full, apply waits at index {Index}")]
    private static partial void LogStalled(ILogger logger, ShardId shard, string node, LogIndex index, Exception cause);

    [LoggerMessage(EventId = 5005, Level = LogLevel.Information, Message = "Shard {Shard} on {Node}: the disk has room again, apply goes on at index {Index}")]
    private static partial void LogResumed(ILogger logger, ShardId shard, string node, LogIndex index);

    [LoggerMessage(EventId = 5006, Level = LogLevel.Information, Message = "Shard {Shard} on {Node}: snapshot at index {Index} installed as generation {Generation}")]
    private static partial void LogInstalled(ILogger logger, ShardId shard, string node, LogIndex index, long generation);

    private static readonly RaftStatus s_detached = new() { Role = RaftRole.Follower, Term = default, Members = [] };
}

/// <summary>What a shard is responsible for. Immutable: a change is another object, so that a read can tell whether it happened meanwhile.</summary>
internal sealed class ShardShape(Epoch epoch, SlotRange slots, PartitionRule rule)
{
    public Epoch Epoch { get; } = epoch;

    public bool Contains(ReadOnlySpan<byte> key) => slots == SlotRange.All || slots.Contains(rule.SlotOf(key));
}
