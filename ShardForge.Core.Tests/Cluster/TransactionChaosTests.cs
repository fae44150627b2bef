using System.Globalization;
using ShardForge.Storage;
using ShardForge.Testing;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>Transactions over shards from all nodes, faults by seed, and a check of everything that was read: list appends, transfers, batches.</summary>
/// <remarks>SHARDFORGE_SEEDS=n runs n seeds instead of a few; SHARDFORGE_SEED=n only that one.</remarks>
[Parallelizable(ParallelScope.All)]
public sealed class TransactionChaosTests
{
    private const int Clients = 6, Lists = 5, Accounts = 6, Pairs = 2, Balance = 100;
    private static readonly TimeSpan s_stepLimit = TimeSpan.FromSeconds(60);

    private static IEnumerable<int> Seeds()
    {
        if (int.TryParse(Environment.GetEnvironmentVariable("SHARDFORGE_SEED"), CultureInfo.InvariantCulture, out int only))
            return [only];
        int count = int.TryParse(Environment.GetEnvironmentVariable("SHARDFORGE_SEEDS"), CultureInfo.InvariantCulture, out int many) ? many : 2;
        return Enumerable.Range(1, count);
    }

    [Test]
    public async Task Transactions_stay_isolated_over_kills_power_cuts_partitions_and_delays([ValueSource(nameof(Seeds))] int seed)
    {
        Run run = new(seed);
        using TestLog log = new();
        try
        {
            await run.ExecuteAsync(log);
        }
        catch
        {
            TestContext.Out.WriteLine($"seed {seed}: {run.Describe()}");
            log.Print();
            throw;
        }

        TestContext.Out.WriteLine($"seed {seed}: {run.Describe()}");
    }

    private sealed class Run(int seed)
    {
        private readonly History _history = new();
        private readonly Random _random = new(seed);
        private readonly List<string> _events = [];
        private readonly IsolationLevel _isolation = seed % 2 == 0 ? IsolationLevel.Serializable : IsolationLevel.Snapshot;
        private long _done, _conflicts, _unknown;
        private ShardForgeTestCluster _cluster = null!;

        public string Describe() => $"{_history.Count} transactions {_isolation}, {_done} done, {_conflicts} transient errors, {_unknown} unknown; {string.Join(", ", _events)}";

        public async Task ExecuteAsync(TestLog log)
        {
            await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new()
            {
                Seed = seed,
                LoggerFactory = log,
                ShardCount = 4,
                Transport = seed % 3 == 0 ? TestTransport.Tcp : TestTransport.InMemory,
                StorageEngine = seed % 4 == 1 ? StorageEngines.InMemory() : StorageEngines.Lsm(),
                OperationTimeout = TimeSpan.FromSeconds(4),
            });
            _cluster = cluster;
            WriteBatch accounts = new();
            for (int i = 0; i < Accounts; i++)
                accounts.Put(Bytes($"account{i}"), BitConverter.GetBytes(Balance));
            await cluster[0].WriteAsync(accounts);

            using CancellationTokenSource stop = new();
            Task[] clients = [.. Enumerable.Range(0, Clients).Select(client => Task.Run(() => ClientAsync(client, new Random((seed * 100) + client), stop.Token)))];
            for (int fault = 0; fault < 5; fault++)
            {
                await ContinueAsync(_random.Next(10, 80));
                await FaultAsync(log);
            }

            await ContinueAsync(50);
            await stop.CancelAsync();
            await Task.WhenAll(clients).WaitAsync(s_stepLimit);
            HistoryTransaction last = _history.Begin();
            await using ShardForgeTransaction transaction = await cluster[0].BeginTransactionAsync();
            for (int i = 0; i < Lists; i++)
                last.Read($"list{i}", await ReadListAsync(transaction, i));
            await transaction.CommitAsync();
            last.Committed();
            await CheckSumAsync(cluster[0]);
            Assert.That(_history.FindViolation(_isolation), Is.Null);
        }

        private async Task FaultAsync(TestLog log)
        {
            int node = _random.Next(3), other = (node + _random.Next(1, 3)) % 3;
            int kind = _random.Next(6);
            string name = kind switch { 0 => $"kill {node}", 1 => $"power cut {node}", 2 => $"partition {node}", 3 => $"block {node} to {other}", 4 => "all down", _ => $"delay, stop {node}" };
            _events.Add(name);
            log.Write($"==== {name}");
            switch (kind)
            {
                case 0 or 1:
                    await (kind == 0 ? _cluster.KillAsync(node) : _cluster.PowerCutAsync(node)).WaitAsync(s_stepLimit);
                    await ContinueAsync(_random.Next(5, 40));
                    await _cluster.RestartAsync(node).WaitAsync(s_stepLimit);
                    break;
                case 2 or 3:
                    if (kind == 2)
                        _cluster.Partition([node]);
                    else
                        _cluster.BlockLink(node, other);
                    await ContinueAsync(_random.Next(5, 40));
                    _cluster.Heal();
                    break;
                case 4:
                    await Task.WhenAll(Enumerable.Range(0, 3).Select(it => it == node ? _cluster.KillAsync(it) : _cluster.PowerCutAsync(it))).WaitAsync(s_stepLimit);
                    await Task.WhenAll(Enumerable.Range(0, 3).Select(it => _cluster.RestartAsync(it))).WaitAsync(s_stepLimit);
                    break;
                default:
                    _cluster.DelayLinks(TimeSpan.FromMilliseconds(_random.Next(1, 10)));
                    await _cluster.StopAsync(node).WaitAsync(s_stepLimit);
                    await ContinueAsync(_random.Next(5, 40));
                    _cluster.Heal();
                    await _cluster.RestartAsync(node).WaitAsync(s_stepLimit);
                    break;
            }
        }

