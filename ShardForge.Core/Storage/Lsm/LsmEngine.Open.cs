using ShardForge.Common;
using ShardForge.Storage.Lsm.Compaction;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Memtables;
using ShardForge.Storage.Lsm.Reads;
using ShardForge.Storage.Lsm.Table;
using ShardForge.Storage.Lsm.Wal;

namespace ShardForge.Storage.Lsm;

/// <summary>Open and recovery.</summary>
/// <remarks>
/// 1. The directory is locked and is this engine's. 2. CURRENT leads to the manifest, that to the tables; each is there and as long as it should be.
/// 3. The logs are read; nothing was changed so far, and what is wrong is thrown. 4. What the logs hold is written to tables of level 0; one edit names
/// them and makes the logs obsolete. A crash before it leaves tables that no edit names, and the logs. 5. What is not named is removed.
/// </remarks>
internal sealed partial class LsmEngine
{
    public static LsmEngine Open(StorageEngineContext context, LsmOptions options, CancellationToken cancellationToken)
    {
        LsmEngine engine = new(context, options);
        try
        {
            engine.Recover(cancellationToken);
            return engine;
        }
        catch
        {
            engine._disposed = 1;
            engine._log?.Dispose();
            engine.DeleteLeftovers();
            engine.Release();
            throw;
        }
    }

    private void Recover(CancellationToken cancellationToken)
    {
        string directory = _files.Directory;
        _directoryLock = EngineMarker.Acquire(_fileSystem, directory, MarkerName, FormatVersion);
        List<(string Path, LsmFileKind Kind, ulong Number)> found = _files.List();
        long replayed = 0;
        if (_fileSystem.FileExists(Path.Combine(directory, CurrentFile.Name)))
            replayed = RecoverExisting(found, cancellationToken);
        else
            CreateNew(found);

        cancellationToken.ThrowIfCancellationRequested();
        RemoveUnnamed(found);
        VisibleSequence = _flushedSequence = _versions.LastSequence;
        ulong logNumber = 0;
        if (_context.WriteAheadLog)
        {
            logNumber = _versions.NewFileNumber();
            LogFilePool pool = new(_fileSystem, directory, _versions.NewFileNumber, _context.Name, _options.MemtableBytes);
            _log = new WriteAheadLog(pool, logNumber, _versions.NewFileNumber, VisibleSequence + 1, _context.Name, _writeLatch, _counters, Fail);
        }

        _active = NewMemtable(logNumber);
        _state = new ReadState(_active, [], _versions.Current, SuffixBytes);
        Volatile.Write(ref _levelZeroCount, CompactionPicker.LevelZeroLength(_versions.Current, _options));
        if (SuffixBytes != _context.VersionSuffixBytes)
            LsmLog.SuffixDiffers(_logger, _context.Name, SuffixBytes, _context.VersionSuffixBytes);
        LsmLog.Opened(_logger, _context.Name, _versions.Current.TableCount, _versions.Current.Bytes, replayed);
        lock (_gate)
        {
            _closing = false;
            ScheduleCompactionLocked();
        }
    }

    /// <summary>Before the directory's lock goes: the numbers of these files may be given again.</summary>
    private void DeleteLeftovers()
    {
        try
        {
            _files.DeleteObsolete();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            LsmLog.NotDeleted(_logger, error, _context.Name);
        }
    }

    private void CreateNew(List<(string Path, LsmFileKind Kind, ulong Number)> found)
    {
        // A first open that was cut off leaves at most a manifest; tables and logs come after CURRENT.
        foreach ((string path, LsmFileKind kind, _) in found)
        {
            if (kind != LsmFileKind.Manifest)
                throw new CorruptionException(Path.Combine(_files.Directory, CurrentFile.Name), 0, $"it is missing, and {Path.GetFileName(path)} says that it was there.");
        }

        if (_context.VersionSuffixBytes is < 0 or > StorageBatch.KeyBytesMax)
            throw new ConfigurationException(nameof(StorageEngineContext.VersionSuffixBytes), $"A version suffix of {_context.VersionSuffixBytes:N0} bytes cannot be; allowed are 0 to {StorageBatch.KeyBytesMax:N0}.");
        _versions = VersionSet.Create(_fileSystem, _files.Directory, _files, _context.VersionSuffixBytes);
    }

