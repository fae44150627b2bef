namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>An engine under measurement, behind its own public interface.</summary>
internal abstract class PeerEngine : IDisposable
{
    /// <summary>Bytes the engine wrote to files so far, as far as it or the kernel can tell.</summary>
    public virtual long BytesWritten => ProcessFigures.BytesWritten;

    /// <summary>Whether sixteen writers are sixteen waiting tasks instead of sixteen blocked threads.</summary>
    public virtual bool WritesAsynchronously => false;

    public static PeerEngine Open(string name, string directory) => name switch
    {
        ShardForgePeer.Name => new ShardForgePeer(directory),
        RocksDbPeer.Name => new RocksDbPeer(directory),
        SqlitePeer.Name => new SqlitePeer(directory),
        LmdbPeer.Name => new LmdbPeer(directory),
        ZoneTreePeer.Name => new ZoneTreePeer(directory),
        _ => throw new FormatException($"{name} is not an engine; there are {ShardForgePeer.Name}, {RocksDbPeer.Name}, {SqlitePeer.Name}, {LmdbPeer.Name}, {ZoneTreePeer.Name}."),
    };

    /// <summary>For one thread.</summary>
    public abstract PeerSession NewSession();

    /// <summary>Waits until nothing goes on in the background; with <paramref name="flush"/> after what is in memory went to tables.</summary>
    public abstract void Settle(bool flush);

    public abstract void Dispose();
}

/// <summary>What one thread does with an engine. Buffered writes survive the end of the process.</summary>
internal abstract class PeerSession : IDisposable
{
    public abstract void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value);

    /// <summary>Adds to the batch that <see cref="WriteBatch"/> writes, buffered.</summary>
    public abstract void AddToBatch(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value);

    public abstract void WriteBatch();

    /// <summary>Returns when the write survives a power cut.</summary>
    public abstract ValueTask PutFlushedAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value);

    /// <returns>Bytes of the value; -1: absent.</returns>
    public abstract int Get(ReadOnlySpan<byte> key);

    /// <summary>A new iterator, a seek, and up to <paramref name="entries"/> entries whose key and value are looked at.</summary>
    /// <returns>How many there were.</returns>
    public abstract int Scan(ReadOnlySpan<byte> key, int entries);

    /// <summary>From the first entry to the last; <paramref name="recorder"/> is told every hundred.</summary>
    public abstract long ScanAll(LatencyRecorder recorder);

    public abstract void Dispose();
}
