using System.Buffers;
using System.Text;
using ShardForge.Storage;

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>The <c>lsm</c> engine with its defaults: 64 MiB memtables, a cache of 256 MiB, 10 bits a key, LZ4, two background jobs.</summary>
internal sealed class ShardForgePeer(string directory) : PeerEngine
{
    public const string Name = "shardforge";
    private static readonly TimeSpan s_quiet = TimeSpan.FromMilliseconds(400), s_quietMax = TimeSpan.FromSeconds(60);
    private readonly IStorageEngine _engine = StorageEngines.Lsm(new LsmOptions()).OpenAsync(directory).AsTask().GetAwaiter().GetResult();

    public override bool WritesAsynchronously => true;

    public override long BytesWritten => _engine.GetStatistics().DiskBytesWritten;

    public override PeerSession NewSession() => new Session(_engine);

    public override void Settle(bool flush)
    {
        // A range that no key is in: the memtable is written, nothing is merged.
        if (flush)
            _engine.CompactAsync(KeyRange.Between(Encoding.UTF8.GetBytes("~"), Encoding.UTF8.GetBytes("~"))).AsTask().GetAwaiter().GetResult();
        DateTime limit = DateTime.UtcNow + s_quietMax;
        long before = -1;
        while (DateTime.UtcNow < limit)
        {
            StorageStatistics statistics = _engine.GetStatistics();
            if (before == statistics.DiskBytesWritten)
                return;
            before = statistics.DiskBytesWritten;
            Thread.Sleep(s_quiet);
        }
    }

    public override void Dispose() => _engine.DisposeAsync().AsTask().GetAwaiter().GetResult();

    private sealed class Session(IStorageEngine engine) : PeerSession
    {
        private readonly StorageBatch _batch = new();
        private readonly ArrayBufferWriter<byte> _value = new(ValueSource.ValueBytes);
        private long _checksum;

        public override void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            _batch.Clear();
            _batch.Put(key, value);
            Wait(engine.WriteAsync(_batch, StorageDurability.Buffered));
        }

        public override void AddToBatch(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) => _batch.Put(key, value);

        public override void WriteBatch()
        {
            Wait(engine.WriteAsync(_batch, StorageDurability.Buffered));
            _batch.Clear();
        }

        public override ValueTask PutFlushedAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value)
        {
            _batch.Clear();
            _batch.Put(key.Span, value.Span);
            return engine.WriteAsync(_batch, StorageDurability.Flushed);
        }

        public override int Get(ReadOnlySpan<byte> key)
        {
            _value.ResetWrittenCount();
            return engine.TryGet(key, _value) ? _value.WrittenCount : -1;
        }

        public override int Scan(ReadOnlySpan<byte> key, int entries)
        {
            using IStorageIterator iterator = engine.Scan(KeyRange.All);
            int count = 0;
            long sum = 0;
            for (bool isThere = iterator.Seek(key); isThere && count < entries; count++)
            {
                sum += iterator.Key[^1] + iterator.Value[^1];
                isThere = iterator.MoveNext();
            }

            _checksum += sum;
            return count;
        }

        public override long ScanAll(LatencyRecorder recorder)
        {
            using IStorageIterator iterator = engine.Scan(KeyRange.All);
            long count = 0, sum = 0;
            for (bool isThere = iterator.SeekFirst(); isThere; isThere = iterator.MoveNext())
            {
                sum += iterator.Key[^1] + iterator.Value[^1];
                if (++count % LatencyRecorder.EntriesPerRecord == 0)
                    recorder.Record(LatencyRecorder.EntriesPerRecord);
            }

            _checksum += sum;
            return count;
        }

        public override void Dispose() => GC.KeepAlive(_checksum);

        private static void Wait(ValueTask task)
        {
            if (task.IsCompletedSuccessfully)
                task.GetAwaiter().GetResult();
            else
                task.AsTask().GetAwaiter().GetResult();
        }
    }
}
