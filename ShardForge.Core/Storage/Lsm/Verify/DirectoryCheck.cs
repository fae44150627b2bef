using ShardForge.Common;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Verify;

/// <summary>Checks all files of a closed directory that count: marker, CURRENT and manifest, each table block by block, the logs.</summary>
internal sealed class DirectoryCheck(IFileSystem files, string path, CancellationToken cancellationToken)
{
    public StorageVerification Verify()
    {
        using ClosedDirectory directory = ClosedDirectory.Open(files, path);
        List<StorageDamage> damage = [.. directory.Damage];
        int fileCount = 3;
        long bytes = directory.Manifest?.EndOffset ?? 0, blocks = 0, entries = 0;
        foreach ((_, ulong number, TableSummary? summary) in directory.Tables)
        {
            TableCheck table = new(files, directory.TablePath(number), number, summary, damage, cancellationToken);
            table.Run(sink: null);
            fileCount++;
            bytes += table.Bytes;
            blocks += table.Blocks;
            entries += table.Entries;
        }

        LogCheck logs = new(directory, damage, cancellationToken);
        if (directory.Manifest is { } manifest)
            logs.Run(manifest.LastSequence, batch: null);
        foreach (ulong number in directory.Logs)
        {
            using IFile file = files.Open(directory.LogPath(number), FileOpenMode.Read);
            bytes += file.Length;
            fileCount++;
        }

        return new StorageVerification { Damage = damage, Files = fileCount, Bytes = bytes, Blocks = blocks + logs.Records, Entries = entries + logs.Operations };
    }
}
