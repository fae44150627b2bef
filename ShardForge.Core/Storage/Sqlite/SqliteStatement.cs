using SQLitePCL;

namespace ShardForge.Storage.Sqlite;

/// <summary>One prepared statement. Used under its session's gate.</summary>
internal sealed class SqliteStatement : IDisposable
{
    private readonly SqliteSession _session;
    private readonly sqlite3_stmt _statement;

    public SqliteStatement(SqliteSession session, string sql)
    {
        _session = session;
        int result = raw.sqlite3_prepare_v2(session.Handle, sql, out _statement);
        if (result != raw.SQLITE_OK)
            SqliteErrors.Throw(session.Handle, result, session.Path, $"Preparing '{sql}'");
    }

    public SqliteStatement Bind(int index, ReadOnlySpan<byte> bytes)
    {
        // An empty span has no address, and SQLite takes that for NULL.
        Check(bytes.IsEmpty ? raw.sqlite3_bind_zeroblob(_statement, index, 0) : raw.sqlite3_bind_blob(_statement, index, bytes));
        return this;
    }

    public SqliteStatement Bind(int index, string text)
    {
        Check(raw.sqlite3_bind_text(_statement, index, text));
        return this;
    }

    public SqliteStatement Bind(int index, long number)
    {
        Check(raw.sqlite3_bind_int64(_statement, index, number));
        return this;
    }

    /// <summary>Whether the last step gave a row.</summary>
    public bool IsOnRow { get; private set; }

    /// <returns>Whether there is a row.</returns>
    public bool Step()
    {
        int result = raw.sqlite3_step(_statement);
        IsOnRow = result == raw.SQLITE_ROW;
        if (IsOnRow)
            return true;
        if (result != raw.SQLITE_DONE)
        {
            _ = raw.sqlite3_reset(_statement);
            SqliteErrors.Throw(_session.Handle, result, _session.Path, "A statement");
        }

        return false;
    }

    /// <summary>Steps through to the end and makes it ready for the next use.</summary>
    public void Run()
    {
        while (Step())
        {
        }

        Reset();
    }

    /// <summary>The bytes of a column; live until the next step or reset.</summary>
    public ReadOnlySpan<byte> Blob(int column) => raw.sqlite3_column_blob(_statement, column);

    public long Integer(int column) => raw.sqlite3_column_int64(_statement, column);

    public string Text(int column) => raw.sqlite3_column_text(_statement, column).utf8_to_string() ?? "";

    public void Reset()
    {
        IsOnRow = false;
        // Its result is that of the step before, which was reported there.
        _ = raw.sqlite3_reset(_statement);
        Check(raw.sqlite3_clear_bindings(_statement));
    }

    public void Dispose() => _statement.Dispose();

    private void Check(int result)
    {
        if (result != raw.SQLITE_OK)
            SqliteErrors.Throw(_session.Handle, result, _session.Path, "A binding");
    }
}
