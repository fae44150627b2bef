using ShardForge.Common;

namespace ShardForge.Storage;

/// <summary>The steps with files that every engine takes in the same way.</summary>
internal static class StorageFiles
{
    /// <summary>What is added to the name of a file that is being written.</summary>
    public const string TemporarySuffix = ".new";

    /// <summary>Writes a file that is there whole or not at all: under another name, flushed, renamed, directory flushed.</summary>
    /// <param name="files">Where the file is.</param>
    /// <param name="path">Its name; what had it is replaced.</param>
    /// <param name="write">Writes the content.</param>
    /// <returns>Bytes written.</returns>
    public static long WriteWhole(IFileSystem files, string path, Action<IFile> write)
    {
        string temporary = path + TemporarySuffix;
        long bytes;
        using (IFile file = files.Open(temporary, FileOpenMode.CreateOrTruncate))
        {
            write(file);
            file.Flush();
            bytes = file.Length;
        }

        files.Rename(temporary, path);
        files.FlushDirectory(Path.GetDirectoryName(path)!);
        return bytes;
    }

    /// <summary>Fills the directory of a checkpoint; gives back what it filled of it if that fails.</summary>
    /// <param name="files">Where the directory is.</param>
    /// <param name="directory">Absent or empty.</param>
    /// <param name="fill">Writes and flushes the files of the copy.</param>
    /// <exception cref="ArgumentException">It is neither; nothing was changed.</exception>
    public static void FillCheckpoint(IFileSystem files, string directory, Action fill)
    {
        bool existed = files.DirectoryExists(directory);
        if (files.ListFiles(directory).Count + files.ListDirectories(directory).Count > 0)
            throw new ArgumentException($"The directory of a checkpoint must be absent or empty; {directory} is not. Nothing was changed.", nameof(directory));
        try
        {
            DurableDirectory.Create(files, directory);
            fill();
            files.FlushDirectory(directory);
        }
        catch
        {
            files.DeleteDirectory(directory);
            if (existed)
                files.CreateDirectory(directory);
            throw;
        }
    }
}
