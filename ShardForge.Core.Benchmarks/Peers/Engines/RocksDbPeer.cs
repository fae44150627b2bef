using static ShardForge.Benchmarks.Peers.Engines.RocksDbNative;

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>RocksDB: write buffer of 64 MB, block cache of 256 MB, bloom filter of 10 bits, LZ4, leveled, two background jobs; the rest as it comes.</summary>
[System.Diagnostics.CodeAnalysis.SuppressMessage("Usage", "CA2216", Justification = "The process ends with it.")]
internal sealed unsafe class RocksDbPeer : PeerEngine
{
    public const string Name = "rocksdb";
    private const int Lz4 = 4;
    private readonly nint _db, _read = rocksdb_readoptions_create(), _write = rocksdb_writeoptions_create(), _writeFlushed = rocksdb_writeoptions_create();

    public RocksDbPeer(string directory)
    {
        nint options = rocksdb_options_create(), table = rocksdb_block_based_options_create();
        rocksdb_options_set_create_if_missing(options, 1);
        rocksdb_options_set_write_buffer_size(options, 64 << 20);
        rocksdb_options_set_compression(options, Lz4);
        rocksdb_options_set_max_background_jobs(options, 2);
        rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom(10));
        rocksdb_block_based_options_set_block_cache(table, rocksdb_cache_create_lru(256 << 20));
        rocksdb_options_set_block_based_table_factory(options, table);
        rocksdb_writeoptions_set_sync(_writeFlushed, 1);
        byte* error = null;
        fixed (byte* name = RocksDbNative.Name(directory))
            _db = rocksdb_open(options, name, &error);
        Check(error);
    }

    public override PeerSession NewSession() => new Session(this);

    public override void Settle(bool flush)
    {
        byte* error = null;
        if (flush)
            rocksdb_flush(_db, rocksdb_flushoptions_create(), &error);
        Check(error);
        rocksdb_wait_for_compact(_db, rocksdb_wait_for_compact_options_create(), &error);
        Check(error);
    }

    public override void Dispose() => rocksdb_close(_db);

    private sealed class Session(RocksDbPeer engine) : PeerSession
    {
        private readonly nint _db = engine._db, _batch = rocksdb_writebatch_create();
        private readonly byte[] _value = new byte[4096];
        private long _checksum;

        public override void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) => Put(engine._write, key, value);

        public override void AddToBatch(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            fixed (byte* keyAt = key, valueAt = value)
                rocksdb_writebatch_put(_batch, keyAt, (nuint)key.Length, valueAt, (nuint)value.Length);
        }

        public override void WriteBatch()
        {
            byte* error = null;
            rocksdb_write(_db, engine._write, _batch, &error);
            Check(error);
            rocksdb_writebatch_clear(_batch);
        }

        public override ValueTask PutFlushedAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value)
        {
            Put(engine._writeFlushed, key.Span, value.Span);
            return ValueTask.CompletedTask;
        }

        public override int Get(ReadOnlySpan<byte> key)
        {
            byte* error = null;
            byte found = 0;
            nuint bytes = 0;
            fixed (byte* keyAt = key, buffer = _value)
                rocksdb_get_into_buffer(_db, engine._read, keyAt, (nuint)key.Length, buffer, (nuint)_value.Length, &bytes, &found, &error);
            Check(error);
            return found == 0 ? -1 : (int)bytes;
        }

        public override int Scan(ReadOnlySpan<byte> key, int entries)
        {
            nint iterator = rocksdb_create_iterator(_db, engine._read);
            fixed (byte* keyAt = key)
                rocksdb_iter_seek(iterator, keyAt, (nuint)key.Length);
            int count = 0;
            long sum = 0;
            for (; count < entries && rocksdb_iter_valid(iterator) != 0; count++)
            {
                sum += Look(iterator);
                rocksdb_iter_next(iterator);
            }

            rocksdb_iter_destroy(iterator);
            _checksum += sum;
            return count;
        }

        public override long ScanAll(LatencyRecorder recorder)
        {
            nint iterator = rocksdb_create_iterator(_db, engine._read);
            long count = 0, sum = 0;
            for (rocksdb_iter_seek_to_first(iterator); rocksdb_iter_valid(iterator) != 0; rocksdb_iter_next(iterator))
            {
                sum += Look(iterator);
                if (++count % LatencyRecorder.EntriesPerRecord == 0)
                    recorder.Record(LatencyRecorder.EntriesPerRecord);
            }

            rocksdb_iter_destroy(iterator);
            _checksum += sum;
            return count;
        }

        public override void Dispose() => GC.KeepAlive(_checksum);

        private static long Look(nint iterator)
        {
            nuint keyBytes, valueBytes;
            byte* key = rocksdb_iter_key(iterator, &keyBytes);
            byte* value = rocksdb_iter_value(iterator, &valueBytes);
            return key[keyBytes - 1] + value[valueBytes - 1];
        }

        private void Put(nint options, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            byte* error = null;
            fixed (byte* keyAt = key, valueAt = value)
                rocksdb_put(_db, options, keyAt, (nuint)key.Length, valueAt, (nuint)value.Length, &error);
            Check(error);
        }
    }
}
