using ShardForge.Common;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Table;
using ShardForge.Storage.Lsm.Verify;

namespace ShardForge.Storage.Lsm.Ingestion;

/// <summary>A table from outside, checked and with a second name in the engine's directory.</summary>
/// <param name="Number">Its number in the engine.</param>
/// <param name="Path">In the engine's directory.</param>
/// <param name="Summary">Still with sequence 0.</param>
internal sealed record ExternalTable(ulong Number, string Path, TableSummary Summary)
{
    /// <summary>Reads and checks all of a file.</summary>
    /// <exception cref="ArgumentException">It is no table from outside.</exception>
    /// <exception cref="CorruptionException">It is damaged.</exception>
    public static (TableSummary Summary, int VersionSuffixBytes) Check(IFileSystem files, string path, bool hasExpiry, CancellationToken cancellationToken)
    {
        if (!files.FileExists(path))
            throw new ArgumentException($"{path} is missing. Nothing was written.", nameof(path));
        TableFooter footer;
        long bytes;
        using (IFile file = files.Open(path, FileOpenMode.Read))
        {
            bytes = file.Length;
            footer = TableFormat.ReadFooter(file, bytes);
        }

        if (!LsmFiles.IsExternalTableId(footer.TableId))
            throw new ArgumentException($"{path} is an engine's own table and cannot be taken in: its entries have sequence numbers of that engine. Nothing was written.", nameof(path));
        if (LsmFiles.HasExpiry(footer.TableId) != hasExpiry)
            throw new ArgumentException($"{path} was written {(hasExpiry ? "without" : "with")} a time to live, and the engine's values are stored {(hasExpiry ? "with" : "without")} one. Nothing was written.", nameof(path));
        List<StorageDamage> damage = [];
        byte[]? smallest = null;
        byte[] largest = [];
        long deletes = 0;
        TableCheck check = new(files, path, footer.TableId, summary: null, damage, cancellationToken);
        check.Run((key, trailer, _) =>
        {
            if (EntryTrailer.Sequence(trailer) != 0)
                damage.Add(new(path, 0, "an entry has a sequence number."));
            smallest ??= key.ToArray();
            largest = key.ToArray();
            deletes += EntryTrailer.Kind(trailer) == EntryKind.Delete ? 1 : 0;
        });
        if (damage.Count > 0)
            throw new CorruptionException(path, damage[0].Offset, damage[0].Reason);
        if (smallest is null || check.Tombstones.Count > 0)
            throw new ArgumentException($"{path} has no entries, or range tombstones. Nothing was written.", nameof(path));
        return (new TableSummary(bytes, smallest, largest, LargestIsExclusive: false, 0, 0, check.Entries, deletes, 0), check.VersionSuffixBytes);
    }

    /// <summary>As the manifest would name it.</summary>
    public TableFile ToTable(TableStore store, int suffixBytes) => new(store, Number, Summary, suffixBytes);

    /// <summary>What the manifest keeps: all of its entries have the number of their ingestion.</summary>
    public TableSummary At(ulong sequence) => Summary with { SmallestSequence = sequence, LargestSequence = sequence };
}
