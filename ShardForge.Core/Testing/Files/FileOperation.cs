namespace ShardForge.Testing;

/// <summary>What a call of the file system does.</summary>
public enum FileOperationKind
{
    /// <summary>Opens a file, perhaps creates it.</summary>
    Open,

    /// <summary>Reads bytes.</summary>
    Read,

    /// <summary>Writes bytes.</summary>
    Write,

    /// <summary>Sets the length or preallocates.</summary>
    Resize,

    /// <summary>Makes a file's bytes durable.</summary>
    Flush,

    /// <summary>Maps a file.</summary>
    Map,

    /// <summary>Renames a file or a directory.</summary>
    Rename,

    /// <summary>Gives a file a second name.</summary>
    Link,

    /// <summary>Removes a file or a directory.</summary>
    Delete,

    /// <summary>Creates a directory.</summary>
    CreateDirectory,

    /// <summary>Makes the names in a directory durable.</summary>
    FlushDirectory,

    /// <summary>Asks for names, existence, locks or free space.</summary>
    Look,
}

/// <summary>How an operation fails.</summary>
public enum FileFault
{
    /// <summary><see cref="IOException"/>. A write may have written its first half; a flush that fails has lost the pages, as on Linux: they read back, a later flush succeeds, and after a power cut they are gone.</summary>
    Error,

    /// <summary><see cref="UnauthorizedAccessException"/>.</summary>
    Denied,

    /// <summary>The <see cref="IOException"/> of a full disk.</summary>
    DiskFull,

    /// <summary>The power goes at this operation: it and all later ones throw <see cref="IOException"/> until <see cref="FaultyFileSystem.PowerOn"/>.</summary>
    PowerOff,
}

/// <summary>One call of the file system, before it is carried out.</summary>
/// <param name="Number">Counts from 1 over the file system's whole life; <see cref="FileOperationKind.Look"/> and <see cref="FileOperationKind.Read"/> count too.</param>
/// <param name="Kind">What it does.</param>
/// <param name="Path">The file or directory.</param>
/// <param name="NewPath">The second path of a rename or link.</param>
/// <param name="Offset">Where a read or write starts; the new length of a resize.</param>
/// <param name="Bytes">How many bytes are read or written.</param>
public readonly record struct FileOperation(long Number, FileOperationKind Kind, string Path, string? NewPath, long Offset, int Bytes)
{
    /// <summary>One line of a text test, with the last part of each path.</summary>
    public override string ToString()
    {
        string name = System.IO.Path.GetFileName(Path);
        return Kind switch
        {
            FileOperationKind.Read or FileOperationKind.Write => $"{Lower(Kind)} {name} {Offset}+{Bytes}",
            FileOperationKind.Resize => $"resize {name} {Offset}",
            FileOperationKind.Rename or FileOperationKind.Link => $"{Lower(Kind)} {name} {System.IO.Path.GetFileName(NewPath)}",
            _ => $"{Lower(Kind)} {name}",
        };
    }

    private static string Lower(FileOperationKind kind) => kind switch
    {
        FileOperationKind.CreateDirectory => "create-directory",
        FileOperationKind.FlushDirectory => "flush-directory",
        _ => kind.ToString().ToLowerInvariant(),
    };
}
