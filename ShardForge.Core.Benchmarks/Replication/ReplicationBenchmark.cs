using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace ShardForge.Benchmarks.Replication;

/// <summary>Three replicated nodes under load, ours alone or with etcd in the same minute.</summary>
/// <remarks><code>
/// replication [--etcd[=BINARY]] [--seconds=3] [--runs=1] [--callers=1,16,64,256] [--operations=put,get,mixed] [--shards=8] [--failover=KILLS] [--idle] [--local]
/// </code>
/// Durable everywhere: a put is answered when two of three nodes have flushed it. Both systems are restarted after the load. CPU is of nodes and callers together; disk bytes
/// are the kernel's count (Linux); memory is of the nodes (ours: the process with callers). With several runs the median by throughput is shown, then the ratios.</remarks>
internal static class ReplicationBenchmark
{
    private const int KeyCount = 100_000, ValueBytes = 100;

    public static async Task<int> RunAsync(string[] args)
    {
        Dictionary<string, string> options = args.Select(static arg => arg.TrimStart('-').Split('=', 2)).ToDictionary(static parts => parts[0], static parts => parts.Length > 1 ? parts[1] : "");
        TimeSpan seconds = TimeSpan.FromSeconds(double.Parse(options.GetValueOrDefault("seconds", "3"), CultureInfo.InvariantCulture));
        int runs = int.Parse(options.GetValueOrDefault("runs", "1"), CultureInfo.InvariantCulture);
        int[] callers = [.. options.GetValueOrDefault("callers", "1,16,64,256").Split(',').Select(static text => int.Parse(text, CultureInfo.InvariantCulture))];
        Operation[] operations = [.. options.GetValueOrDefault("operations", "put,get,mixed").Split(',', StringSplitOptions.RemoveEmptyEntries).Select(static text => Enum.Parse<Operation>(text, ignoreCase: true))];
        int shards = int.Parse(options.GetValueOrDefault("shards", "8"), CultureInfo.InvariantCulture);
        Console.WriteLine($"{RuntimeInformation.OSDescription}, {RuntimeInformation.FrameworkDescription}, {Environment.ProcessorCount} processors; {KeyCount:N0} keys, {ValueBytes} bytes, {shards} shards");

        await using (ShardForgeUnderTest ours = new(shards))
        {
            long begun = Stopwatch.GetTimestamp();
            await ours.StartAsync();
            Console.WriteLine($"three nodes, embedded, empty: ready after {Stopwatch.GetElapsedTime(begun).TotalMilliseconds:0} ms");
            List<LoadResult> mine = await MeasureAsync(ours, operations, callers, runs, seconds);
            if (options.ContainsKey("local"))
                await MeasureLocalAsync(ours);
            if (options.ContainsKey("idle"))
                await MeasureIdleAsync(ours);
            if (int.Parse(options.GetValueOrDefault("failover", "0"), CultureInfo.InvariantCulture) is > 0 and int kills)
                await FailoverBenchmark.RunAsync(ours, kills);
            if (options.TryGetValue("etcd", out string? binary))
            {
                await using EtcdUnderTest etcd = new(binary.Length > 0 ? binary : "etcd");
                await etcd.StartAsync();
                PrintRatios(mine, await MeasureAsync(etcd, operations, callers, runs, seconds));
            }
        }

        return 0;
    }

    private static async Task<List<LoadResult>> MeasureAsync(IClusterUnderTest cluster, Operation[] operations, int[] callers, int runs, TimeSpan seconds)
    {
        List<LoadResult> results = [];
        if (operations.Length == 0)
            return results;
        Load load = new(cluster, KeyCount, ValueBytes);
        long begun = Stopwatch.GetTimestamp();
        await load.FillAsync(256);
        Console.WriteLine($"{cluster.Name}: loaded in {Stopwatch.GetElapsedTime(begun).TotalSeconds:0.0} s");
        await cluster.RestartAsync();
        LoadResult.PrintHead();
        foreach (Operation operation in operations)
        {
            foreach (int count in callers)
            {
                List<LoadResult> each = [];
                for (int run = 0; run < runs; run++)
                    each.Add(await load.RunAsync(operation, count, seconds / 4, seconds));
                LoadResult median = each.OrderBy(static result => result.PerSecond).ElementAt(runs / 2);
                median.Print(cluster.Name);
                results.Add(median);
            }
        }

        return results;
    }

    /// <summary>Gets on the node that leads, by one thread: a direct call.</summary>
    private static async Task MeasureLocalAsync(ShardForgeUnderTest cluster)
    {
        byte[][] keys = [.. Load.Keys(KeyCount).Where(key => cluster[0].Node.FindLeadership(key) is not null)];
        Random random = new(1);
        for (int round = 0; round < 3; round++)
        {
            int count = 0;
            long begun = Stopwatch.GetTimestamp(), allocated = GC.GetAllocatedBytesForCurrentThread();
            while (Stopwatch.GetElapsedTime(begun) < TimeSpan.FromSeconds(1))
            {
                for (int i = 0; i < 1_000; i++)
                {
                    ValueTask<byte[]?> value = cluster[0].GetAsync(keys[random.Next(keys.Length)]);
                    count += value.IsCompletedSuccessfully && value.Result is not null ? 1 : 0;
                    if (!value.IsCompletedSuccessfully)
                        await value;
                }
            }

            if (round == 2)
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"get on the leader, one thread: {count / Stopwatch.GetElapsedTime(begun).TotalSeconds:#,0} a second at once, {(double)(GC.GetAllocatedBytesForCurrentThread() - allocated) / Math.Max(1, count):0} bytes allocated each"));
        }
    }

    private static async Task MeasureIdleAsync(ShardForgeUnderTest cluster)
    {
        GC.Collect();
        await Task.Delay(TimeSpan.FromSeconds(2));
        Usage before = cluster.Measure();
        await Task.Delay(TimeSpan.FromSeconds(5));
        Usage after = cluster.Measure();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"idle: {(after.Cpu - before.Cpu).TotalSeconds / 5:P1} of a core, {(after.AllocatedBytes - before.AllocatedBytes) / 5 / 1024:N0} KiB allocated a second, {after.MemoryBytes / cluster.Count >> 20} MiB a node"));
    }

    private static void PrintRatios(List<LoadResult> ours, List<LoadResult> theirs)
    {
        Console.WriteLine($"{"ratios",-12}{"operation",-10}{"callers",8}{"throughput",12}{"p99",8}   (theirs / ours for p99)");
        foreach ((LoadResult our, LoadResult their) in ours.Zip(theirs))
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{"",-12}{our.Operation,-10}{our.Callers,8}{our.PerSecond / their.PerSecond,12:0.0}{their.Microseconds(99) / our.Microseconds(99),8:0.0}"));
    }
}
