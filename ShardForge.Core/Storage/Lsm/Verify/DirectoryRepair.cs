using ShardForge.Common;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Verify;

/// <summary>Writes what is whole in a closed directory into a new one.</summary>
/// <remarks>
/// 1. Each table is written anew from its whole blocks, entries with their sequence numbers. With a manifest a table keeps its level: it can only have become smaller.
/// 2. Without one, the tables say their age by their sequence numbers only, and are merged into one run. 3. Manifest, CURRENT, marker. 4. The new directory is
/// opened and gets what the logs hold.
/// </remarks>
internal sealed class DirectoryRepair(StorageEngineContext context, string target, CancellationToken cancellationToken)
{
    private readonly IFileSystem _files = context.FileSystem;
    private readonly LsmOptions _options = new();
    private readonly List<StorageDamage> _damage = [];
    private readonly List<(int Level, ulong Number, TableSummary Summary)> _saved = [];
    private ulong _nextNumber = 1, _lastSequence;
    private long _entries, _operations;

    public StorageRepair Run()
    {
        using ClosedDirectory source = ClosedDirectory.Open(_files, context.Directory!);
        _damage.AddRange(source.Damage);
        StorageFiles.FillCheckpoint(_files, target, () => Fill(source));
        return new StorageRepair { Damage = _damage, EntriesSaved = _entries, OperationsSaved = _operations, ManifestWasIntact = source.Manifest is not null };
    }

    private void Fill(ClosedDirectory source)
    {
        _lastSequence = source.Manifest?.LastSequence ?? 0;
        int suffixBytes = source.Manifest?.VersionSuffixBytes ?? context.VersionSuffixBytes;
        foreach ((int level, ulong number, TableSummary? summary) in source.Tables)
            SaveTable(source, level, number, summary, suffixBytes);
        if (source.Manifest is null)
            MergeSaved(suffixBytes);
        WriteManifest(suffixBytes, source.HasExpiry ? LsmEngine.ExpiringEngineName : LsmEngine.EngineName);
        SaveLogs(source, suffixBytes);
    }

    private void SaveTable(ClosedDirectory source, int level, ulong number, TableSummary? summary, int suffixBytes)
    {
        ulong targetNumber = _nextNumber++;
        string path = Path.Combine(target, LsmFiles.TableName(targetNumber));
        using IFile file = _files.Open(path, FileOpenMode.CreateNew);
        TableWriter writer = new(file, targetNumber, _options, suffixBytes, static _ => { });
        TableCheck table = new(_files, source.TablePath(number), number, summary, _damage, cancellationToken);
        table.Run(writer.Add);
        table.Tombstones.Sort(static (left, right) =>
        {
            int order = left.Start.AsSpan().SequenceCompareTo(right.Start);
            return order != 0 ? order : right.Sequence.CompareTo(left.Sequence);
        });
        writer.AddTombstones(table.Tombstones);
        _entries += table.Entries;
        if (writer.IsEmpty)
        {
            _files.Delete(path);
            return;
        }

        TableSummary saved = writer.Finish();
        _lastSequence = Math.Max(_lastSequence, saved.LargestSequence);
        _saved.Add((level, targetNumber, saved));
    }

    private void MergeSaved(int suffixBytes)
    {
        List<(int, ulong, TableSummary)> merged = new SavedTables(_files, target, _options, suffixBytes, _saved, cancellationToken).Merge(ref _nextNumber);
        foreach ((_, ulong number, _) in _saved)
            _files.Delete(Path.Combine(target, LsmFiles.TableName(number)));
        _saved.Clear();
        _saved.AddRange(merged);
    }

    private void WriteManifest(int suffixBytes, string marker)
    {
        ulong number = _nextNumber++;
        VersionEdit edit = new() { NextFileNumber = _nextNumber, LastSequence = _lastSequence, LogNumber = number, VersionSuffixBytes = suffixBytes };
        edit.Added.AddRange(_saved);
        ManifestWriter.Create(_files, Path.Combine(target, ManifestFormat.FileName(number)), number, edit).Dispose();
        CurrentFile.Write(_files, target, number);
        EngineMarker.Write(_files, target, marker, LsmEngine.FormatVersion);
    }

    private void SaveLogs(ClosedDirectory source, int suffixBytes)
    {
        StorageEngineContext alone = new() { Directory = target, FileSystem = _files, LoggerFactory = context.LoggerFactory, Name = context.Name, VersionSuffixBytes = suffixBytes };
        LsmEngine engine = LsmEngine.Open(alone, source.HasExpiry ? _options with { TimeToLive = TimeSpan.MaxValue } : _options, cancellationToken);
        try
        {
            LogCheck logs = new(source, _damage, cancellationToken);
            if (source.Logs.Count > 0)
                logs.Run(_lastSequence, batch => Wait(() => engine.WriteAsync(batch, StorageDurability.Buffered, cancellationToken)));
            _operations = logs.Operations;
            Wait(() => engine.FlushAsync(cancellationToken));
        }
        finally
        {
            Wait(engine.DisposeAsync);
        }
    }

    /// <summary>On a thread of its own, so nothing on the pool waits.</summary>
    private static void Wait(Func<ValueTask> work) => Blocking.Run(async () =>
    {
        await work().ConfigureAwait(false);
        return true;
    });
}