        private Task ContinueAsync(int operations)
        {
            long target = Interlocked.Read(ref _done) + operations;
            return UntilAsync(() => Interlocked.Read(ref _done) >= target, $"operation {target} (seed {seed}; {Describe()})");
        }

        private async Task ClientAsync(int client, Random random, CancellationToken stop)
        {
            for (int i = 0; !stop.IsCancellationRequested; i++)
            {
                HistoryTransaction? recorded = null;
                try
                {
                    ShardForgeCluster node = _cluster[random.Next(3)];
                    switch (random.Next(10))
                    {
                        case < 5:
                            recorded = _history.Begin();
                            await AppendAsync(node, recorded, random, $"{client}/{i}");
                            recorded.Committed();
                            break;
                        case < 8:
                            await TransferAsync(node, random);
                            break;
                        case 8:
                            int pair = random.Next(Pairs);
                            await node.WriteAsync(new WriteBatch().Put(Bytes($"pair{pair}/x"), Bytes($"{client}/{i}")).Put(Bytes($"pair{pair}/y"), Bytes($"{client}/{i}")), CancellationToken.None);
                            break;
                        default:
                            await CheckSumAsync(node);
                            break;
                    }

                    Interlocked.Increment(ref _done);
                }
                catch (OutcomeUnknownException)
                {
                    recorded?.Unknown();
                    Interlocked.Increment(ref _unknown);
                }
                catch (Exception error) when (error is ShardForgeException { IsTransient: true } or TransactionTimeoutException)
                {
                    recorded?.Aborted();
                    Interlocked.Increment(ref _conflicts);
                }
                catch (Exception error) when (error is ObjectDisposedException or InvalidOperationException)
                {
                    // The node is down; a commit in flight there says OutcomeUnknownException.
                    recorded?.Aborted();
                    await Task.Yield();
                }
            }
        }

        private async Task AppendAsync(ShardForgeCluster node, HistoryTransaction recorded, Random random, string element)
        {
            await using ShardForgeTransaction transaction = await node.BeginTransactionAsync(new TransactionOptions { Isolation = _isolation });
            int[] lists = [.. Enumerable.Range(0, Lists).OrderBy(_ => random.Next()).Take(1 + random.Next(3))];
            int appends = random.Next(3);
            for (int i = 0; i < lists.Length; i++)
            {
                List<string> list = await ReadListAsync(transaction, lists[i]);
                recorded.Read($"list{lists[i]}", list);
                if (i >= appends)
                    continue;
                recorded.Append($"list{lists[i]}", element);
                await transaction.PutAsync(Bytes($"list{lists[i]}"), Bytes(string.Join(',', list.Append(element))));
            }

            await transaction.CommitAsync();
        }

        private static async Task<List<string>> ReadListAsync(ShardForgeTransaction transaction, int list) =>
            Text(await transaction.GetAsync(Bytes($"list{list}"))) is { Length: > 0 } text ? [.. text.Split(',')] : [];

        private async Task TransferAsync(ShardForgeCluster node, Random random)
        {
            int from = random.Next(Accounts), to = (from + random.Next(1, Accounts)) % Accounts, amount = random.Next(10);
            await node.RunInTransactionAsync(
                async (transaction, token) =>
                {
                    int a = BitConverter.ToInt32((await transaction.GetAsync(Bytes($"account{from}"), null, token))!);
                    int b = BitConverter.ToInt32((await transaction.GetAsync(Bytes($"account{to}"), null, token))!);
                    await transaction.PutAsync(Bytes($"account{from}"), BitConverter.GetBytes(a - amount), null, token);
                    await transaction.PutAsync(Bytes($"account{to}"), BitConverter.GetBytes(b + amount), null, token);
                    return 0;
                },
                new TransactionOptions { Isolation = _isolation });
        }

        private static async Task CheckSumAsync(ShardForgeCluster node)
        {
            int sum = 0;
            await foreach (KeyValuePair<byte[], byte[]> entry in node.ScanAsync(KeyRange.Prefix(Bytes("account")), new ScanOptions { Reverse = true }))
                sum += BitConverter.ToInt32(entry.Value);
            Assert.That(sum, Is.EqualTo(Accounts * Balance));
            Dictionary<string, string> pairs = (await ScanAsync(node, KeyRange.Prefix(Bytes("pair")))).ToDictionary(entry => entry.Split('=')[0], entry => entry.Split('=')[1]);
            for (int pair = 0; pair < Pairs; pair++)
                Assert.That(pairs.GetValueOrDefault($"pair{pair}/x"), Is.EqualTo(pairs.GetValueOrDefault($"pair{pair}/y")));
        }
    }
}
