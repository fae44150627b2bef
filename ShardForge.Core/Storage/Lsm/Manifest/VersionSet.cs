using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Manifest;

/// <summary>Which tables count: the present version, the manifest that says so, and the numbers that files get.</summary>
/// <remarks>
/// Parts: <see cref="VersionEdit"/> → <see cref="ManifestWriter"/> → (disk) → <see cref="ManifestReader"/> → <see cref="LsmVersion"/> → <see cref="TableFile"/>.
/// An edit is durable before it is installed. Threads: <see cref="Apply"/> blocks for the disk and has its own latch, which only background
/// threads and the open take; it is the outermost one. <see cref="Current"/> may be read under the engine's latch.
/// </remarks>
internal sealed class VersionSet : IDisposable
{
    /// <summary>Above this a new manifest is started, with one edit that says everything.</summary>
    private const long ManifestBytesMax = 4 * 1024 * 1024;

    private readonly IFileSystem _files;
    private readonly string _directory;
    private readonly TableStore _store;
    private readonly Lock _applyGate = new();
    private ManifestWriter? _manifest;
    private LsmVersion _current;
    private ulong _nextFileNumber = 1;
    private ulong _lastSequence, _logNumber;

    private VersionSet(IFileSystem files, string directory, TableStore store, int suffixBytes)
    {
        _files = files;
        _directory = directory;
        _store = store;
        VersionSuffixBytes = suffixBytes;
        _current = new LsmVersion(EmptyLevels());
    }

    public int VersionSuffixBytes { get; private set; }

    /// <summary>The version that counts; whoever keeps it adds a reference.</summary>
    public LsmVersion Current => Volatile.Read(ref _current);

    /// <summary>Every table's entries are at or below it.</summary>
    public ulong LastSequence => Volatile.Read(ref _lastSequence);

    /// <summary>Write-ahead logs below it are not needed.</summary>
    public ulong LogNumber => Volatile.Read(ref _logNumber);

    public ulong ManifestNumber => _manifest!.Number;

    public long ManifestEndOffset => _manifest!.EndOffset;

    /// <summary>See <see cref="ManifestWriter.IsInDoubt"/>.</summary>
    public bool IsEditInDoubt => _manifest is { IsInDoubt: true };

    public long ManifestDurableOffset => _manifest!.DurableOffset;

    /// <summary>Starts a directory: an empty version, durable when it returns.</summary>
    public static VersionSet Create(IFileSystem files, string directory, TableStore store, int suffixBytes)
    {
        VersionSet set = new(files, directory, store, suffixBytes);
        set.StartManifest();
        return set;
    }

    /// <summary>Reads the directory's version. Changes nothing.</summary>
    public static (VersionSet Set, ulong ManifestNumber, long EndOffset) Load(IFileSystem files, string directory, TableStore store)
    {
        ManifestState state = ManifestState.Read(files, directory, CurrentFile.Read(files, directory));
        VersionSet set = new(files, directory, store, state.VersionSuffixBytes)
        {
            _nextFileNumber = state.NextFileNumber,
            _lastSequence = state.LastSequence,
            _logNumber = state.LogNumber,
        };
        TableFile[][] levels = EmptyLevels();
        for (int level = 0; level < levels.Length; level++)
        {
            levels[level] = Sort(level, state.Tables.Where(table => table.Key.Level == level)
                .Select(table => new TableFile(store, table.Key.Number, table.Value, state.VersionSuffixBytes)));
        }

        set._current = new LsmVersion(levels);
        return (set, state.Number, state.EndOffset);
    }

    /// <summary>Goes on with the manifest that was read. Its content is durable when it returns.</summary>
    public void Continue(ulong manifestNumber, long endOffset) =>
        _manifest = ManifestWriter.Continue(_files, Path.Combine(_directory, ManifestFormat.FileName(manifestNumber)), manifestNumber, endOffset);

    /// <summary>The number that the next new file gets, or a later one.</summary>
    public ulong NextFileNumber => Volatile.Read(ref _nextFileNumber);

    public ulong NewFileNumber() => Interlocked.Increment(ref _nextFileNumber) - 1;

    /// <summary>Numbers up to this one are taken by files that are there.</summary>
    public void NoteFileNumber(ulong number)
    {
        if (number >= _nextFileNumber)
            _nextFileNumber = number + 1;
    }

