using System.Buffers.Binary;
using System.Security.Cryptography;

namespace ShardForge;

/// <summary>All randomness of a node, from one seed, so that a test can have it again. Safe for concurrent use.</summary>
/// <remarks>Ids must be unique over all nodes and runs: without a seed they come from the system's generator; a test gives every run of every node a seed of its own.</remarks>
internal sealed class SeededRandom
{
    private readonly Lock _gate = new();
    private readonly Random? _seeded;
    private readonly Random _random;
    private readonly ulong _run;
    private ulong _lastOperation;

    public SeededRandom(int? seed)
    {
        _seeded = seed is { } given ? new Random(given) : null;
        _random = _seeded ?? new Random(RandomNumberGenerator.GetInt32(int.MaxValue));
        Span<byte> run = stackalloc byte[sizeof(ulong)];
        FillUnique(run);
        _run = BinaryPrimitives.ReadUInt64LittleEndian(run) | 1;
    }

    public double NextDouble()
    {
        lock (_gate)
            return _random.NextDouble();
    }

    public int NextSeed()
    {
        lock (_gate)
            return _random.Next();
    }

    /// <summary>Unique over all nodes and runs: the run's random half, and a counter.</summary>
    public OperationId NextOperationId() => new(_run, Interlocked.Increment(ref _lastOperation));

    public Guid NextGuid()
    {
        Span<byte> bytes = stackalloc byte[16];
        FillUnique(bytes);
        return new Guid(bytes);
    }

    private void FillUnique(Span<byte> bytes)
    {
        if (_seeded is null)
        {
            RandomNumberGenerator.Fill(bytes);
            return;
        }

        lock (_gate)
            _seeded.NextBytes(bytes);
    }
}
