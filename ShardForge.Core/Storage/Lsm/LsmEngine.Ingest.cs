using ShardForge.Common;
using ShardForge.Storage.Lsm.Compaction;
using ShardForge.Storage.Lsm.Ingestion;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Memtables;
using ShardForge.Storage.Lsm.Reads;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm;

/// <summary>Takes in sorted tables from outside.</summary>
/// <remarks>
/// 1. The files are checked and get a second name in the directory. 2. Writers are held, and what is in memtables is flushed (R32): from here on everything older is in
/// tables. 3. The tables get the next sequence number (one for all; it is in the manifest, not in the files), and the deepest level above which nothing overlaps them.
/// 4. One edit; with it the number becomes visible, and writers go on. A crash before the edit leaves files that nobody names.
/// </remarks>
internal sealed partial class LsmEngine
{
    private readonly StorageThreads _threads = new();

    // Guarded by the write latch.
    private bool _writersHeld;

    public ValueTask IngestAsync(IReadOnlyList<string> paths, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        ArgumentNullException.ThrowIfNull(paths);
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled(cancellationToken);
        string[] own = [.. paths];
        return own.Length == 0 ? ValueTask.CompletedTask : new(IngestTablesAsync(own, cancellationToken));
    }

    private async Task IngestTablesAsync(string[] paths, CancellationToken cancellationToken)
    {
        ThrowIfFailed();
        List<ExternalTable> tables = [];
        bool done = false;
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token, cancellationToken);
        try
        {
            await _threads.RunAsync($"{_context.Name} ingest", () => LinkTables(paths, tables, stop.Token)).ConfigureAwait(false);
            await HoldWritersAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                await FlushMemtableAsync(cancellationToken).ConfigureAwait(false);
                await _threads.RunAsync($"{_context.Name} ingest", () => InstallTables(tables)).ConfigureAwait(false);
                done = true;
                OnProgress();
            }
            finally
            {
                lock (_writeLatch)
                    _writersHeld = false;
                SignalRoom();
            }
        }
        catch (OperationCanceledException error) when (!cancellationToken.IsCancellationRequested)
        {
            throw new ObjectDisposedException($"{_context.Name} was disposed during the ingestion; nothing is left of it.", error);
        }
        catch (IOException error) when (DiskErrors.IsDiskFull(error) && !_versions.IsEditInDoubt)
        {
            throw Refused(error);
        }
        finally
        {
            if (!done && !_versions.IsEditInDoubt)
            {
                foreach (ExternalTable table in tables)
                    _files.DeleteLater(table.Path);
            }
        }
    }

    private void LinkTables(string[] paths, List<ExternalTable> tables, CancellationToken cancellationToken)
    {
        foreach (string path in paths)
        {
            (TableSummary summary, int suffixBytes) = ExternalTable.Check(_fileSystem, path, _options.TimeToLive is not null, cancellationToken);
            if (suffixBytes != SuffixBytes)
                throw new ArgumentException($"{path} was written for keys with a version suffix of {suffixBytes} bytes; this engine's have {SuffixBytes}. Nothing was written.", nameof(paths));
            ulong number = _versions.NewFileNumber();
            ExternalTable table = new(number, _files.TablePath(number), summary);
            tables.Add(table);
            LinkOrCopy(path, table.Path, cancellationToken);
        }

        if (!TableRange.AreDisjoint(tables.Select(table => table.ToTable(_files, SuffixBytes))))
            throw new ArgumentException("Two of the tables share a range of keys. Nothing was written.", nameof(paths));
        _fileSystem.FlushDirectory(_files.Directory);
    }

    private async Task HoldWritersAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            Task signal = RoomSignal();
            lock (_writeLatch)
            {
                ThrowIfDisposed();
                ThrowIfFailed();
                if (!_writersHeld)
                {
                    _writersHeld = true;
                    return;
                }
            }

            await signal.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private void InstallTables(List<ExternalTable> tables)
    {
        // Writers are held, so this is where the sequence stands until the end.
        ulong sequence = Volatile.Read(ref VisibleSequence) + 1;
        VersionEdit edit = new() { LastSequence = sequence };
        Memtable? left = StartLogOfIngestion(edit);
        List<CompactionPick> places = PlaceTables(tables, sequence, edit);
        try
        {
            (byte[] start, byte[] end) = TableRange.Of(tables.Select(table => table.ToTable(_files, suffixBytes: 0)));
            _counters.AddDiskBytes(_versions.Apply(edit, version => InstallIngested(version, sequence, start, end)));
            if (left is not null)
                _log!.Release(edit.LogNumber!.Value);
        }
        catch (Exception error) when (!DiskErrors.IsDiskFull(error) || _versions.IsEditInDoubt)
        {
            Fail(error);
            throw;
        }
        finally
        {
            left?.Release();
            lock (_gate)
            {
                foreach (CompactionPick place in places)
                    _running.Remove(place);
            }
        }

        foreach (ExternalTable table in tables)
            _compactionCounters.AddIngested(table.Summary.Bytes);
    }

    /// <summary>The log goes on in a new file: the one so far has no writes left, and could say that the ingestion's number is the next batch's.</summary>
    /// <returns>The empty memtable that had it; null: no log.</returns>
    private Memtable? StartLogOfIngestion(VersionEdit edit)
    {
        if (_log is null)
            return null;
        lock (_writeLatch)
        {
            Invariant.Require(_active.IsEmpty);
            ulong number = _versions.NewFileNumber();
            _log.Roll(number, isBusy: false);
            edit.LogNumber = number;
            Memtable left = _active, next = NewMemtable(number);
            ReadState? old;
            lock (_gate)
            {
                _active = next;
                old = InstallStateLocked();
            }

            old?.Release();
            return left;
        }
    }

    /// <summary>Finds each table its level.</summary>
    /// <returns>The places, which no compaction may write into until the edit is made; they count as compactions that run.</returns>
    private List<CompactionPick> PlaceTables(List<ExternalTable> tables, ulong sequence, VersionEdit edit)
    {
        List<CompactionPick> places = [];
        lock (_gate)
        {
            LsmVersion version = _versions.Current;
            foreach (ExternalTable table in tables)
            {
                TableFile file = table.ToTable(_files, SuffixBytes);
                int level = DeepestFreeLevel(version, file, _running);
                places.Add(new([new(level, [file])], level, [], IsMove: false));
                edit.Added.Add((level, table.Number, table.At(sequence)));
            }

            _running.AddRange(places);
        }

        return places;
    }

    /// <summary>The deepest level above which, and in which, nothing overlaps: nothing older of its keys is there, and nothing is on its way there.</summary>
    private static int DeepestFreeLevel(LsmVersion version, TableFile table, List<CompactionPick> running)
    {
        if (running.Exists(pick => pick.Overlaps(table.GroupStart, table.GroupEnd)) ||
            Array.Exists(version.Levels[0], other => other.OverlapsGroups(table.GroupStart, table.GroupEnd)))
        {
            return 0;
        }

        int level = 0;
        while (level + 1 < version.Levels.Length && TableRange.Overlapping(version.Levels[level + 1], table.GroupStart, table.GroupEnd).IsEmpty)
            level++;
        return level;
    }

    private void InstallIngested(LsmVersion version, ulong sequence, byte[] start, byte[] end)
    {
        // For open transactions, all of the range is written: coarse, and on the safe side.
        StorageBatch range = new();
        range.DeleteRange(start, end);
        ReadState? old;
        lock (_writeLatch)
        {
            _log?.SkipSequence(sequence);
            _history.Record(range.Encoded, (long)sequence);
            lock (_gate)
            {
                old = InstallStateLocked();
                _flushedSequence = sequence;
            }

            // Last: from here on readers see all of it.
            Volatile.Write(ref VisibleSequence, sequence);
        }

        old?.Release();
        version.Release();
    }
}
