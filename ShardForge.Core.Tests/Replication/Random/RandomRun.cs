using ShardForge.Replication;

namespace ShardForge.Tests.Replication.Random;

/// <summary>One run of random clients against scripted shards: a seed decides every step, so the same seed gives the same run.</summary>
/// <remarks>
/// Everything that takes time in a cluster waits here until the run picks it: a message, an answer of the oracle, a commit, a delivery to a replica, that a deposed leader
/// learns of it. Between two picks everything runs to its next wait, on one thread.
/// </remarks>
internal sealed class RandomRun
{
    public const int ShardCount = 2, KeyCount = 3;
    private const int StepsMax = 20_000;

    private readonly System.Random _random;
    private readonly List<TaskCompletionSource> _messages = [];
    private readonly List<(int Shard, int Replica)> _undeposed = [];
    private readonly List<(CancellationTokenSource Token, Operation Operation)> _open = [];
    private readonly bool _hasFaults;

    // Several waits for one task are not all run inline; a wait with a token of its own is a task of its own.
    private readonly CancellationTokenSource _never = new();
    private readonly int _thread = Environment.CurrentManagedThreadId;
    private long _now;
    private bool _isDraining;

    private RandomRun(int seed)
    {
        _random = new System.Random(seed);
        _hasFaults = seed % 5 != 0;
    }

    public ScriptedOracle Oracle { get; } = new();

    public ScriptedShard[] Shards { get; } = new ScriptedShard[ShardCount];

    public List<Operation> Operations { get; } = [];

    public List<string> Trace { get; } = [];

    /// <returns>Null: the history keeps every promise; else what is wrong, with the operations.</returns>
    public static string? Execute(int seed, ReplicationRules? rules = null) => InlineContinuations.Run(() => ExecuteAsync(seed, rules));

    private static async Task<string?> ExecuteAsync(int seed, ReplicationRules? rules)
    {
        RandomRun run = new(seed);
        for (int shard = 0; shard < ShardCount; shard++)
        {
            run.Shards[shard] = await ScriptedShard.OpenAsync(shard + 1, run.Oracle, configure: options => options with
            {
                Rules = rules ?? ReplicationRules.All,
                EntriesInFlightMax = 1 + (seed % 3),
                ClosedLag = TimeSpan.Zero,
            });
        }

        try
        {
            string? wrong = run.Simulate();
            return wrong is null ? null : $"{wrong}\n  {string.Join("\n  ", run.Operations)}\n  --\n  {string.Join("\n  ", run.Trace)}";
        }
        finally
        {
            foreach (ScriptedShard shard in run.Shards)
                await shard.DisposeAsync();
        }
    }

    public int Next(int end) => _random.Next(end);

    public bool Chance(int percent) => _random.Next(100) < percent;

    public long Tick() => ++_now;

    public void Log(string line) => Trace.Add($"{_now,4} {line}");

    /// <summary>A message on its way.</summary>
    public Task MessageAsync()
    {
        // Whatever hops to another thread would make runs differ.
        if (Environment.CurrentManagedThreadId != _thread)
            throw new InvalidOperationException($"A continuation ran on another thread.{Environment.StackTrace}");
        TaskCompletionSource arrives = new();
        _messages.Add(arrives);
        return arrives.Task;
    }

    public Operation Begin(string what)
    {
        Operation operation = new(Operations.Count + 1, what) { Begin = Tick() };
        Operations.Add(operation);
        return operation;
    }

    /// <summary>A token that the run may cancel at any step, as a deadline would.</summary>
    public CancellationToken Deadline(Operation operation)
    {
        CancellationTokenSource source = new();
        _open.Add((source, operation));
        return source.Token;
    }

    private string? Simulate()
    {
        Oracle.Holds = true;
        foreach (ScriptedShard shard in Shards)
            shard.Group.HoldsCommits = true;
        List<Task> clients = [.. Enumerable.Range(0, 4).Select(number => new RandomClient(this, number).RunAsync(operationCount: 7))];
        int steps = 0;
        for (; !clients.TrueForAll(client => client.IsCompleted) && steps < StepsMax; steps++)
        {
            _isDraining |= steps > 1000;
            Step();
        }

        if (clients.Find(client => client.IsFaulted) is { } failed)
            return $"failed: {failed.Exception!.InnerException}";
        if (clients.Exists(client => !client.IsCompleted))
            return $"liveness: a client still waits after {steps} steps; {string.Join("; ", Shards.Select(Describe))}";

        // What is still in flight comes to its end, then the final state is read.
        _isDraining = true;
        for (int i = 0; i < 100; i++)
            Step();
        foreach (ScriptedShard shard in Shards)
        {
            foreach (ShardReplica replica in shard.Replicas)
                shard.Group[replica.Options.Replica].HoldsApplies = false;
            shard.Group.Commit();
        }

        return HistoryCheck.Run(Operations, FinalVersions()) ?? CompareReplicas();
    }

