using ShardForge.Common;

namespace ShardForge.Storage.Sqlite;

/// <summary>Where the database file lives: in the engine's directory, or, since SQLite works on real files only, in a temporary one.</summary>
/// <remarks><code>
/// no directory               temporary directory; nothing is durable
/// directory, real files      the directory itself
/// directory, other files     temporary directory; the file is copied out of the directory at open, and into it at flush
/// </code>
/// With other files (a node without a data directory, a test's file system) what is durable is what was flushed by
/// <see cref="IStorageEngine.FlushAsync"/>, also where the engine was opened alone.</remarks>
internal sealed class SqliteFolder : IDisposable
{
    private static readonly string[] s_firstFiles =
    [
        SqliteDatabase.FileName, SqliteDatabase.FileName + StorageFiles.TemporarySuffix, SqliteDatabase.FileName + StorageFiles.TemporarySuffix + "-journal",
    ];

    private readonly IFileSystem _files;
    private readonly string? _directory;
    private readonly IDisposable? _lock;
    private readonly bool _isTemporary;

    private SqliteFolder(IFileSystem files, string? directory, IDisposable? directoryLock, string workDirectory, bool isTemporary)
    {
        _files = files;
        _directory = directory;
        _lock = directoryLock;
        WorkDirectory = workDirectory;
        _isTemporary = isTemporary;
    }

    /// <summary>Where SQLite's files are, on the real file system.</summary>
    public string WorkDirectory { get; }

    /// <summary>Whether a flush has to copy the database into the engine's directory.</summary>
    public bool IsCopied => _isTemporary && _directory is not null;

    /// <summary>Whether what SQLite flushes is what the engine promises.</summary>
    public bool IsDurable => !_isTemporary;

    public static SqliteFolder Open(StorageEngineContext context, SqliteOptions options)
    {
        if (context.Directory is not { } directory)
        {
            SqliteFolder folder = new(context.FileSystem, null, null, CreateTemporary(), isTemporary: true);
            try
            {
                SqliteDatabase.Create(folder.WorkDirectory, options);
                return folder;
            }
            catch
            {
                folder.Dispose();
                throw;
            }
        }

        IFileSystem files = context.FileSystem;
        IDisposable directoryLock = EngineMarker.Acquire(files, directory, SqliteEngine.EngineName, SqliteDatabase.Version, s_firstFiles, () => CreateFirst(files, directory, options));
        string? temporary = null;
        try
        {
            if (IsReal(directory))
                return new SqliteFolder(files, directory, directoryLock, directory, isTemporary: false);
            temporary = CreateTemporary();
            CopyOut(files, Path.Combine(directory, SqliteDatabase.FileName), Path.Combine(temporary, SqliteDatabase.FileName));
            return new SqliteFolder(files, directory, directoryLock, temporary, isTemporary: true);
        }
        catch
        {
            if (temporary is not null)
                Directory.Delete(temporary, recursive: true);
            directoryLock.Dispose();
            throw;
        }
    }

    /// <summary>Makes a consistent copy of the database in a directory of the engine's file system. Durable when it returns.</summary>
    public void CopyTo(SqliteSession session, string directory)
    {
        string path = Path.Combine(directory, SqliteDatabase.FileName);
        string copy = _isTemporary ? Path.Combine(WorkDirectory, $"copy-{Guid.NewGuid():N}.db") : path + StorageFiles.TemporarySuffix;
        using (SqliteStatement vacuum = new(session, "VACUUM INTO ?1"))
            vacuum.Bind(1, copy).Run();
        if (_isTemporary)
        {
            CopyIn(_files, copy, path);
            File.Delete(copy);
            return;
        }

        using (IFile file = _files.Open(copy, FileOpenMode.ReadWrite))
            file.Flush();
        _files.Rename(copy, path);
        _files.FlushDirectory(directory);
    }

    /// <summary>Makes what was flushed durable in the engine's directory.</summary>
    public void CopyBack(SqliteSession session) => CopyTo(session, _directory!);

    public void Dispose()
    {
        if (_isTemporary)
            Directory.Delete(WorkDirectory, recursive: true);
        _lock?.Dispose();
    }

    private static string CreateTemporary() => Directory.CreateTempSubdirectory("shardforge-sqlite-").FullName;

    /// <summary>Whether a directory of the engine's file system is one that SQLite sees too: its lock file is there.</summary>
    private static bool IsReal(string directory) => File.Exists(Path.Combine(directory, EngineMarker.LockFileName));

    private static void CreateFirst(IFileSystem files, string directory, SqliteOptions options)
    {
        if (IsReal(directory))
        {
            SqliteDatabase.Create(directory, options);
            return;
        }

        string temporary = CreateTemporary();
        try
        {
            SqliteDatabase.Create(temporary, options);
            CopyIn(files, Path.Combine(temporary, SqliteDatabase.FileName), Path.Combine(directory, SqliteDatabase.FileName));
        }
        finally
        {
            Directory.Delete(temporary, recursive: true);
        }
    }

    private static void CopyIn(IFileSystem files, string realPath, string path)
    {
        using IFile source = PhysicalFileSystem.Instance.Open(realPath, FileOpenMode.Read);
        StorageFiles.WriteWhole(files, path, target => Copy(source, target));
    }

    private static void CopyOut(IFileSystem files, string path, string realPath)
    {
        if (!files.FileExists(path))
            return;
        using IFile source = files.Open(path, FileOpenMode.Read);
        using IFile target = PhysicalFileSystem.Instance.Open(realPath, FileOpenMode.CreateNew);
        Copy(source, target);
    }

    private static void Copy(IFile source, IFile target)
    {
        byte[] buffer = new byte[256 * 1024];
        for (long offset = 0; ;)
        {
            int read = source.Read(buffer, offset);
            if (read == 0)
                return;
            target.Write(buffer.AsSpan(0, read), offset);
            offset += read;
        }
    }
}
