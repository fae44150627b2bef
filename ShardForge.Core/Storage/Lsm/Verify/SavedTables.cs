using ShardForge.Common;
using ShardForge.Storage.Lsm.Compaction;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Reads;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Verify;

/// <summary>Merges tables of which nobody knows the level into one run of the last level, by the sequence numbers of their entries.</summary>
internal sealed class SavedTables(IFileSystem files, string directory, LsmOptions options, int suffixBytes, List<(int Level, ulong Number, TableSummary Summary)> tables, CancellationToken cancellationToken)
{
    public List<(int Level, ulong Number, TableSummary Summary)> Merge(ref ulong nextNumber)
    {
        List<(int, ulong, TableSummary)> merged = [];
        using BlockCache cache = new(1024 * 1024);
        LsmFiles store = new(files, directory, cache, new LsmCounters(), static () => { });
        TableFile[] inputs = [.. tables.Select(table => new TableFile(store, table.Number, table.Summary, suffixBytes))];
        LsmVersion version = new([inputs]);
        try
        {
            List<EntryCursor> cursors = [];
            ReadState.AddTableCursors(cursors, [inputs], fillCache: false);
            using MergeCursor entries = new(cursors.ToArray());
            ulong next = nextNumber;
            IFile? file = null;
            MergeTask task = new() { Snapshots = [], DropsDeletes = true, ZeroesSequences = true, TableBytes = options.TableBytes, VersionSuffixBytes = suffixBytes };
            TableMerge merge = new(task, () =>
            {
                ulong number = next++;
                file = files.Open(Path.Combine(directory, LsmFiles.TableName(number)), FileOpenMode.CreateNew);
                return (number, new TableWriter(file, number, options, suffixBytes, static _ => { }));
            }, (number, summary) =>
            {
                merged.Add((LsmOptions.LevelCount - 1, number, summary));
                file!.Dispose();
            });
            merge.Run(entries, RangeTombstoneSet.Build([.. inputs.Where(static table => table.HasTombstones).SelectMany(static table => table.Reader.Tombstones)]), cancellationToken);
            nextNumber = next;
            return merged;
        }
        finally
        {
            version.Release();
        }
    }
}
