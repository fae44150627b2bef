namespace ShardForge.Storage;

/// <summary>Settings of the SQLite engine (<see cref="StorageEngines.Sqlite()"/>).</summary>
public sealed record SqliteOptions
{
    /// <summary>Page cache of each connection, in bytes. Default 4 MiB. There is one connection that writes, and one for each read at once.</summary>
    public int PageCacheBytes { get; init; } = 4 * 1024 * 1024;

    /// <summary>
    /// Reads, snapshots and iterators at once: each holds a connection. One more gets <see cref="OverloadedException"/>. Default 512.
    /// </summary>
    public int ReadersMax { get; init; } = 512;

    /// <summary>
    /// Databases up to this size, in bytes, are checked as a whole when they are opened: the structure, and the checksum of every row.
    /// Rows are checked when they are read in any case. Default 64 MiB; 0: never.
    /// </summary>
    public long VerifyOnOpenBytesMax { get; init; } = 64L * 1024 * 1024;

    /// <summary>How large the database file may become, in bytes. Over it writes fail as on a full disk, transiently. Default: 17,592,186,040,320, SQLite's own limit.</summary>
    public long DatabaseBytesMax { get; init; } = 4096L * 4_294_967_294;
}
