namespace ShardForge.Common;

/// <summary>Directories whose names survive a power cut.</summary>
internal static class DurableDirectory
{
    /// <summary>
    /// Creates a directory with its parents; the names of those that were missing are durable when the call returns. One that was there already is taken as
    /// durable, so two owners must not create a common parent at the same time: whoever opens a node creates those first.
    /// </summary>
    public static void Create(IFileSystem files, string directory)
    {
        List<string> created = [];
        for (string? missing = Path.GetFullPath(directory); missing is not null && !files.DirectoryExists(missing); missing = Path.GetDirectoryName(missing))
            created.Add(missing);
        if (created.Count == 0)
            return;
        files.CreateDirectory(directory);
        foreach (string path in created)
        {
            if (Path.GetDirectoryName(path) is { } parent)
                files.FlushDirectory(parent);
        }
    }
}
