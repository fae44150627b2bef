using BenchmarkDotNet.Attributes;

namespace ShardForge.Benchmarks.KeyValue;

/// <summary>What a call on a single node costs, through the public surface. Writes are flushed before they are acknowledged; the disk decides.</summary>
/// <remarks>The baseline of both writes is the get: no consensus round, no flush.</remarks>
[MemoryDiagnoser]
public class SingleNodeBenchmarks
{
    private const int KeyCount = 10_000, ValueBytes = 256, CallerCount = 16;
    private readonly byte[][] _keys = [.. Enumerable.Range(0, KeyCount).Select(static number => System.Text.Encoding.UTF8.GetBytes($"key/{number:D8}"))];
    private readonly byte[] _value = new byte[ValueBytes];
    private readonly Task[] _callers = new Task[CallerCount];
    private ShardForgeCluster _db = null!;
    private string _directory = "";
    private int _next;

    /// <summary>Opens the node and fills it.</summary>
    [GlobalSetup]
    public async Task OpenAsync()
    {
        _directory = Directory.CreateTempSubdirectory("shardforge-bench-").FullName;
        new Random(1).NextBytes(_value);
        _db = await ShardForgeCluster.OpenAsync(new ShardForgeConfig { DataDirectory = _directory });
        await Parallel.ForEachAsync(_keys, async (key, cancellationToken) => await _db.PutAsync(key, _value, cancellationToken: cancellationToken));
    }

    /// <summary>Closes it and removes its files.</summary>
    [GlobalCleanup]
    public async Task CloseAsync()
    {
        await _db.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
    }

    /// <summary>One caller reads.</summary>
    [Benchmark(Baseline = true)]
    public async Task<byte[]?> Get() => await _db.GetAsync(NextKey());

    /// <summary>One caller writes; each write waits for a flush of its own.</summary>
    [Benchmark]
    public async Task Put_flushed_1_caller() => await _db.PutAsync(NextKey(), _value);

    /// <summary>Sixteen callers write at once and share flushes; the figure is that of one write.</summary>
    [Benchmark(OperationsPerInvoke = CallerCount)]
    public async Task Put_flushed_16_callers()
    {
        for (int caller = 0; caller < CallerCount; caller++)
            _callers[caller] = _db.PutAsync(NextKey(), _value).AsTask();
        await Task.WhenAll(_callers);
    }

    private byte[] NextKey() => _keys[_next = (_next + 7_919) % KeyCount];
}