    /// <summary>Makes an edit durable, then has the version that it leads to installed. Blocks.</summary>
    /// <param name="edit">Its numbers of the next file are filled in.</param>
    /// <param name="install">Called with the new version, of which it gets a reference, under no latch but this set's.</param>
    /// <returns>Bytes written to the manifest.</returns>
    public long Apply(VersionEdit edit, Action<LsmVersion> install)
    {
        lock (_applyGate)
        {
            // Read before the write: a later number is in the next edit, or its file is not named by any.
            edit.NextFileNumber = Volatile.Read(ref _nextFileNumber);
            LsmVersion next = new(ApplyTo(_current.Levels, edit), _current);
            long bytes;
            try
            {
                CheckLevels(next);
                bytes = _manifest!.Append(edit);
            }
            catch
            {
                next.Release();
                throw;
            }

            Note(edit);
            foreach ((int level, ulong number) in edit.Removed)
            {
                // A table that only moved is added again under its number.
                if (!edit.Added.Exists(added => added.Number == number))
                    Array.Find(_current.Levels[level], table => table.Number == number)!.MarkRemoved();
            }

            LsmVersion old = _current;
            Volatile.Write(ref _current, next);
            Invariant.Require(next.TryAddReference());
            install(next);
            old.Release();
            return bytes;
        }
    }

    /// <summary>Starts a new manifest if this one has become long. A failure leaves open which of the two counts after a crash, so it is final.</summary>
    /// <returns>Bytes written.</returns>
    public long RollIfLong()
    {
        lock (_applyGate)
        {
            if (_manifest!.EndOffset <= ManifestBytesMax)
                return 0;
            string old = Path.Combine(_directory, ManifestFormat.FileName(_manifest.Number));
            StartManifest();

            // CURRENT is durable: the old one names nothing any more. Left behind, it goes at the next open.
            _files.Delete(old);
            return _manifest.EndOffset;
        }
    }

    /// <summary>An edit that says everything, for a new manifest.</summary>
    public VersionEdit Snapshot(LsmVersion version, ulong lastSequence, ulong logNumber)
    {
        VersionEdit edit = new() { NextFileNumber = Volatile.Read(ref _nextFileNumber), LastSequence = lastSequence, LogNumber = logNumber, VersionSuffixBytes = VersionSuffixBytes };
        for (int level = 0; level < version.Levels.Length; level++)
        {
            foreach (TableFile table in version.Levels[level])
                edit.Added.Add((level, table.Number, table.Summary));
        }

        return edit;
    }

    public void Dispose()
    {
        _manifest?.Dispose();
        _current.Release();
    }

    [System.Diagnostics.Conditional("SHARDFORGE_INVARIANTS")]
    private void CheckLevels(LsmVersion version) => LevelChecker.Verify(version, VersionSuffixBytes);

    private static TableFile[][] EmptyLevels()
    {
        TableFile[][] levels = new TableFile[LsmOptions.LevelCount][];
        Array.Fill(levels, []);
        return levels;
    }

    private TableFile[][] ApplyTo(TableFile[][] levels, VersionEdit edit)
    {
        TableFile[][] result = (TableFile[][])levels.Clone();
        Dictionary<ulong, TableFile> removed = [];
        foreach ((int level, ulong number) in edit.Removed)
        {
            TableFile table = Array.Find(result[level], table => table.Number == number) ?? throw new InvariantViolatedException($"Table {number} is not in level {level}.");
            removed.Add(number, table);
            result[level] = Array.FindAll(result[level], other => other != table);
        }

        foreach ((int level, ulong number, Table.TableSummary summary) in edit.Added)
        {
            TableFile table = removed.TryGetValue(number, out TableFile? moved) ? moved : new TableFile(_store, number, summary, VersionSuffixBytes);
            result[level] = Sort(level, result[level].Append(table));
        }

        return result;
    }

    /// <summary>Level 0 newest first, the others by key.</summary>
    private static TableFile[] Sort(int level, IEnumerable<TableFile> tables)
    {
        TableFile[] sorted = tables.ToArray();
        if (level == 0)
            Array.Sort(sorted, static (left, right) => right.Summary.LargestSequence.CompareTo(left.Summary.LargestSequence));
        else
            Array.Sort(sorted, static (left, right) => left.Smallest.AsSpan().SequenceCompareTo(right.Smallest));
        return sorted;
    }

    private void Note(VersionEdit edit)
    {
        if (edit.NextFileNumber is { } next && next > _nextFileNumber)
            _nextFileNumber = next;
        if (edit.LastSequence is { } sequence)
            Volatile.Write(ref _lastSequence, Math.Max(_lastSequence, sequence));
        if (edit.LogNumber is { } log)
            Volatile.Write(ref _logNumber, log);
    }

    private void StartManifest()
    {
        ulong number = NewFileNumber();
        ManifestWriter manifest = ManifestWriter.Create(_files, Path.Combine(_directory, ManifestFormat.FileName(number)), number, Snapshot(_current, _lastSequence, _logNumber));
        try
        {
            CurrentFile.Write(_files, _directory, number);
        }
        catch
        {
            manifest.Dispose();
            throw;
        }

        _manifest?.Dispose();
        _manifest = manifest;
    }
}
