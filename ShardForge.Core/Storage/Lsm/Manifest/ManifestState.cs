using ShardForge.Common;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Manifest;

/// <summary>What all edits of a manifest together say.</summary>
internal sealed class ManifestState
{
    private ManifestState(ulong number, long endOffset)
    {
        Number = number;
        EndOffset = endOffset;
        NextFileNumber = number + 1;
    }

    /// <summary>Of the manifest itself.</summary>
    public ulong Number { get; }

    /// <summary>Behind its last valid record.</summary>
    public long EndOffset { get; }

    public int VersionSuffixBytes { get; private set; }

    public ulong NextFileNumber { get; private set; }

    public ulong LastSequence { get; private set; }

    public ulong LogNumber { get; private set; }

    public Dictionary<(int Level, ulong Number), TableSummary> Tables { get; } = [];

    /// <summary>Reads a manifest. Changes nothing.</summary>
    /// <exception cref="CorruptionException">It is damaged, or its edits contradict each other.</exception>
    public static ManifestState Read(IFileSystem files, string directory, ulong number)
    {
        string path = Path.Combine(directory, ManifestFormat.FileName(number));
        (List<VersionEdit> edits, long endOffset) = ManifestReader.Read(files, path, number);
        ManifestState state = new(number, endOffset) { VersionSuffixBytes = edits[0].VersionSuffixBytes ?? 0 };
        foreach (VersionEdit edit in edits)
            state.Apply(edit, path);
        return state;
    }

    private void Apply(VersionEdit edit, string path)
    {
        foreach ((int level, ulong number) in edit.Removed)
        {
            if (!Tables.Remove((level, number)))
                throw new CorruptionException(path, EndOffset, $"an edit removes table {number} from level {level}, where it is not.");
        }

        foreach ((int level, ulong number, TableSummary summary) in edit.Added)
        {
            if ((uint)level >= LsmOptions.LevelCount || !Tables.TryAdd((level, number), summary))
                throw new CorruptionException(path, EndOffset, $"an edit adds table {number} to level {level}, which cannot be.");
        }

        NextFileNumber = Math.Max(NextFileNumber, edit.NextFileNumber ?? 0);
        LastSequence = Math.Max(LastSequence, edit.LastSequence ?? 0);
        LogNumber = edit.LogNumber ?? LogNumber;
    }
}
