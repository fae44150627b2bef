using System.Diagnostics;
using HdrHistogram;

namespace ShardForge.Benchmarks.Replication;

/// <summary>What a caller does, again and again.</summary>
internal enum Operation
{
    Put,
    Get,
    Mixed,
}

/// <summary>A number of callers in a closed loop: each sends the next call when the last was answered.</summary>
/// <remarks>Keys are uniform over all. A caller gives its thread back now and then, also where its calls end at once: 256 of them are not 256 threads.</remarks>
internal sealed class Load(IClusterUnderTest cluster, int keyCount, int valueBytes)
{
    private const int CallsPerTurn = 32;
    private readonly byte[][] _keys = [.. Keys(keyCount)];

    public static IEnumerable<byte[]> Keys(int count) => Enumerable.Range(0, count).Select(static number => System.Text.Encoding.ASCII.GetBytes($"key-{number:D12}"));

    /// <summary>Writes every key once.</summary>
    public async Task FillAsync(int callers)
    {
        int next = -1;
        await Task.WhenAll(Enumerable.Range(0, callers).Select(async caller =>
        {
            await Task.Yield();
            byte[] value = new byte[valueBytes];
            for (int i = Interlocked.Increment(ref next); i < _keys.Length; i = Interlocked.Increment(ref next))
            {
                new Random(i).NextBytes(value);
                await cluster.PutAsync(caller, _keys[i], [.. value]);
            }
        }));
    }

    public async Task<LoadResult> RunAsync(Operation operation, int callers, TimeSpan warmUp, TimeSpan duration)
    {
        await RunOnceAsync(operation, callers, warmUp);
        GC.Collect();
        Usage before = cluster.Measure();
        int collections = GC.CollectionCount(0);
        long begun = Stopwatch.GetTimestamp();
        LongHistogram latencies = await RunOnceAsync(operation, callers, duration);
        TimeSpan elapsed = Stopwatch.GetElapsedTime(begun);
        return new(operation, callers, elapsed, latencies, before, cluster.Measure(), GC.CollectionCount(0) - collections);
    }

    private async Task<LongHistogram> RunOnceAsync(Operation operation, int callers, TimeSpan duration)
    {
        long end = Stopwatch.GetTimestamp() + (long)(duration.TotalSeconds * Stopwatch.Frequency);
        LongHistogram[] all = await Task.WhenAll(Enumerable.Range(0, callers).Select(caller => CallAsync(operation, caller, end)));
        LongHistogram sum = NewHistogram();
        foreach (LongHistogram one in all)
            sum.Add(one);
        return sum;
    }

    private async Task<LongHistogram> CallAsync(Operation operation, int caller, long end)
    {
        await Task.Yield();
        LongHistogram latencies = NewHistogram();
        Random random = new(caller * 7_919);
        byte[] value = new byte[valueBytes];
        random.NextBytes(value);
        long now = Stopwatch.GetTimestamp();
        for (int call = 1; now < end; call++)
        {
            byte[] key = _keys[random.Next(_keys.Length)];
            if (operation == Operation.Put || (operation == Operation.Mixed && (random.Next() & 1) == 0))
                await cluster.PutAsync(caller, key, value);
            else if (await cluster.GetAsync(caller, key) is null)
                throw new InvalidOperationException("A key that was written is not there.");
            long after = Stopwatch.GetTimestamp();
            latencies.RecordValue(Math.Max(1, (after - now) / 100));
            now = after;
            if (call % CallsPerTurn == 0)
            {
                await Task.Yield();
                now = Stopwatch.GetTimestamp();
            }
        }

        return latencies;
    }

    // In units of 100 ns, up to a minute.
    private static LongHistogram NewHistogram() => new(600_000_000, 3);
}

/// <summary>One line of the report.</summary>
internal sealed record LoadResult(Operation Operation, int Callers, TimeSpan Elapsed, LongHistogram Latencies, Usage Before, Usage After, int Collections)
{
    public double PerSecond => Latencies.TotalCount / Elapsed.TotalSeconds;

    public double Microseconds(double percentile) => Latencies.GetValueAtPercentile(percentile) / 10.0;

    public double CpuMicroseconds => (After.Cpu - Before.Cpu).TotalMicroseconds / Latencies.TotalCount;

    public double DiskBytes => (double)(After.DiskBytes - Before.DiskBytes) / Latencies.TotalCount;

    public double AllocatedBytes => (double)(After.AllocatedBytes - Before.AllocatedBytes) / Latencies.TotalCount;

    public static void PrintHead() =>
        Console.WriteLine($"{"",-12}{"operation",-10}{"callers",8}{"per s",10}{"p50 us",9}{"p99 us",9}{"p99.9 us",10}{"cpu us",8}{"disk B",8}{"alloc B",9}{"GCs",5}{"MiB",6}{"entries/s",11}{"flushes/s",11}");

    public void Print(string name) => Console.WriteLine(string.Create(System.Globalization.CultureInfo.InvariantCulture,
        $"{name,-12}{Operation,-10}{Callers,8}{PerSecond,10:#,0}{Microseconds(50),9:#,0.0}{Microseconds(99),9:#,0.0}{Microseconds(99.9),10:#,0.0}{CpuMicroseconds,8:0.0}{DiskBytes,8:#,0}{AllocatedBytes,9:#,0}{Collections,5}{After.MemoryBytes >> 20,6}{(After.Entries - Before.Entries) / Elapsed.TotalSeconds,11:#,0}{(After.Flushes - Before.Flushes) / Elapsed.TotalSeconds,11:#,0}"));
}
