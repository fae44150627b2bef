using Microsoft.Extensions.Time.Testing;
using ShardForge.Common;
using ShardForge.Mvcc;
using ShardForge.Replication;
using ShardForge.Routing;
using ShardForge.Tests.Replication;
using ShardForge.Transactions;

namespace ShardForge.Tests.Transactions;

/// <summary>A node's transactions over two shards on scripted groups, with a clock that stands still: the real coordinator, router, resolver and leaders.</summary>
internal sealed class TwoShards : IShardMapSource, ILocalReplicas, IShardLink, IAsyncDisposable
{
    private ulong _nextId;

    private TwoShards(ScriptedShard[] shards, FakeTimeProvider time)
    {
        Shards = shards;
        Time = time;
    }

    public ScriptedShard[] Shards { get; }

    public FakeTimeProvider Time { get; }

    public ScriptedOracle Oracle => Shards[0].Oracle;

    public ShardMap Current { get; } = new(1, PartitionRule.WholeKey,
    [
        new ShardRoute(new(1), new SlotRange(0, 0x7FFF), default, ["n1"]),
        new ShardRoute(new(2), new SlotRange(0x8000, ushort.MaxValue), default, ["n1"]),
    ]);

    public TransactionContext Context { get; private set; } = null!;

    /// <summary>Called before a request reaches its shard; may wait, or throw a <see cref="ShardLinkException"/>.</summary>
    public Func<ShardRequest, Task>? OnRequest { get; set; }

    public static async Task<TwoShards> OpenAsync(TransactionRules? rules = null, Func<ShardReplicaOptions, ShardReplicaOptions>? configure = null)
    {
        FakeTimeProvider time = new();
        ScriptedOracle oracle = new();
        oracle.AdvanceTo(new(100));
        ScriptedShard[] shards = new ScriptedShard[2];
        for (int i = 0; i < shards.Length; i++)
            shards[i] = await ScriptedShard.OpenAsync(i + 1, oracle, time, options => (configure?.Invoke(options) ?? options) with { RunContinuationsInline = false });
        TwoShards world = new(shards, time);
        world.Context = world.CreateContext(rules ?? TransactionRules.All);
        return world;
    }

    /// <summary>Another node's view of the same shards: it knows nothing of what this one did.</summary>
    public TransactionContext CreateContext(TransactionRules rules)
    {
        // No replica is local: every request goes over the link, so that a test can stand in its way.
        Router router = new(new RouterOptions { NodeId = "client", Maps = this, Replicas = this, Link = this, TimeProvider = TimeProvider.System, NextRandom = static () => 0.5 });
        TransactionContext context = new()
        {
            Router = router,
            Limits = Limits.Default,
            TimeProvider = TimeProvider.System,
            Timestamps = Oracle.CreateSource(),
            StartCall = (limit, token) => new Deadline(limit < TimeSpan.FromSeconds(20) ? limit : TimeSpan.FromSeconds(20), TimeProvider.System, token, CancellationToken.None),
            StartBackground = () => new Deadline(TimeSpan.FromSeconds(20), TimeProvider.System, CancellationToken.None, CancellationToken.None),
            IsLocal = static _ => false,
            NextId = () => new OperationId(7, Interlocked.Increment(ref _nextId)),
            NextRandom = static () => 0.5,
            Snapshots = new OpenSnapshots(),
            ThrowIfDisposed = static () => { },
            Rules = rules,
        };
        router.Locks = context.Resolver;
        return context;
    }

    /// <summary>The n-th key of a shard.</summary>
    public byte[] Key(int shard, int n = 0)
    {
        for (int i = 0, found = 0; ; i++)
        {
            byte[] key = Requests.Bytes($"k{i}");
            if (Current.Find(key).Shard.Value == shard && found++ == n)
                return key;
        }
    }

    public ShardCommit Commit(Timestamp start, params (byte[] Key, string Value)[] writes) => new(Context, Spec(start, writes));

    public CommitSpec Spec(Timestamp start, params (byte[] Key, string Value)[] writes) => new()
    {
        Id = Context.NextId(),
        Age = start,
        Start = start,
        Known = start,
        Writes = [.. writes.Select(static write => new KeyWrite(write.Key, Requests.Bytes(write.Value)))],
    };

    public async Task<string?> GetAsync(TransactionContext context, byte[] key, Timestamp? readAt = null)
    {
        using Deadline deadline = context.StartBackground();
        ShardResponse response = await context.Router.ReadAsync(
            new GetRequest { Shard = default, Epoch = default, Key = key, ReadAt = readAt }, static (request, map) => map.Find(request.Key.Span), deadline);
        return Requests.Text(response.Value);
    }

    public IReadOnlyList<HeldLock> Locks(int shard) => Shards[shard - 1].Leader.LocksSeenBefore(long.MaxValue);

    public async ValueTask<ShardResponse> SendAsync(string nodeId, ShardRequest request, bool mayRelay, TimeSpan timeout, CancellationToken cancellationToken)
    {
        if (OnRequest is { } handler)
            await handler(request);
        return await Shards[request.Shard.Value - 1].Leader.ExecuteAsync(request, cancellationToken);
    }

    IShardReplica? ILocalReplicas.Find(ShardId shard) => null;

    public async ValueTask<ShardMap> WaitForNewerAsync(ulong version, CancellationToken cancellationToken)
    {
        if (version >= Current.Version)
            await Task.Delay(Timeout.Infinite, cancellationToken);
        return Current;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (ScriptedShard shard in Shards)
            await shard.DisposeAsync();
    }
}
