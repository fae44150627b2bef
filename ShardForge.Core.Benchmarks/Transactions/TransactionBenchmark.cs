using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using ShardForge.Testing;

namespace ShardForge.Benchmarks.Transactions;

/// <summary>Committed transactions a second of two reads and two writes (a transfer), flushed on a majority: in one shard, over shards, contended; 1, 16 and 64 callers.</summary>
/// <remarks>Three nodes in this process, linked over TCP on the loopback, on real files. Each figure is one run; the sum over all keys is checked after each.</remarks>
internal static class TransactionBenchmark
{
    private const int Keys = 2_000, ContendedKeys = 10, ShardCount = 8;
    private static readonly TimeSpan s_warmUp = TimeSpan.FromSeconds(1), s_run = TimeSpan.FromSeconds(4);

    public static async Task<int> RunAsync()
    {
        Console.WriteLine($"{RuntimeInformation.OSDescription}, {RuntimeInformation.FrameworkDescription}, {Environment.ProcessorCount} processors");
        Console.WriteLine($"{"",-34} {"callers",8} {"commits/s",10} {"runs/commit",12} {"p50 ms",8} {"p99 ms",8} {"KiB/commit",11}");
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(new ShardForgeTestClusterOptions { Transport = TestTransport.Tcp, ShardCount = ShardCount });
        ShardForgeCluster node = cluster[0];
        for (int i = 0; i < Keys; i += 100)
        {
            WriteBatch batch = new();
            for (int j = i; j < i + 100; j++)
                batch.Put(Key(j), Number(0));
            await node.WriteAsync(batch);
        }

        await MeasureAsync(node, "in one shard", Keys, sameShard: true, [1, 16, 64]);
        await MeasureAsync(node, "over shards", Keys, sameShard: false, [1, 16, 64]);
        await MeasureAsync(node, $"over shards, {ContendedKeys} keys", ContendedKeys, sameShard: false, [16, 64]);
        return 0;
    }

    private static async Task MeasureAsync(ShardForgeCluster node, string name, int keys, bool sameShard, int[] callers)
    {
        // Keys by shard, as the default rule places them.
        Dictionary<int, int[]> byShard = Enumerable.Range(0, keys).GroupBy(static key => PartitionOf(key)).ToDictionary(static group => group.Key, static group => group.ToArray());
        foreach (int count in callers)
        {
            await RunAsync(node, keys, sameShard, byShard, count, s_warmUp);
            long allocated = GC.GetTotalAllocatedBytes();
            (long commits, long runs, List<double> milliseconds, double seconds) = await RunAsync(node, keys, sameShard, byShard, count, s_run);
            allocated = GC.GetTotalAllocatedBytes() - allocated;
            milliseconds.Sort();
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{name,-34} {count,8} {commits / seconds,10:0} {(double)runs / commits,12:0.00} {milliseconds[milliseconds.Count / 2],8:0.00} {milliseconds[milliseconds.Count * 99 / 100],8:0.00} {allocated / 1024.0 / commits,11:0.0}"));
            long sum = 0;
            await foreach (KeyValuePair<byte[], byte[]> entry in node.ScanAsync(KeyRange.Prefix("account"u8.ToArray())))
                sum += BinaryPrimitives.ReadInt64LittleEndian(entry.Value);
            if (sum != 0)
                throw new InvalidOperationException($"The sum over all accounts is {sum}.");
        }
    }

    private static async Task<(long Commits, long Runs, List<double> Milliseconds, double Seconds)> RunAsync(
        ShardForgeCluster node, int keys, bool sameShard, Dictionary<int, int[]> byShard, int callers, TimeSpan length)
    {
        long commits = 0, runs = 0;
        List<double> milliseconds = [];
        Stopwatch watch = Stopwatch.StartNew();
        await Task.WhenAll(Enumerable.Range(0, callers).Select(caller => Task.Run(async () =>
        {
            Random random = new(caller);
            List<double> own = [];
            while (watch.Elapsed < length)
            {
                (int from, int to) = Pick(random, keys, sameShard, byShard);
                long begun = Stopwatch.GetTimestamp();
                await node.RunInTransactionAsync(
                    async (transaction, token) =>
                    {
                        Interlocked.Increment(ref runs);
                        long a = BinaryPrimitives.ReadInt64LittleEndian(await transaction.GetAsync(Key(from), null, token));
                        long b = BinaryPrimitives.ReadInt64LittleEndian(await transaction.GetAsync(Key(to), null, token));
                        await transaction.PutAsync(Key(from), Number(a - 1), null, token);
                        await transaction.PutAsync(Key(to), Number(b + 1), null, token);
                        return 0;
                    },
                    new TransactionOptions { MaxAttempts = int.MaxValue });
                own.Add(Stopwatch.GetElapsedTime(begun).TotalMilliseconds);
                Interlocked.Increment(ref commits);
            }

            lock (milliseconds)
                milliseconds.AddRange(own);
        })));
        return (commits, runs, milliseconds, watch.Elapsed.TotalSeconds);
    }

    private static (int From, int To) Pick(Random random, int keys, bool sameShard, Dictionary<int, int[]> byShard)
    {
        while (true)
        {
            int from = random.Next(keys);
            int[] own = byShard[PartitionOf(from)];
            int to = sameShard ? own[random.Next(own.Length)] : random.Next(keys);
            if (from != to && (sameShard || PartitionOf(from) != PartitionOf(to)))
                return (from, to);
        }
    }

    private static int PartitionOf(int key) => (int)(System.IO.Hashing.XxHash3.HashToUInt64(Key(key)) >> 48) * ShardCount / 65_536;

    private static byte[] Key(int key) => System.Text.Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"account{key:00000}"));

    private static byte[] Number(long number)
    {
        byte[] bytes = new byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, number);
        return bytes;
    }
}
