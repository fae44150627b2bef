using ShardForge.Storage.Sqlite;

namespace ShardForge.Storage;

public static partial class StorageEngines
{
    /// <summary>The engine on SQLite, with its default settings.</summary>
    public static IStorageEngineFactory Sqlite() => Sqlite(null);

    /// <summary>The engine on SQLite: one database file in write-ahead mode. Without a directory it works in a temporary one.</summary>
    /// <remarks>
    /// A snapshot or iterator holds a connection and keeps SQLite's write-ahead file from being emptied: while one stays open, that file
    /// grows with every write.
    /// </remarks>
    /// <param name="options">Null: the defaults.</param>
    /// <exception cref="ConfigurationException">A setting is out of its range.</exception>
    public static IStorageEngineFactory Sqlite(SqliteOptions? options) => new SqliteEngineFactory(options ?? new SqliteOptions());
}
