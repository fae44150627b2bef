using ShardForge.Storage.Lsm.Compaction;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Reads;

namespace ShardForge.Storage.Lsm;

/// <summary>Compactions: which one is due, its merge, and the edit that makes it count.</summary>
internal sealed partial class LsmEngine
{
    private readonly Action _runCompaction;

    // Guarded by the gate.
    private readonly Queue<ManualCompaction> _manual = new();
    private bool _compactionScheduled;

    private void ScheduleCompactionLocked()
    {
        if (_compactionScheduled || _diskFull is not null)
            return;
        if (_manual.Count > 0 || CompactionPicker.Pick(_versions.Current, _options) is not null)
            _compactionScheduled = StartJobLocked(_runCompaction, urgent: false);
    }

    private void RunCompaction()
    {
        try
        {
            ManualCompaction? manual;
            lock (_gate)
            {
                while (_manual.TryPeek(out manual) && manual.Stop.IsCancellationRequested)
                    _manual.Dequeue();
            }

            if (!_closing && _failure is null)
            {
                if (manual is not null)
                    RunManual(manual);
                else if (CompactionPicker.Pick(_versions.Current, _options) is { } pick)
                    Compact(pick, _stop.Token);
            }
        }
        catch (Exception error)
        {
            OnJobFailed(error);
        }
        finally
        {
            lock (_gate)
            {
                // One at a time, then back into the queue: other engines of the node want to compact, too.
                _compactionScheduled = false;
                ScheduleCompactionLocked();
            }

            EndJob();
        }
    }

    private void RunManual(ManualCompaction manual)
    {
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token, manual.Stop);
        try
        {
            if (manual.Next(_versions.Current) is { } pick)
            {
                Compact(pick, stop.Token);
                return;
            }
        }
        catch (OperationCanceledException) when (manual.Stop.IsCancellationRequested && !_stop.IsCancellationRequested)
        {
            manual.Completion.TrySetCanceled(manual.Stop);
        }

        lock (_gate)
        {
            if (_manual.TryPeek(out ManualCompaction? first) && first == manual)
                _manual.Dequeue();
        }

        manual.Completion.TrySetResult();
    }

    private void Compact(CompactionPick pick, CancellationToken stop)
    {
        VersionEdit edit = new();
        foreach (TableFile table in pick.Inputs)
            edit.Removed.Add((pick.Level, table.Number));
        foreach (TableFile table in pick.OutputInputs)
            edit.Removed.Add((pick.OutputLevel, table.Number));
        long bytes = 0;

        // Only this job removes tables, so the inputs stay in the current version, and that holds them.
        LsmVersion version = _versions.Current;
        Invariant.Require(version.TryAddReference());
        try
        {
            if (pick.IsMove)
            {
                foreach (TableFile table in pick.Inputs)
                    edit.Added.Add((pick.OutputLevel, table.Number, table.Summary));
            }
            else
            {
                Merge(pick, version, edit, written =>
                {
                    bytes += written;
                    _counters.AddDiskBytes(written);
                    _shared.RateLimit.Acquire(written, stop);
                }, stop);
                if (edit.Added.Count > 0)
                    _fileSystem.FlushDirectory(_files.Directory);
            }

            _counters.AddDiskBytes(_versions.Apply(edit, InstallCompacted));
        }
        catch
        {
            if (!pick.IsMove)
                DeleteOutputs(edit);
            throw;
        }
        finally
        {
            version.Release();
        }

        _counters.AddCompaction(bytes);
        _counters.AddDiskBytes(_versions.RollIfLong());
        OnProgress();
    }

    private void Merge(CompactionPick pick, LsmVersion version, VersionEdit edit, Action<int> written, CancellationToken stop)
    {
        List<EntryCursor> cursors = [];
        TableFile[][] levels = [pick.Level == 0 ? pick.Inputs : [], pick.Level == 0 ? [] : pick.Inputs, pick.OutputInputs];
        ReadState.AddTableCursors(cursors, levels, fillCache: false);
        using MergeCursor entries = new(cursors.ToArray());
        List<RangeTombstone> tombstones = [];
        foreach (TableFile table in pick.Inputs.Concat(pick.OutputInputs))
        {
            if (table.HasTombstones)
                tombstones.AddRange(table.Reader.Tombstones);
        }

        // The filter before the snapshots, and these after the inputs were chosen: one that is opened later sees all that the filter read, and all of the inputs.
        ICompactionFilter? filter = BeginFilter(pick, version, out ulong filterSequence);
        ulong[] snapshots = _snapshots.ToArray();
        MergeTask task = new()
        {
            Snapshots = snapshots,
            Deeper = version.Levels[(pick.OutputLevel + 1)..],
            DropsDeletes = true,
            ZeroesSequences = true,
            TableBytes = _options.TableBytes,
            VersionSuffixBytes = SuffixBytes,
            Filter = snapshots.Length > 0 && snapshots[0] < filterSequence ? null : filter,
        };
        WriteTables(task, entries, RangeTombstoneSet.Build(tombstones), edit, pick.OutputLevel, written, stop);
    }

    /// <summary>Asks the owner what may go.</summary>
    /// <param name="pick">What is merged.</param>
    /// <param name="version">What is durable.</param>
    /// <param name="sequence">Of the newest entry that the answer may rest on.</param>
    private ICompactionFilter? BeginFilter(CompactionPick pick, LsmVersion version, out ulong sequence)
    {
        sequence = 0;
        if (_context.CompactionFilter is not { } source)
            return null;
        DurableReader reader = new(version);
        ICompactionFilter? filter = source.Begin(new CompactionScope(pick.Range, SuffixBytes, reader.TryGet));
        sequence = reader.NewestSequence;
        return filter;
    }

    private void InstallCompacted(LsmVersion version)
    {
        ReadState? old;
        lock (_gate)
            old = InstallStateLocked();
        old?.Release();
        version.Release();
    }

    public ValueTask CompactAsync(KeyRange range = default, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        StorageArguments.CheckRange(range);
        return cancellationToken.IsCancellationRequested ? ValueTask.FromCanceled(cancellationToken) : new(CompactRangeAsync(range, cancellationToken));
    }

    private async Task CompactRangeAsync(KeyRange range, CancellationToken cancellationToken)
    {
        await FlushMemtableAsync(cancellationToken).ConfigureAwait(false);
        if (range.IsEmpty)
            return;
        KeyRange own = range.HasEnd ? KeyRange.Between(range.Start.ToArray(), range.End.ToArray()) : KeyRange.From(range.Start.ToArray());
        ManualCompaction compaction = new(own, cancellationToken);
        lock (_gate)
        {
            ThrowIfDisposed();
            ThrowIfFailed();
            ThrowIfDiskIsFullLocked();
            _manual.Enqueue(compaction);
            ScheduleCompactionLocked();
        }

        await compaction.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
    }
}
