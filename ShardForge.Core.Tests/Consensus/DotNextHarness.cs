using System.Diagnostics;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus;

namespace ShardForge.Tests.Consensus;

/// <summary>Replicas on DotNext: a node each, in one process, over links, logs and files in memory. Time is real.</summary>
internal sealed class DotNextHarness : RaftGroupHarness
{
    public static readonly ShardId Shard = new(7);
    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(20);
    private readonly Replica[] _replicas;

    private DotNextHarness(int count, int members, RaftNodeOptions? options)
    {
        Options = options ?? CreateOptions();
        Configuration = new([.. Enumerable.Range(0, members).Select(static replica => new RaftMember(IdOf(replica), NodeOf(replica)))]);
        _replicas = [.. Enumerable.Range(0, count).Select(replica => new Replica
        {
            Log = new MemoryReplicaLog(IdOf(replica), Configuration),
            Machine = new RecordingStateMachine(Options.FileSystem, $"/shards/{replica}"),
        })];
    }

    public RaftLinkHub Hub { get; } = new();

    public RaftNodeOptions Options { get; }

    public RaftConfiguration Configuration { get; }

    public override int Count => _replicas.Length;

    public static RaftNodeOptions CreateOptions() => new()
    {
        ElectionTimeoutLower = TimeSpan.FromMilliseconds(100),
        ElectionTimeoutUpper = TimeSpan.FromMilliseconds(200),
        HealthInterval = TimeSpan.FromMilliseconds(50),
        TemporaryDirectory = "/tmp-snapshots",
        FileSystem = new InMemoryFileSystem(),
    };

    /// <summary>Opens all replicas, as at formation.</summary>
    /// <param name="count">How many replicas there are.</param>
    /// <param name="preferredLeader">Stands for election at once.</param>
    /// <param name="options">Null: those of <see cref="CreateOptions"/>.</param>
    /// <param name="start">Whether the members are opened.</param>
    /// <param name="members">How many of them, the first ones, are members from the start; null: all. The others are opened by hand.</param>
    public static async Task<DotNextHarness> CreateAsync(int count, int preferredLeader = -1, RaftNodeOptions? options = null, bool start = true, int? members = null)
    {
        DotNextHarness harness = new(count, members ?? count, options);
        for (int replica = 0; start && replica < (members ?? count); replica++)
            await harness.OpenAsync(replica, new RaftGroupOptions { IsNew = true, IsPreferredFirstLeader = replica == preferredLeader });
        return harness;
    }

    public static string NodeOf(int replica) => $"n{replica}";

    public MemoryReplicaLog Log(int replica) => _replicas[replica].Log;

    public RaftNode Node(int replica) => _replicas[replica].Node!;

    public async Task OpenAsync(int replica, RaftGroupOptions options)
    {
        Replica it = _replicas[replica];
        it.Node = new RaftNode(Hub.CreateLink(NodeOf(replica)), Options);
        it.Group = await it.Node.OpenGroupAsync(Shard, it.Log, it.Machine, options);
    }

    public override IRaftGroup? TryGroup(int replica) => _replicas[replica].Group;

    public override RecordingStateMachine Machine(int replica) => _replicas[replica].Machine;

    public override void Cut(int left, int right) => Hub.Cut(NodeOf(left), NodeOf(right));

    public override void Heal() => Hub.Heal();

    public override async ValueTask KillAsync(int replica)
    {
        Replica it = _replicas[replica];
        Hub.Remove(NodeOf(replica));
        it.Group = null;
        if (it.Node is { } node)
            await node.DisposeAsync();
        it.Node = null;
        it.Log.Crash();
        it.Machine.Recover(it.Log.Generation);
    }

    public override async ValueTask RestartAsync(int replica) => await OpenAsync(replica, new RaftGroupOptions());

    public override async ValueTask WaitUntilAsync(Func<bool> condition, string what)
    {
        long start = Stopwatch.GetTimestamp();
        while (!condition())
        {
            if (Stopwatch.GetElapsedTime(start) > s_deadline)
                Assert.Fail($"Waited {s_deadline.TotalSeconds} s in vain for {what}.\n{Describe()}");
            await Task.Delay(1);
        }
    }

    public override async ValueTask WaitElectionAsync() => await Task.Delay(Options.ElectionTimeoutUpper * 2);

    public override async ValueTask DisposeAsync()
    {
        foreach (Replica replica in _replicas)
            replica.Log.ReleaseFlushes();
        await Task.WhenAll(_replicas.Select(static replica => replica.Node?.DisposeAsync().AsTask() ?? Task.CompletedTask));
    }

    public string Describe() => string.Join('\n', _replicas.Select((replica, i) =>
        $"{NodeOf(i)}: {replica.Group?.Status.ToString() ?? "down"}; last {replica.Log.LastIndex} durable {replica.Log.DurableIndex} term {replica.Log.Term} " +
        $"commit {replica.Group?.CommitIndex} applied {replica.Group?.AppliedIndex}"));

    private sealed class Replica
    {
        public required MemoryReplicaLog Log { get; init; }

        public required RecordingStateMachine Machine { get; init; }

        public RaftNode? Node { get; set; }

        public IRaftGroup? Group { get; set; }
    }
}
