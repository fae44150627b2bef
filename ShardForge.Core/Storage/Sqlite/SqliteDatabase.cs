using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Storage.Sqlite;

/// <summary>The database file: its schema, its marks, and the check of all it holds.</summary>
/// <remarks><code>
/// data.db           SQLite database; application_id "SFKV", user_version 1, pages of 4,096 bytes, incremental vacuum
/// data.db-wal, -shm SQLite's own, while the database is open and after the end of the process
/// data.promise      how much of data.db-wal was flushed (SqliteLogPromise)
/// table kv          k BLOB primary key (ordered as unsigned bytes) | c INTEGER checksums (SqliteRow) | v BLOB       WITHOUT ROWID
/// table meta        id 1 | flushes INTEGER: raised by each FlushAsync, so that there is something to flush
/// </code>
/// Versions of the format: 1.</remarks>
internal static class SqliteDatabase
{
    public const string FileName = "data.db";
    public const uint Version = 1;
    private const uint ApplicationId = 0x53464B56;
    private const long PagesMax = 4_294_967_294;
    private const int HeaderBytes = 100, VersionAt = 60, ApplicationIdAt = 68, PageBytes = 4096;

    /// <summary>Makes an empty database file, under another name first: it is there whole or not at all.</summary>
    public static void Create(string directory, SqliteOptions options)
    {
        string path = Path.Combine(directory, FileName), temporary = path + StorageFiles.TemporarySuffix;
        using (SqliteSession session = SqliteSession.Open(temporary, options, SqliteAccess.Create))
        {
            session.Execute($"""
                PRAGMA page_size = {PageBytes};
                PRAGMA auto_vacuum = INCREMENTAL;
                PRAGMA synchronous = FULL;
                PRAGMA application_id = {ApplicationId};
                PRAGMA user_version = {Version};
                CREATE TABLE kv (k BLOB NOT NULL PRIMARY KEY, c INTEGER NOT NULL, v BLOB NOT NULL) WITHOUT ROWID;
                CREATE TABLE meta (id INTEGER PRIMARY KEY, flushes INTEGER NOT NULL);
                INSERT INTO meta VALUES (1, 0);
                """);
        }

        PhysicalFileSystem.Instance.Rename(temporary, path);
        PhysicalFileSystem.Instance.FlushDirectory(directory);
    }

    /// <summary>Opens the connection that writes, after a look at whose database it is and whether its write-ahead file is whole.</summary>
    /// <param name="folder">Where it is.</param>
    /// <param name="options">Settings.</param>
    /// <param name="files">For the file beside SQLite's own.</param>
    /// <param name="promise">Gets what is promised of the write-ahead file; null: nothing is durable there.</param>
    /// <param name="cancellationToken">Stops the check.</param>
    /// <exception cref="ConfigurationException">Another application's, or of a newer format; nothing was changed.</exception>
    /// <exception cref="CorruptionException">Missing, no database, or damaged.</exception>
    public static SqliteSession Open(SqliteFolder folder, SqliteOptions options, IFileSystem files, out SqliteLogPromise? promise, CancellationToken cancellationToken)
    {
        string path = Path.Combine(folder.WorkDirectory, FileName);
        CheckHeader(path);
        promise = folder.IsDurable ? SqliteLogPromise.Open(files, path) : null;
        SqliteSession? session = null;
        try
        {
            session = SqliteSession.Open(path, options, SqliteAccess.Write);
            session.Execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 67108864;");
            session.Execute($"PRAGMA max_page_count = {Math.Min(options.DatabaseBytesMax / PageBytes, PagesMax)}");
            if (new FileInfo(path).Length <= options.VerifyOnOpenBytesMax)
                Verify(session, cancellationToken);
            return session;
        }
        catch
        {
            if (session is not null)
                SqliteLogPromise.Close(promise, session);
            else
                promise?.Dispose();
            throw;
        }
    }

    /// <summary>Reads everything: the structure of the file, and every row.</summary>
    private static void Verify(SqliteSession session, CancellationToken cancellationToken)
    {
        using (SqliteStatement check = new(session, "PRAGMA integrity_check(1)"))
        {
            if (check.Step() && check.Text(0) is { } result && result != "ok")
                throw new CorruptionException(session.Path, 0, $"The structure of the database is damaged: {result}.");
        }

        using SqliteStatement rows = new(session, "SELECT k, c, v FROM kv ORDER BY k");
        byte[]? last = null;
        while (rows.Step())
        {
            cancellationToken.ThrowIfCancellationRequested();
            ReadOnlySpan<byte> key = rows.Blob(SqliteSession.KeyColumn);
            SqliteRow.Check(session.Path, key, rows.Blob(SqliteSession.ValueColumn), rows.Integer(SqliteSession.ChecksumColumn));
            if (last is not null && key.SequenceCompareTo(last) <= 0)
                throw new CorruptionException(session.Path, 0, $"Key {Convert.ToHexString(key[..Math.Min(key.Length, 16)])} is behind a higher one.");
            last = key.ToArray();
        }
    }

    private static void CheckHeader(string path)
    {
        // SQLite takes an empty file for an empty database, and a missing one for a new one: here both are lost data.
        if (!File.Exists(path))
            throw new CorruptionException(path, 0, "The database file is missing; the engine wrote one when it created the directory.");
        using IFile file = PhysicalFileSystem.Instance.Open(path, FileOpenMode.Read);
        Span<byte> header = stackalloc byte[HeaderBytes];
        if (file.Read(header, 0) < HeaderBytes || !header.StartsWith("SQLite format 3\0"u8))
            throw new CorruptionException(path, 0, $"It has {file.Length:N0} bytes and does not start as a SQLite database.");

        // SQLite's header is big-endian, and the two marks never change: read here, the open that is refused changes nothing.
        uint applicationId = BinaryPrimitives.ReadUInt32BigEndian(header[ApplicationIdAt..]), version = BinaryPrimitives.ReadUInt32BigEndian(header[VersionAt..]);
        if (applicationId != ApplicationId)
            throw new ConfigurationException("StorageEngine", $"{path} is a SQLite database of another application (application_id {applicationId:x8}). Nothing was changed.");
        if (version > Version)
            throw new ConfigurationException("DataDirectory", $"{path} has version {version} of the format; this library knows versions up to {Version}. Nothing was changed.");
    }
}
