using LightningDB;

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>LMDB through LightningDB: a map of 8 GB, <c>NOSYNC</c> for buffered writes (they survive the end of the process). Reads renew one transaction a session.</summary>
internal sealed class LmdbPeer : PeerEngine
{
    public const string Name = "lmdb";
    private readonly LightningEnvironment _environment;
    private readonly LightningDatabase _database;

    public LmdbPeer(string directory)
    {
        _environment = new LightningEnvironment(directory, new EnvironmentConfiguration { MapSize = 8L << 30 });
        _environment.Open(EnvironmentOpenFlags.NoSync | EnvironmentOpenFlags.NoThreadLocalStorage);
        using LightningTransaction transaction = _environment.BeginTransaction();
        _database = transaction.OpenDatabase(configuration: new DatabaseConfiguration { Flags = DatabaseOpenFlags.Create });
        transaction.Commit();
    }

    public override PeerSession NewSession() => new Session(_environment, _database);

    public override void Settle(bool flush) => _environment.Flush(force: true);

    public override void Dispose()
    {
        _database.Dispose();
        _environment.Dispose();
    }

    private sealed class Session(LightningEnvironment environment, LightningDatabase database) : PeerSession
    {
        private LightningTransaction? _batch, _read;

        public override void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            using LightningTransaction transaction = environment.BeginTransaction();
            transaction.Put(database, key, value);
            transaction.Commit();
        }

        public override void AddToBatch(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            _batch ??= environment.BeginTransaction();
            _batch.Put(database, key, value);
        }

        public override void WriteBatch()
        {
            _batch?.Commit();
            _batch?.Dispose();
            _batch = null;
        }

        public override ValueTask PutFlushedAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value)
        {
            Put(key.Span, value.Span);
            environment.Flush(force: true);
            return ValueTask.CompletedTask;
        }

        public override int Get(ReadOnlySpan<byte> key)
        {
            LightningTransaction transaction = Read();
            (MDBResultCode code, _, MDBValue value) = transaction.Get(database, key);
            int bytes = code == MDBResultCode.Success ? value.AsSpan().Length : -1;
            transaction.Reset();
            return bytes;
        }

        public override int Scan(ReadOnlySpan<byte> key, int entries)
        {
            LightningTransaction transaction = Read();
            int count = 0;
            using (LightningCursor cursor = transaction.CreateCursor(database))
            {
                for (bool isThere = cursor.SetRange(key) == MDBResultCode.Success; isThere && count < entries; count++)
                {
                    cursor.GetCurrent();
                    isThere = cursor.Next().resultCode == MDBResultCode.Success;
                }
            }

            transaction.Reset();
            return count;
        }

        public override long ScanAll(LatencyRecorder recorder)
        {
            LightningTransaction transaction = Read();
            long count = 0;
            using (LightningCursor cursor = transaction.CreateCursor(database))
            {
                while (cursor.Next().resultCode == MDBResultCode.Success)
                {
                    if (++count % LatencyRecorder.EntriesPerRecord == 0)
                        recorder.Record(LatencyRecorder.EntriesPerRecord);
                }
            }

            transaction.Reset();
            return count;
        }

        public override void Dispose() => _read?.Dispose();

        private LightningTransaction Read()
        {
            if (_read is null)
                return _read = environment.BeginTransaction(TransactionBeginFlags.ReadOnly);
            _read.Renew();
            return _read;
        }
    }
}
