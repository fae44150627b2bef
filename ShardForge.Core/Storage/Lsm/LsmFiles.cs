using ShardForge.Common;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm;

/// <summary>The files of one engine's directory: their names, the open tables, and those that wait to be deleted.</summary>
/// <remarks><code>
/// ENGINE, LOCK         see EngineMarker
/// CURRENT              names the manifest
/// CLOSED               where files ended at a clean close
/// MANIFEST-000001      edits
/// 000002.sst           a table
/// 000003.log           a write-ahead log
/// </code>
/// A number is never used twice. What is there and not named by the manifest is removed at the next open.</remarks>
internal sealed class LsmFiles(IFileSystem fileSystem, string directory, BlockCache cache, LsmCounters counters, Action scheduleDeletes) : TableStore
{
    private readonly Lock _gate = new();
    private readonly Queue<string> _obsolete = new();

    public IFileSystem FileSystem => fileSystem;

    public string Directory => directory;

    public static string TableName(ulong number) => $"{number:D6}.sst";

    /// <summary>Tables that were written outside of an engine and taken in have ids of their own, with the highest bit.</summary>
    public static bool IsExternalTableId(ulong tableId) => tableId >> 63 != 0;

    /// <summary>Whether the values of a table from outside are stored with their expiry: the second highest bit.</summary>
    public static bool HasExpiry(ulong externalTableId) => (externalTableId >> 62 & 1) != 0;

    public static ulong ExternalTableId(ulong hash, bool hasExpiry) => (hash & ~(3UL << 62)) | (1UL << 63) | (hasExpiry ? 1UL << 62 : 0);

    public string TablePath(ulong number) => Path.Combine(directory, TableName(number));

    public string LogPath(ulong number) => Path.Combine(directory, Wal.LogFormat.FileName(number));

    public override TableReader OpenTable(TableFile table)
    {
        string path = TablePath(table.Number);
        if (!fileSystem.FileExists(path))
            throw new CorruptionException(path, 0, "the manifest names this table, and it is missing.");
        IFile file = fileSystem.Open(path, FileOpenMode.Read);
        long bytes = file.Length;
        if (bytes == table.Bytes)
            return TableReader.Open(file, bytes, table.Summary.SmallestSequence, cache, counters);
        file.Dispose();
        throw new CorruptionException(path, bytes, $"the manifest says that this table has {table.Bytes:N0} bytes, and it has {bytes:N0}.");
    }

    public override void DeleteTable(TableFile table) => DeleteLater(TablePath(table.Number));

    public void DeleteLater(string path)
    {
        lock (_gate)
            _obsolete.Enqueue(path);
        scheduleDeletes();
    }

    /// <summary>Deletes what waits for it. Blocks. What cannot be deleted goes at the next open.</summary>
    public void DeleteObsolete()
    {
        while (true)
        {
            string? path;
            lock (_gate)
            {
                if (!_obsolete.TryDequeue(out path))
                    return;
            }

            fileSystem.Delete(path);
        }
    }

    /// <summary>The files of the directory that are an engine's, with their numbers.</summary>
    public List<(string Path, LsmFileKind Kind, ulong Number)> List() => List(fileSystem, directory);

    /// <summary>The same, of a directory that is not open.</summary>
    public static List<(string Path, LsmFileKind Kind, ulong Number)> List(IFileSystem fileSystem, string directory)
    {
        List<(string, LsmFileKind, ulong)> found = [];
        foreach (string path in fileSystem.ListFiles(directory))
        {
            string name = Path.GetFileName(path);
            if (name.EndsWith(".sst", StringComparison.Ordinal) && TryNumber(name.AsSpan(0, name.Length - 4), out ulong number))
                found.Add((path, LsmFileKind.Table, number));
            else if (name.EndsWith(".log", StringComparison.Ordinal) && TryNumber(name.AsSpan(0, name.Length - 4), out number))
                found.Add((path, LsmFileKind.Log, number));
            else if (name.StartsWith("MANIFEST-", StringComparison.Ordinal) && TryNumber(name.AsSpan(9), out number))
                found.Add((path, LsmFileKind.Manifest, number));
        }

        return found;
    }

    private static bool TryNumber(ReadOnlySpan<char> digits, out ulong number) =>
        ulong.TryParse(digits, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out number);
}

internal enum LsmFileKind
{
    Table,
    Log,
    Manifest,
}
