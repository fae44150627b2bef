using System.Diagnostics.CodeAnalysis;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace ShardForge.Storage.Sqlite;

/// <summary>SQLite's result codes as the library's errors.</summary>
internal static class SqliteErrors
{
    /// <summary>Throws what a result code means. Never returns.</summary>
    /// <param name="connection">Where the call was made: it knows the message.</param>
    /// <param name="result">What the call returned; not OK, row or done.</param>
    /// <param name="path">The database file.</param>
    /// <param name="operation">What was tried, e.g. <c>a read</c>.</param>
    [DoesNotReturn]
    public static void Throw(sqlite3 connection, int result, string path, string operation)
    {
        string message = raw.sqlite3_errmsg(connection).utf8_to_string();
        throw Translate(new SqliteException(message, result, raw.sqlite3_extended_errcode(connection)), path, operation);
    }

    public static Exception Translate(SqliteException error, string path, string operation)
    {
        string what = $"{operation} of {path} failed: SQLite error {error.SqliteErrorCode} ({error.SqliteExtendedErrorCode}), {error.Message}.";
        return error.SqliteErrorCode switch
        {
            raw.SQLITE_CORRUPT or raw.SQLITE_NOTADB or raw.SQLITE_FORMAT => new CorruptionException(path, 0, $"SQLite error {error.SqliteErrorCode} ({error.SqliteExtendedErrorCode}) at {operation}: {error.Message}.", error),
            raw.SQLITE_FULL => new ShardForgeException($"{what} The disk is full, or a limit of the file is reached. Nothing was written; reads go on.", isTransient: true, error),
            raw.SQLITE_BUSY or raw.SQLITE_LOCKED => new ShardForgeException($"{what} Another connection held its lock for too long. Nothing was written.", isTransient: true, error),
            raw.SQLITE_INTERRUPT => new OperationCanceledException($"{what} It was stopped.", error),
            _ => new ShardForgeException(what, isTransient: false, error),
        };
    }
}
