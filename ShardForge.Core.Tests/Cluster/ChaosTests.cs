using System.Globalization;
using ShardForge.Storage;
using ShardForge.Testing;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>Clients on all nodes, faults by seed, and a check of everything that they were told.</summary>
/// <remarks>SHARDFORGE_SEEDS=n runs n seeds instead of a few; SHARDFORGE_SEED=n only that one.</remarks>
[Parallelizable(ParallelScope.All)]
public sealed class ChaosTests
{
    private const int Clients = 6, Keys = 8, FaultsPerRun = 6;

    /// <summary>Nothing here may hang; this is far above what a busy machine needs.</summary>
    private static readonly TimeSpan s_stepLimit = TimeSpan.FromSeconds(60);

    private static IEnumerable<int> Seeds()
    {
        if (int.TryParse(Environment.GetEnvironmentVariable("SHARDFORGE_SEED"), CultureInfo.InvariantCulture, out int only))
            return [only];
        int count = int.TryParse(Environment.GetEnvironmentVariable("SHARDFORGE_SEEDS"), CultureInfo.InvariantCulture, out int many) ? many : 4;
        return Enumerable.Range(1, count);
    }

    [Test]
    public async Task Single_keys_stay_linearizable_over_kills_power_cuts_partitions_and_delays([ValueSource(nameof(Seeds))] int seed)
    {
        Random random = new(seed);
        RegisterHistory history = new();
        List<string> events = [];
        using TestLog log = new();
        try
        {
            await RunAsync(seed, random, history, events, log);
        }
        catch
        {
            TestContext.Out.WriteLine($"seed {seed}: {history.Count} operations; {string.Join(", ", events)}");
            log.Print();
            throw;
        }
    }

