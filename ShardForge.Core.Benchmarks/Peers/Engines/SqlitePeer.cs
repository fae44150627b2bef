using Microsoft.Data.Sqlite;

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>SQLite: one table without row ids, write-ahead mode, a cache of 256 MB; <c>synchronous</c> NORMAL for buffered writes, FULL for flushed ones.</summary>
internal sealed class SqlitePeer : PeerEngine
{
    public const string Name = "sqlite";
    private readonly string _source;

    public SqlitePeer(string directory)
    {
        _source = new SqliteConnectionStringBuilder { DataSource = Path.Combine(directory, "peer.db"), Pooling = false }.ToString();
        using SqliteConnection connection = Connect();
        Execute(connection, "PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;");
    }

    public override PeerSession NewSession() => new Session(Connect());

    public override void Settle(bool flush)
    {
        using SqliteConnection connection = Connect();
        Execute(connection, "PRAGMA wal_checkpoint(TRUNCATE);");
    }

    public override void Dispose() { }

    private static void Execute(SqliteConnection connection, string text)
    {
        using SqliteCommand command = connection.CreateCommand();
#pragma warning disable CA2100 // Constants of this file.
        command.CommandText = text;
#pragma warning restore CA2100
        command.ExecuteNonQuery();
    }

    private SqliteConnection Connect()
    {
        SqliteConnection connection = new(_source);
        connection.Open();
        Execute(connection, "PRAGMA cache_size = -262144; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 60000;");
        return connection;
    }

    private sealed class Session : PeerSession
    {
        private readonly SqliteConnection _connection;
        private readonly SqliteCommand _put, _get, _scan, _all;
        private readonly byte[] _buffer = new byte[4096];
        private SqliteTransaction? _batch;
        private bool _flushes;

        public Session(SqliteConnection connection)
        {
            _connection = connection;
            _put = Command("INSERT OR REPLACE INTO entries (key, value) VALUES ($key, $value)");
            _get = Command("SELECT value FROM entries WHERE key = $key");
            _scan = Command("SELECT key, value FROM entries WHERE key >= $key ORDER BY key LIMIT $value");
            _all = Command("SELECT key, value FROM entries ORDER BY key");
        }

        public override void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            _put.Transaction = _batch;
            _put.Parameters[0].Value = key.ToArray();
            _put.Parameters[1].Value = value.ToArray();
            _put.ExecuteNonQuery();
        }

        public override void AddToBatch(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            _batch ??= _connection.BeginTransaction();
            Put(key, value);
        }

        public override void WriteBatch()
        {
            _batch?.Commit();
            _batch?.Dispose();
            _batch = null;
        }

        public override ValueTask PutFlushedAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value)
        {
            if (!_flushes)
                Execute(_connection, "PRAGMA synchronous = FULL;");
            _flushes = true;
            Put(key.Span, value.Span);
            return ValueTask.CompletedTask;
        }

        public override int Get(ReadOnlySpan<byte> key)
        {
            _get.Parameters[0].Value = key.ToArray();
            using SqliteDataReader reader = _get.ExecuteReader();
            return reader.Read() ? (int)reader.GetBytes(0, 0, _buffer, 0, _buffer.Length) : -1;
        }

        public override int Scan(ReadOnlySpan<byte> key, int entries)
        {
            _scan.Parameters[0].Value = key.ToArray();
            _scan.Parameters[1].Value = entries;
            using SqliteDataReader reader = _scan.ExecuteReader();
            int count = 0;
            for (; reader.Read(); count++)
                Look(reader);
            return count;
        }

        public override long ScanAll(LatencyRecorder recorder)
        {
            using SqliteDataReader reader = _all.ExecuteReader();
            long count = 0;
            while (reader.Read())
            {
                Look(reader);
                if (++count % LatencyRecorder.EntriesPerRecord == 0)
                    recorder.Record(LatencyRecorder.EntriesPerRecord);
            }

            return count;
        }

        public override void Dispose()
        {
            _put.Dispose();
            _get.Dispose();
            _scan.Dispose();
            _all.Dispose();
            _connection.Dispose();
        }

        private void Look(SqliteDataReader reader)
        {
            reader.GetBytes(0, 0, _buffer, 0, _buffer.Length);
            reader.GetBytes(1, 0, _buffer, 0, _buffer.Length);
        }

        private SqliteCommand Command(string text)
        {
            SqliteCommand command = _connection.CreateCommand();
#pragma warning disable CA2100 // Constants of this file.
            command.CommandText = text;
#pragma warning restore CA2100
            if (text.Contains("$key", StringComparison.Ordinal))
                command.Parameters.Add(new SqliteParameter("$key", SqliteType.Blob));
            if (text.Contains("$value", StringComparison.Ordinal))
                command.Parameters.Add(new SqliteParameter { ParameterName = "$value" });
            command.Prepare();
            return command;
        }
    }
}
