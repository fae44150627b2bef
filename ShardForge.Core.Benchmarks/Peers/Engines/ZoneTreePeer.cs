using ZoneTree;

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>ZoneTree with its defaults and its maintainer; keys and values as bytes.</summary>
internal sealed class ZoneTreePeer : PeerEngine
{
    public const string Name = "zonetree";
    private readonly IZoneTree<Memory<byte>, Memory<byte>> _tree;
    private readonly IMaintainer _maintainer;

    public ZoneTreePeer(string directory)
    {
        _tree = new ZoneTreeFactory<Memory<byte>, Memory<byte>>()
            .SetDataDirectory(directory)
            .OpenOrCreate();
        _maintainer = _tree.CreateMaintainer();
    }

    public override PeerSession NewSession() => new Session(_tree);

    public override void Settle(bool flush)
    {
        if (flush)
            _maintainer.EvictToDisk();
        _maintainer.WaitForBackgroundThreads();
    }

    public override void Dispose()
    {
        _maintainer.WaitForBackgroundThreads();
        _maintainer.Dispose();
        _tree.Dispose();
    }

    private sealed class Session(IZoneTree<Memory<byte>, Memory<byte>> tree) : PeerSession
    {
        // Kept by the tree, so each write needs arrays of its own.
        public override void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) => tree.Upsert(key.ToArray(), value.ToArray());

        public override void AddToBatch(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) => Put(key, value);

        /// <summary>It has no batches.</summary>
        public override void WriteBatch() { }

        public override ValueTask PutFlushedAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value) =>
            throw new NotSupportedException("ZoneTree has no write that survives a power cut when it returns.");

        public override int Get(ReadOnlySpan<byte> key) => tree.TryGet(key.ToArray(), out Memory<byte> value) ? value.Length : -1;

        public override int Scan(ReadOnlySpan<byte> key, int entries)
        {
            using IZoneTreeIterator<Memory<byte>, Memory<byte>> iterator = tree.CreateIterator();
            iterator.Seek(key.ToArray());
            int count = 0;
            while (count < entries && iterator.Next())
                count++;
            return count;
        }

        public override long ScanAll(LatencyRecorder recorder)
        {
            using IZoneTreeIterator<Memory<byte>, Memory<byte>> iterator = tree.CreateIterator();
            long count = 0;
            while (iterator.Next())
            {
                if (++count % LatencyRecorder.EntriesPerRecord == 0)
                    recorder.Record(LatencyRecorder.EntriesPerRecord);
            }

            return count;
        }

        public override void Dispose() { }
    }
}
