namespace ShardForge.Common;

/// <summary>The seam to files: everything but SQLite's own files goes through it, so that a test can lose, tear, fail and delay.</summary>
/// <remarks>
/// Paths are absolute or relative to the process, as in <see cref="System.IO"/>; separators as of the platform. All calls block
/// and are safe for concurrent use. Errors are those of <see cref="System.IO"/>: <see cref="IOException"/> and its kinds,
/// <see cref="UnauthorizedAccessException"/>. What survives a power cut: the bytes of a file up to its last
/// <see cref="IFile.Flush"/>, and a name that was created, renamed, linked or removed before the last
/// <see cref="FlushDirectory"/> of its directory. Nothing else is promised, not even order.
/// </remarks>
public interface IFileSystem
{
    /// <summary>Opens a file for positional reads and appends.</summary>
    /// <param name="path">The file.</param>
    /// <param name="mode">What is wanted of it.</param>
    IFile Open(string path, FileOpenMode mode);

    /// <summary>Whether a file of that name is there.</summary>
    bool FileExists(string path);

    /// <summary>Whether a directory of that name is there.</summary>
    bool DirectoryExists(string path);

    /// <summary>Creates a directory and its parents; nothing happens where it is there already.</summary>
    void CreateDirectory(string path);

    /// <summary>Full paths of the files directly in a directory, in no order. Empty where the directory is missing.</summary>
    IReadOnlyList<string> ListFiles(string path);

    /// <summary>Full paths of the directories directly in a directory, in no order. Empty where the directory is missing.</summary>
    IReadOnlyList<string> ListDirectories(string path);

    /// <summary>Gives a file a new name, replacing what had it, atomically. Durable after <see cref="FlushDirectory"/> of both directories.</summary>
    void Rename(string path, string newPath);

    /// <summary>Gives a directory a new name; the new name must be free.</summary>
    void RenameDirectory(string path, string newPath);

    /// <summary>Gives a file a second name; the new name must be free.</summary>
    void HardLink(string path, string newPath);

    /// <summary>Removes a file; nothing happens where it is not there.</summary>
    void Delete(string path);

    /// <summary>Removes a directory with all it holds; nothing happens where it is not there.</summary>
    void DeleteDirectory(string path);

    /// <summary>Makes the names in a directory durable.</summary>
    void FlushDirectory(string path);

    /// <summary>Takes the lock that keeps other processes, and other owners in this one, out; released by disposing (and by the end of the process).</summary>
    /// <returns>Null: somebody else has it.</returns>
    IDisposable? TryLock(string path);

    /// <summary>Bytes that can still be written to the volume that holds <paramref name="path"/>.</summary>
    long GetFreeBytes(string path);
}

/// <summary>What is wanted of a file that is opened.</summary>
public enum FileOpenMode
{
    /// <summary>Read only; it must exist.</summary>
    Read,

    /// <summary>Read and write; it must exist.</summary>
    ReadWrite,

    /// <summary>Read and write; it must not exist.</summary>
    CreateNew,

    /// <summary>Read and write; an existing one is emptied.</summary>
    CreateOrTruncate,
}

/// <summary>An open file. Positional, so safe for concurrent reads; writes of one region have one owner.</summary>
public interface IFile : IDisposable
{
    /// <summary>The path it was opened by.</summary>
    string Path { get; }

    /// <summary>Length in bytes.</summary>
    long Length { get; }

    /// <summary>Reads up to <paramref name="buffer"/>'s length from <paramref name="offset"/>; fewer bytes only at the end of the file.</summary>
    /// <returns>Bytes read.</returns>
    int Read(Span<byte> buffer, long offset);

    /// <summary>Writes all of <paramref name="bytes"/> at <paramref name="offset"/>, growing the file where needed.</summary>
    void Write(ReadOnlySpan<byte> bytes, long offset);

    /// <summary>Sets the length; new bytes are zero.</summary>
    void SetLength(long bytes);

    /// <summary>Makes sure that <paramref name="bytes"/> bytes are allocated on the disk and zero where nothing was written, so that later writes neither grow the file nor meet a full disk.</summary>
    void Preallocate(long bytes);

    /// <summary>Makes the file's bytes and length durable. A failure is final: never flush again and call it durable (R35).</summary>
    void Flush();

    /// <summary>Maps the first <paramref name="bytes"/> bytes of a zero-filled file, shared, for reading and writing. What is stored there survives the end of the process, and a power cut after the next <see cref="Flush"/>.</summary>
    IMappedRegion Map(long bytes);
}

/// <summary>A mapped part of a file; unmapped by disposing.</summary>
public interface IMappedRegion : IDisposable
{
    /// <summary>First byte; lives until the region is disposed.</summary>
    nint Address { get; }

    /// <summary>Length in bytes.</summary>
    long Length { get; }
}