    private static async Task RunAsync(int seed, Random random, RegisterHistory history, List<string> events, TestLog log)
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new()
        {
            Seed = seed,
            LoggerFactory = log,
            ShardCount = 3,
            Transport = seed % 2 == 0 ? TestTransport.Tcp : TestTransport.InMemory,
            StorageEngine = (seed % 4) switch { 0 => StorageEngines.Sqlite(), 1 => StorageEngines.InMemory(), _ => StorageEngines.Lsm() },
            OperationTimeout = TimeSpan.FromSeconds(2),
        });

        using CancellationTokenSource stop = new();
        Task[] clients = [.. Enumerable.Range(0, Clients).Select(client => Task.Run(() => ClientAsync(cluster, client, new Random((seed * 100) + client), history, static it => it.Next(3), stop.Token)))];
        for (int fault = 0; fault < FaultsPerRun; fault++)
        {
            int target = history.Count + random.Next(20, 150);
            await UntilAsync(() => history.Count >= target, $"operation {target} (seed {seed}; {string.Join(", ", events)})");
            int node = random.Next(3), other = (node + random.Next(1, 3)) % 3;
            switch (random.Next(6))
            {
                case 0:
                    Note(events, log, $"kill {node}");
                    await cluster.KillAsync(node).WaitAsync(s_stepLimit);
                    await ContinueAsync(history, random, events, seed);
                    await cluster.RestartAsync(node).WaitAsync(s_stepLimit);
                    break;
                case 1:
                    Note(events, log, $"power cut {node}");
                    await cluster.PowerCutAsync(node).WaitAsync(s_stepLimit);
                    await ContinueAsync(history, random, events, seed);
                    await cluster.RestartAsync(node).WaitAsync(s_stepLimit);
                    break;
                case 2:
                    Note(events, log, $"partition {node}");
                    cluster.Partition([node]);
                    await ContinueAsync(history, random, events, seed);
                    cluster.Heal();
                    break;
                case 3:
                    Note(events, log, $"block {node} to {other}");
                    cluster.BlockLink(node, other);
                    await ContinueAsync(history, random, events, seed);
                    cluster.Heal();
                    break;
                case 4:
                    Note(events, log, "all down");
                    await Task.WhenAll(Enumerable.Range(0, 3).Select(it => it == node ? cluster.KillAsync(it) : cluster.PowerCutAsync(it))).WaitAsync(s_stepLimit);
                    await Task.WhenAll(Enumerable.Range(0, 3).Select(it => cluster.RestartAsync(it))).WaitAsync(s_stepLimit);
                    break;
                default:
                    Note(events, log, $"delay, stop {node}");
                    cluster.DelayLinks(TimeSpan.FromMilliseconds(random.Next(1, 15)));
                    await cluster.StopAsync(node).WaitAsync(s_stepLimit);
                    await ContinueAsync(history, random, events, seed);
                    cluster.Heal();
                    await cluster.RestartAsync(node).WaitAsync(s_stepLimit);
                    break;
            }
        }

        await stop.CancelAsync();
        await Task.WhenAll(clients).WaitAsync(s_stepLimit);
        for (int key = 0; key < Keys; key++)
        {
            long start = history.Now();
            history.Get($"k{key}", Text(await cluster[key % 3].GetAsync(Bytes($"k{key}"))), start);
        }

        string? violation = history.FindViolation();
        Assert.That(violation, Is.Null, $"seed {seed}: {string.Join(", ", events)}");
        TestContext.Out.WriteLine($"seed {seed}: {history.Count} operations; {string.Join(", ", events)}");
    }

    [Test]
    public async Task Single_keys_stay_linearizable_while_nodes_join_leave_and_are_replaced([ValueSource(nameof(Seeds))] int seed)
    {
        Random random = new(seed * 7);
        RegisterHistory history = new();
        List<string> events = [];
        using TestLog log = new();
        try
        {
            await MoveAsync(seed, random, history, events, log);
        }
        catch
        {
            TestContext.Out.WriteLine($"seed {seed}: {history.Count} operations; {string.Join(", ", events)}");
            log.Print();
            throw;
        }
    }

    private static async Task MoveAsync(int seed, Random random, RegisterHistory history, List<string> events, TestLog log)
    {
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new()
        {
            Seed = seed,
            LoggerFactory = log,
            Nodes = seed % 2 == 0 ? 1 : 3,
            ShardCount = 3,
            StorageEngine = seed % 3 == 0 ? StorageEngines.InMemory() : StorageEngines.Lsm(),
            OperationTimeout = TimeSpan.FromSeconds(2),
        });

        // Members, whether they are up or not.
        List<int> members = [.. Enumerable.Range(0, cluster.Count)];
        int[] usable = [.. members];
        using CancellationTokenSource stop = new();
        Task[] clients = [.. Enumerable.Range(0, Clients).Select(client => Task.Run(() => ClientAsync(
            cluster, client, new Random((seed * 100) + client), history, it => Volatile.Read(ref usable) is var nodes ? nodes[it.Next(nodes.Length)] : 0, stop.Token)))];
        for (int step = 0; step < FaultsPerRun; step++)
        {
            await ContinueAsync(history, random, events, seed);
            int node = members[random.Next(members.Count)];
            int kind = random.Next(4);
            if (kind == 0 && members.Count < 5)
            {
                Note(events, log, "join");
                int added = await cluster.AddNodeAsync().WaitAsync(s_stepLimit);
                members.Add(added);
                Volatile.Write(ref usable, [.. members]);
            }
            else if (kind == 1 && members.Count > 3)
            {
                Note(events, log, $"remove {node}");
                members.Remove(node);
                Volatile.Write(ref usable, [.. members]);
                Task removal = cluster[members[0]].RemoveNodeAsync($"node-{node + 1}");
                if (random.Next(2) == 0)
                {
                    // A majority of each group stays up: one of four or more is killed, while another leaves.
                    int victim = members[^1];
                    await cluster.KillAsync(victim).WaitAsync(s_stepLimit);
                    await ContinueAsync(history, random, events, seed);
                    await cluster.RestartAsync(victim).WaitAsync(s_stepLimit);
                }

                await removal.WaitAsync(s_stepLimit);
                await cluster.KillAsync(node);
            }
            else if (kind == 2 && members.Count >= 3)
            {
                // Only where every group has its three: what is lost here must not be the only copy.
                Note(events, log, $"wipe {node}");
                int observer = members.First(other => other != node);
                string id = $"node-{node + 1}";
                await UntilAsync(() => Groups(cluster, observer).All(static group => group.Replicas.Count >= 3), "three replicas of everything");
                HashSet<long> lost = [.. Groups(cluster, observer).SelectMany(static group => group.Replicas).Where(replica => replica.NodeId == id).Select(static replica => replica.ReplicaId)];
                await cluster.KillAsync(node).WaitAsync(s_stepLimit);
                await cluster.WipeAsync(node);
                await cluster.RestartAsync(node).WaitAsync(s_stepLimit);
                await UntilAsync(
                    () => Groups(cluster, observer).All(group => group.Replicas.Count >= 3 && !group.Replicas.Any(replica => lost.Contains(replica.ReplicaId))),
                    $"the replicas of {id} to be replaced");
            }
            else
            {
                Note(events, log, $"kill {node}");
                await cluster.KillAsync(node).WaitAsync(s_stepLimit);
                await cluster.RestartAsync(node).WaitAsync(s_stepLimit);
            }
        }

        await stop.CancelAsync();
        await Task.WhenAll(clients).WaitAsync(s_stepLimit);
        for (int key = 0; key < Keys; key++)
        {
            long start = history.Now();
            history.Get($"k{key}", Text(await cluster[members[key % members.Count]].GetAsync(Bytes($"k{key}"))), start);
        }

        Assert.That(history.FindViolation(), Is.Null, $"seed {seed}: {string.Join(", ", events)}");
    }

    private static IEnumerable<ShardGroupStatus> Groups(ShardForgeTestCluster cluster, int node) =>
        cluster[node].GetStatus() is var status ? status.Shards.Append(status.Metadata!) : [];

    private static void Note(List<string> events, TestLog log, string what)
    {
        events.Add(what);
        log.Write($"==== {what}");
    }

    private static Task ContinueAsync(RegisterHistory history, Random random, List<string> events, int seed)
    {
        int target = history.Count + random.Next(10, 80);
        return UntilAsync(() => history.Count >= target, $"operation {target} (seed {seed}; {string.Join(", ", events)})");
    }

    private static async Task ClientAsync(ShardForgeTestCluster cluster, int client, Random random, RegisterHistory history, Func<Random, int> pick, CancellationToken stop)
    {
        for (int i = 0; !stop.IsCancellationRequested; i++)
        {
            string key = $"k{random.Next(Keys)}";
            string? value = random.Next(8) == 0 ? null : $"{client}/{i}";
            int kind = random.Next(10);
            long start = history.Now();
            try
            {
                ShardForgeCluster node = cluster[pick(random)];
                if (kind < 4)
                {
                    history.Get(key, Text(await node.GetAsync(Bytes(key), null, CancellationToken.None)), start);
                }
                else if (kind < 7)
                {
                    if (value is null)
                        await node.DeleteAsync(Bytes(key), null, CancellationToken.None);
                    else
                        await node.PutAsync(Bytes(key), Bytes(value), null, CancellationToken.None);
                    history.Put(key, value, start, isKnown: true);
                }
                else
                {
                    string? expected = Text(await node.GetAsync(Bytes(key), null, CancellationToken.None));
                    history.Get(key, expected, start);
                    start = history.Now();
                    bool won = await node.CompareAndSetAsync(Bytes(key), expected is null ? null : Bytes(expected), value is null ? null : Bytes(value), CancellationToken.None);
                    history.CompareAndSet(key, expected, value, start, won);
                }
            }
            catch (OutcomeUnknownException)
            {
                // A compare-and-set of unknown outcome is weaker than a put of unknown outcome: it is counted as one.
                history.Put(key, value, start, isKnown: false);
            }
            catch (Exception error) when (error is ShardForgeException { IsTransient: true } or ObjectDisposedException or InvalidOperationException)
            {
                // Nothing was written, or the node is down: another one is asked.
                await Task.Yield();
            }
        }
    }
}