    private string Describe(ScriptedShard shard) =>
        $"shard {shard.Group.Shard}: term {shard.Group.Term}, {shard.Group.UncommittedCount} uncommitted of {shard.Group.CommitIndex}, {Oracle.AskingCount} ask, {_messages.Count} messages, " +
        string.Join(", ", shard.Replicas.Select(replica => $"{replica.Options.NodeId} applied {replica.AppliedIndex} {replica.Status.Role} of {replica.Status.Term} serving {replica.IsServing} {replica.Fault?.Message}"));

    private void Step()
    {
        int pick = Next(100);
        ScriptedShard shard = Shards[Next(ShardCount)];
        if (pick < 40)
            Deliver();
        else if (pick < 60)
            Oracle.Answer(1 + Next(3));
        else if (pick < 78)
            shard.Group.Commit(1 + Next(2));
        else if (pick < 88)
            Apply(shard);
        else if (pick < 93)
            Depose();
        else if (_hasFaults && pick < 94)
            Cancel();
        else if (_isDraining || !_hasFaults)
            shard.Group.Commit();
        else if (pick < 96)
            Elect(shard);
        else if (pick < 97)
            _ = shard.Leader.RaiseHistoryLimitAsync(new(Oracle.Last.Value > 6 ? Oracle.Last.Value - (ulong)Next(6) : 0), _never.Token).AsTask();
    }

    private void Deliver()
    {
        if (_messages.Count == 0)
            return;
        int at = Next(_messages.Count);
        TaskCompletionSource message = _messages[at];
        _messages.RemoveAt(at);
        message.SetResult();
    }

    private void Apply(ScriptedShard shard)
    {
        ShardReplica replica = shard.Replicas[Next(ScriptedShard.ReplicaCount)];
        shard.Group[replica.Options.Replica].HoldsApplies = !_isDraining && Chance(30);
    }

    private void Elect(ScriptedShard shard)
    {
        int shardNumber = shard.Group.Shard.Value, next = 1 + Next(ScriptedShard.ReplicaCount), kept = Next(4);
        ReplicaNumber(shard, out int leader);
        bool knows = Chance(40);
        Log($"shard {shardNumber}: n{next} is elected, {kept} entries are kept at most, n{leader} {(knows ? "knows" : "does not know")}");
        shard.Group.Elect(ScriptedShard.ReplicaOf(shard.Group.Shard, next), kept, deposeOthers: knows);
        if (!knows && leader != next)
            _undeposed.Add((shardNumber - 1, leader));
    }

    private static void ReplicaNumber(ScriptedShard shard, out int leader) => leader = (int)(shard.Group.Leader!.Value.Value % 10);

    private void Depose()
    {
        if (_undeposed.Count == 0 || (!_isDraining && Chance(80)))
            return;
        (int shard, int replica) = _undeposed[0];
        _undeposed.RemoveAt(0);
        ReplicaNumber(Shards[shard], out int leader);
        if (leader == replica)
            return;
        Log($"shard {shard + 1}: n{replica} learns that it does not lead");
        Shards[shard].Group.Depose(ScriptedShard.ReplicaOf(Shards[shard].Group.Shard, replica));
    }

    private void Cancel()
    {
        if (_open.Count == 0)
            return;
        int at = Next(_open.Count);
        (CancellationTokenSource token, Operation operation) = _open[at];
        _open.RemoveAt(at);
        if (operation.End == 0)
            token.Cancel();
    }

    private Dictionary<ShardKey, List<FinalVersion>> FinalVersions() => FinalVersions(shard => shard.Leader);

    private Dictionary<ShardKey, List<FinalVersion>> FinalVersions(Func<ScriptedShard, ShardReplica> replicaOf)
    {
        Dictionary<ShardKey, List<FinalVersion>> versions = [];
        foreach (ScriptedShard shard in Shards)
            FinalState.Read(replicaOf(shard).Engine, shard.Group.Shard.Value, versions);
        return versions;
    }

    private string? CompareReplicas()
    {
        string expected = Show(FinalVersions());
        for (int number = 1; number <= ScriptedShard.ReplicaCount; number++)
        {
            int replica = number;
            if (Show(FinalVersions(shard => shard[replica])) != expected)
                return $"replica n{replica} differs";
        }

        return null;

        static string Show(Dictionary<ShardKey, List<FinalVersion>> versions) =>
            string.Join(';', versions.OrderBy(entry => entry.Key.ToString(), StringComparer.Ordinal).Select(entry => $"{entry.Key}:{string.Join(',', entry.Value)}"));
    }
}