    private long RecoverExisting(List<(string Path, LsmFileKind Kind, ulong Number)> found, CancellationToken cancellationToken)
    {
        (_versions, ulong manifestNumber, long manifestEnd) = VersionSet.Load(_fileSystem, _files.Directory, _files);
        CleanEnd? clean = CurrentFile.ReadClosed(_fileSystem, _files.Directory);
        if (clean is { } end && end.ManifestNumber == manifestNumber && manifestEnd < end.ManifestEnd)
        {
            throw new CorruptionException(Path.Combine(_files.Directory, ManifestFormat.FileName(manifestNumber)), manifestEnd,
                $"valid edits end here, and there were {end.ManifestEnd:N0} bytes when it was closed.");
        }

        CheckTables();
        ulong firstLog = _versions.LogNumber;
        ulong[] logs = [.. found.Where(file => file.Kind == LsmFileKind.Log && file.Number >= firstLog).Select(file => file.Number).Order()];
        if (clean is { LogNumber: > 0 } closed && closed.LogNumber >= firstLog && closed.ManifestNumber == manifestNumber && !logs.Contains(closed.LogNumber))
            throw new CorruptionException(_files.LogPath(closed.LogNumber), 0, "the log is missing; it was there when the engine was closed.");
        foreach ((_, _, ulong number) in found)
            _versions.NoteFileNumber(number);

        VersionEdit edit = new() { LastSequence = _versions.LastSequence };
        long replayed = 0;
        try
        {
            replayed = ReplayLogs(logs, clean is { LogNumber: > 0 } known ? (known.LogNumber, known.LogEnd) : null, edit, cancellationToken);
            _versions.Continue(manifestNumber, manifestEnd);
            if (logs.Length > 0)
            {
                if (edit.Added.Count > 0)
                    _fileSystem.FlushDirectory(_files.Directory);
                edit.LogNumber = _versions.NewFileNumber();
                _counters.AddDiskBytes(_versions.Apply(edit, static version => version.Release()));
            }
        }
        catch
        {
            DeleteOutputs(edit);
            throw;
        }

        return replayed;
    }

    private void CheckTables()
    {
        foreach (TableFile[] level in _versions.Current.Levels)
        {
            foreach (TableFile table in level)
            {
                string path = _files.TablePath(table.Number);
                if (!_fileSystem.FileExists(path))
                    throw new CorruptionException(path, 0, "the manifest names this table, and it is missing.");
                using IFile file = _fileSystem.Open(path, FileOpenMode.Read);
                if (file.Length != table.Bytes)
                    throw new CorruptionException(path, file.Length, $"the manifest says that this table has {table.Bytes:N0} bytes, and it has {file.Length:N0}.");
            }
        }
    }

    private long ReplayLogs(ulong[] logs, (ulong, long)? cleanLog, VersionEdit edit, CancellationToken cancellationToken)
    {
        long replayed = 0;
        Memtable memtable = NewMemtable(logNumber: 0);
        try
        {
            new LogRecovery(_fileSystem, _files.Directory).Run(logs, _versions.LastSequence + 1, cleanLog, (sequence, payload) =>
            {
                cancellationToken.ThrowIfCancellationRequested();
                if (memtable.UsedBytes >= _shared.MemtableBytes(_options))
                {
                    WriteTable(memtable, edit);
                    memtable.Release();
                    memtable = NewMemtable(logNumber: 0);
                }

                int count = memtable.Apply(payload, sequence);
                edit.LastSequence = memtable.LastSequence;
                replayed += count;
                return count;
            });
            if (!memtable.IsEmpty)
                WriteTable(memtable, edit);
        }
        finally
        {
            memtable.Release();
        }

        return replayed;
    }

    private void RemoveUnnamed(List<(string Path, LsmFileKind Kind, ulong Number)> found)
    {
        HashSet<ulong> tables = [.. _versions.Current.Levels.SelectMany(level => level).Select(table => table.Number)];
        foreach ((string path, LsmFileKind kind, ulong number) in found)
        {
            bool named = kind switch
            {
                LsmFileKind.Table => tables.Contains(number),
                LsmFileKind.Log => number >= _versions.LogNumber,
                _ => number == _versions.ManifestNumber,
            };
            if (!named)
                _fileSystem.Delete(path);
        }
    }

    private Memtable NewMemtable(ulong logNumber) => new(_shared.Chunks, logNumber);
}
