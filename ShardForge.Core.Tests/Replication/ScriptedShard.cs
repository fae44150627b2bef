using Microsoft.Extensions.Time.Testing;
using ShardForge.Consensus;
using ShardForge.Consensus.Scripted;
using ShardForge.Replication;
using ShardForge.Storage;

namespace ShardForge.Tests.Replication;

/// <summary>One shard with three replicas on a scripted group, over engines in memory, with a clock that stands still.</summary>
internal sealed class ScriptedShard : IAsyncDisposable
{
    public const int ReplicaCount = 3;

    private ScriptedShard(ShardId shard, ScriptedOracle oracle, FakeTimeProvider time)
    {
        Oracle = oracle;
        Time = time;
        Group = new ScriptedCluster(shard, [.. Enumerable.Range(1, ReplicaCount).Select(number => new RaftMember(ReplicaOf(shard, number), $"n{number}"))], time);
    }

    public ScriptedOracle Oracle { get; }

    public FakeTimeProvider Time { get; }

    public ScriptedCluster Group { get; }

    public ShardReplica[] Replicas { get; } = new ShardReplica[ReplicaCount];

    /// <summary>The replica of node n1, n2 or n3.</summary>
    public ShardReplica this[int number] => Replicas[number - 1];

    public ShardReplica Leader => Replicas.First(replica => Group.Leader == replica.Options.Replica);

    public static ReplicaId ReplicaOf(ShardId shard, int number) => new((ulong)((shard.Value * 10) + number));

    /// <summary>Opens the replicas; n1 leads.</summary>
    public static async Task<ScriptedShard> OpenAsync(
        int shard = 1, ScriptedOracle? oracle = null, FakeTimeProvider? time = null, Func<ShardReplicaOptions, ShardReplicaOptions>? configure = null)
    {
        ScriptedShard opened = new(new ShardId(shard), oracle ?? new ScriptedOracle(), time ?? new FakeTimeProvider());
        for (int number = 1; number <= ReplicaCount; number++)
        {
            ShardReplicaOptions options = new()
            {
                Shard = opened.Group.Shard,
                Replica = ReplicaOf(opened.Group.Shard, number),
                NodeId = $"n{number}",
                StorageEngine = StorageEngines.InMemory(),
                Timestamps = opened.Oracle.CreateSource(),
                TimeProvider = opened.Time,
                RunContinuationsInline = true,
                LockWait = TimeSpan.Zero,
                ClosedLag = TimeSpan.Zero,
            };
            opened.Replicas[number - 1] = await ShardReplica.OpenAsync(configure is null ? options : configure(options));
            opened[number].Attach(opened.Group.Attach(options.Replica, opened[number]));
        }

        opened.Group.Elect(ReplicaOf(opened.Group.Shard, 1));
        return opened;
    }

    public async ValueTask DisposeAsync()
    {
        for (int number = 1; number <= ReplicaCount; number++)
        {
            await Group[this[number].Options.Replica].DisposeAsync();
            await this[number].DisposeAsync();
        }

        Group.Dispose();
    }
}
