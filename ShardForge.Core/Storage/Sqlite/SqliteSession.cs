using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace ShardForge.Storage.Sqlite;

/// <summary>The five ways in which rows are searched; what they find, they go on from in the same direction.</summary>
internal enum SqliteSearch
{
    AtOrAfter,
    After,
    AtOrBefore,
    Before,
    Last,
}

/// <summary>What a connection may do.</summary>
internal enum SqliteAccess
{
    Read,
    Write,
    Create,
}

/// <summary>One connection to the database file, with the statements that were prepared on it.</summary>
/// <remarks>
/// Threads: any, one at a time: who calls a member holds <see cref="Gate"/>, and looks at <see cref="IsClosed"/> first. Only
/// <see cref="Interrupt"/> is called without it.
/// </remarks>
internal sealed class SqliteSession : IDisposable
{
    internal const int BusyMilliseconds = 10_000;
    private const int NoCheckpointOnClose = 1006;       // SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE
    private static readonly string[] s_searches =
    [
        "SELECT k, c, v FROM kv WHERE k >= ?1 ORDER BY k",
        "SELECT k, c, v FROM kv WHERE k > ?1 ORDER BY k",
        "SELECT k, c, v FROM kv WHERE k <= ?1 ORDER BY k DESC",
        "SELECT k, c, v FROM kv WHERE k < ?1 ORDER BY k DESC",
        "SELECT k, c, v FROM kv ORDER BY k DESC",
    ];

    private readonly SqliteConnection _connection;
    private readonly Stack<SqliteStatement>[] _idle = [new(), new(), new(), new(), new()];
    private readonly List<SqliteStatement> _statements = [];

    private SqliteSession(SqliteConnection connection, string path)
    {
        _connection = connection;
        Path = path;
    }

    public const int KeyColumn = 0, ChecksumColumn = 1, ValueColumn = 2;

    public Lock Gate { get; } = new();

    public bool IsClosed { get; private set; }

    public string Path { get; }

    public sqlite3 Handle => _connection.Handle!;

    public static SqliteSession Open(string path, SqliteOptions options, SqliteAccess access)
    {
        SqliteConnectionStringBuilder settings = new()
        {
            DataSource = path,
            Mode = access == SqliteAccess.Create ? SqliteOpenMode.ReadWriteCreate : SqliteOpenMode.ReadWrite,
            Pooling = false,
        };
        SqliteSession session = new(new SqliteConnection(settings.ToString()), path);
        try
        {
            session._connection.Open();
            _ = raw.sqlite3_busy_timeout(session.Handle, BusyMilliseconds);
            session.Execute($"PRAGMA cell_size_check = ON; PRAGMA cache_size = -{options.PageCacheBytes / 1024}; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;");
            if (access == SqliteAccess.Read)
                session.Execute("PRAGMA query_only = ON");
            return session;
        }
        catch (SqliteException error)
        {
            session.Dispose();
            throw SqliteErrors.Translate(error, path, "The open");
        }
        catch
        {
            session.Dispose();
            throw;
        }
    }

    public void Execute(string sql)
    {
        int result = raw.sqlite3_exec(Handle, sql);
        if (result != raw.SQLITE_OK)
            SqliteErrors.Throw(Handle, result, Path, $"'{sql}'");
    }

    /// <summary>The first number that a statement gives.</summary>
    public long Ask(string sql)
    {
        using SqliteStatement statement = new(this, sql);
        return statement.Step() ? statement.Integer(0) : 0;
    }

    /// <summary>A statement that lives as long as the session.</summary>
    public SqliteStatement Prepare(string sql)
    {
        SqliteStatement statement = new(this, sql);
        _statements.Add(statement);
        return statement;
    }

    /// <summary>A search that nobody else steps; hand it back with <see cref="Return"/>.</summary>
    public SqliteStatement Rent(SqliteSearch search) =>
        _idle[(int)search].TryPop(out SqliteStatement? statement) ? statement : Prepare(s_searches[(int)search]);

    public void Return(SqliteSearch search, SqliteStatement statement)
    {
        statement.Reset();
        _idle[(int)search].Push(statement);
    }

    /// <summary>Checks that the key before a place, if there is one, is whole: else a damaged key may have misled the search to that place.</summary>
    public void CheckNeighbour(SqliteSearch search, ReadOnlySpan<byte> place)
    {
        SqliteStatement statement = Rent(search).Bind(1, place);
        try
        {
            if (statement.Step())
                SqliteRow.CheckKey(Path, statement.Blob(KeyColumn), statement.Integer(ChecksumColumn));
        }
        finally
        {
            Return(search, statement);
        }
    }

    /// <summary>Closing leaves the write-ahead file where it is.</summary>
    public void KeepLogAtClose() => raw.sqlite3_db_config(Handle, NoCheckpointOnClose, 1, out _);

    /// <summary>Stops the statement that runs; it throws <see cref="OperationCanceledException"/>. The session is not disposed meanwhile.</summary>
    public void Interrupt() => raw.sqlite3_interrupt(Handle);

    public void Dispose()
    {
        if (IsClosed)
            return;
        IsClosed = true;
        foreach (SqliteStatement statement in _statements)
            statement.Dispose();
        _connection.Dispose();
    }
}
