using System.Diagnostics;
using ShardForge.Common;
using ShardForge.Storage.Lsm.Compaction;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Memtables;
using ShardForge.Storage.Lsm.Reads;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm;

/// <summary>Flushes, compactions, deletes: jobs on the node's workers, at most one of each kind at a time, and what becomes of their failures.</summary>
internal sealed partial class LsmEngine
{
    /// <summary>A full disk is tried again at most this often.</summary>
    private static readonly TimeSpan s_fullDiskRetry = TimeSpan.FromMilliseconds(50);

    private readonly Action _runFlush, _runCompaction, _runDeletes;

    // Guarded by the gate.
    private readonly List<(ulong Sequence, TaskCompletionSource Waiter)> _flushWaiters = [];
    private readonly Queue<ManualCompaction> _manual = new();
    private bool _flushScheduled, _compactionScheduled, _deletesScheduled;
    private bool _closing = true;    // no jobs before the open has ended, and none after the dispose has begun
    private int _jobCount;
    private ulong _flushedSequence;
    private Exception? _diskFull;
    private long _diskFullAt;
    private TaskCompletionSource? _jobsEnded;

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

    /// <summary>No more jobs; waits for those that run.</summary>
    private async Task StopBackgroundAsync()
    {
        Task jobsEnded = Task.CompletedTask;
        List<TaskCompletionSource> waiters = [];
        lock (_gate)
        {
            _closing = true;
            TakeWaitersLocked(waiters);
            if (_jobCount > 0)
                jobsEnded = (_jobsEnded = NewSignal()).Task;
        }

        ObjectDisposedException disposed = new(nameof(IStorageEngine));
        foreach (TaskCompletionSource waiter in waiters)
            waiter.TrySetException(disposed);
        SignalRoom();
        await _stop.CancelAsync().ConfigureAwait(false);
        await jobsEnded.ConfigureAwait(false);
    }

    private void TakeWaitersLocked(List<TaskCompletionSource> waiters)
    {
        foreach ((_, TaskCompletionSource waiter) in _flushWaiters)
            waiters.Add(waiter);
        _flushWaiters.Clear();
        while (_manual.TryDequeue(out ManualCompaction? manual))
            waiters.Add(manual.Completion);
    }

    private void ScheduleFlushLocked()
    {
        if (!_flushScheduled && _immutables.Count > 0 && _diskFull is null)
            _flushScheduled = StartJobLocked(_runFlush, urgent: true);
    }

    private void ScheduleCompactionLocked()
    {
        if (_compactionScheduled || _diskFull is not null)
            return;
        if (_manual.Count > 0 || CompactionPicker.Pick(_versions.Current, _options) is not null)
            _compactionScheduled = StartJobLocked(_runCompaction, urgent: false);
    }

    private void ScheduleDeletes()
    {
        lock (_gate)
        {
            if (!_deletesScheduled)
                _deletesScheduled = StartJobLocked(_runDeletes, urgent: true);
        }
    }

    private bool StartJobLocked(Action job, bool urgent)
    {
        if (_closing || _failure is not null || !_shared.Workers.Enqueue(job, urgent))
            return false;
        _jobCount++;
        return true;
    }

    private void EndJob()
    {
        TaskCompletionSource? ended = null;
        lock (_gate)
        {
            if (--_jobCount == 0)
                ended = _jobsEnded;
        }

        ended?.TrySetResult();
    }

    private void RunFlush()
    {
        try
        {
            while (true)
            {
                Memtable memtable;
                lock (_gate)
                {
                    if (_closing || _failure is not null || _immutables.Count == 0)
                        break;
                    memtable = _immutables[^1];
                }

                Flush(memtable);
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
                _flushScheduled = false;
                ScheduleFlushLocked();
            }

            EndJob();
        }
    }

    private void Flush(Memtable memtable)
    {
        VersionEdit edit = new() { LastSequence = memtable.LastSequence };
        try
        {
            WriteTable(memtable, edit);

            // The name must be durable before the edit is: an edit that names a missing file is damage.
            _fileSystem.FlushDirectory(_files.Directory);
            if (_log is not null)
            {
                lock (_gate)
                    edit.LogNumber = (_immutables.Count > 1 ? _immutables[^2] : _active).LogNumber;
            }

            List<TaskCompletionSource> due = [];
            _counters.AddDiskBytes(_versions.Apply(edit, version => InstallFlushed(version, memtable, due)));
            foreach (TaskCompletionSource waiter in due)
                waiter.TrySetResult();
        }
        catch
        {
            DeleteOutputs(edit);
            throw;
        }

        _counters.AddFlush();
        if (memtable.LogNumber != 0)
            _files.DeleteLater(_files.LogPath(memtable.LogNumber));
        memtable.Release();
        _counters.AddDiskBytes(_versions.RollIfLong());
        OnProgress();
    }

    private void InstallFlushed(LsmVersion version, Memtable memtable, List<TaskCompletionSource> due)
    {
        ReadState? old;
        lock (_gate)
        {
            Invariant.Require(_immutables[^1] == memtable);
            _immutables.RemoveAt(_immutables.Count - 1);
            old = InstallStateLocked();
            _flushedSequence = memtable.LastSequence;
            for (int index = _flushWaiters.Count - 1; index >= 0; index--)
            {
                if (_flushWaiters[index].Sequence > _flushedSequence)
                    continue;
                due.Add(_flushWaiters[index].Waiter);
                _flushWaiters.RemoveAt(index);
            }
        }

        old?.Release();
        version.Release();
    }

    /// <summary>Writes a memtable to a table of level 0, durable but for its name, and adds it to the edit.</summary>
    private void WriteTable(Memtable memtable, VersionEdit edit)
    {
        MergeTask task = new(_snapshots.ToArray(), [], DropsDeletes: false, long.MaxValue, SuffixBytes);
        using MemtableCursor cursor = memtable.NewCursor();
        WriteTables(task, cursor, memtable.Tombstones, edit, level: 0, _counters.AddDiskBytesOf, _stop.Token);
        Invariant.Require(edit.Added.Count > 0);
    }

    private void WriteTables(MergeTask task, EntryCursor entries, RangeTombstoneSet tombstones, VersionEdit edit, int level, Action<int> written, CancellationToken stop)
    {
        IFile? file = null;
        try
        {
            TableMerge merge = new(task, () =>
            {
                ulong number = _versions.NewFileNumber();
                file = _fileSystem.Open(_files.TablePath(number), FileOpenMode.CreateNew);
                return (number, new TableWriter(file, number, _options, SuffixBytes, written));
            }, (number, summary) =>
            {
                edit.Added.Add((level, number, summary));
                file!.Dispose();
                file = null;
            });
            merge.Run(entries, tombstones, stop);
        }
        finally
        {
            if (file is not null)
            {
                file.Dispose();
                _files.DeleteLater(file.Path);
            }
        }
    }

    /// <summary>After a failure: the tables that were written for nothing. Those of an edit in doubt stay; the next open knows.</summary>
    private void DeleteOutputs(VersionEdit edit)
    {
        if (_versions.IsEditInDoubt)
            return;
        foreach ((_, ulong number, _) in edit.Added)
            _files.DeleteLater(_files.TablePath(number));
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

        // Snapshots after the inputs were chosen: one that is opened later sees everything that is in them.
        MergeTask task = new(_snapshots.ToArray(), version.Levels[(pick.OutputLevel + 1)..], DropsDeletes: true, _options.TableBytes, SuffixBytes);
        WriteTables(task, entries, RangeTombstoneSet.Build(tombstones), edit, pick.OutputLevel, written, stop);
    }

    private void InstallCompacted(LsmVersion version)
    {
        ReadState? old;
        lock (_gate)
            old = InstallStateLocked();
        old?.Release();
        version.Release();
    }

    /// <summary>Makes the present memtables and version what readers look in.</summary>
    /// <returns>The state before, to be released outside the gate.</returns>
    private ReadState? InstallStateLocked()
    {
        LsmVersion version = _versions.Current;
        Volatile.Write(ref _levelZeroCount, version.Levels[0].Length);
        if (_state is null)
            return null;
        ReadState old = _state;
        Volatile.Write(ref _state, new ReadState(_active, _immutables, version, SuffixBytes));
        return old;
    }

    private void RunDeletes()
    {
        lock (_gate)
            _deletesScheduled = false;
        try
        {
            _files.DeleteObsolete();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            LsmLog.NotDeleted(_logger, error, _context.Name);
        }
        catch (Exception error)
        {
            OnJobFailed(error);
        }
        finally
        {
            EndJob();
        }
    }

    private void OnProgress()
    {
        bool hadFullDisk;
        lock (_gate)
        {
            hadFullDisk = _diskFull is not null;
            _diskFull = null;
            ScheduleFlushLocked();
            ScheduleCompactionLocked();
        }

        if (hadFullDisk)
            LsmLog.DiskHasRoom(_logger, _context.Name);
        SignalRoom();
    }

    private void OnJobFailed(Exception error)
    {
        if (error is OperationCanceledException && _stop.IsCancellationRequested)
            return;
        if (DiskErrors.IsDiskFull(error) && !_versions.IsEditInDoubt)
            OnDiskFull(error);
        else
            Fail(error);
    }

    private void OnDiskFull(Exception error)
    {
        List<TaskCompletionSource> waiters = [];
        lock (_gate)
        {
            _diskFull = error;
            _diskFullAt = Stopwatch.GetTimestamp();
            TakeWaitersLocked(waiters);
        }

        LsmLog.DiskIsFull(_logger, error, _context.Name);
        foreach (TaskCompletionSource waiter in waiters)
            waiter.TrySetException(Refused(error));
        SignalRoom();
    }

    /// <summary>Final: no more writes.</summary>
    private void Fail(Exception error)
    {
        List<TaskCompletionSource> waiters = [];
        lock (_gate)
        {
            if (_failure is not null)
                return;
            _failure = error;
            TakeWaitersLocked(waiters);
        }

        LsmLog.Failed(_logger, error, _context.Name);
        foreach (TaskCompletionSource waiter in waiters)
            waiter.TrySetException(new ShardForgeException($"{_context.Name} takes no more writes since a failure: {error.Message}", isTransient: false, error));
        SignalRoom();
    }

    /// <summary>Called by a write that has no room: something must be on its way to make some, or the write is refused.</summary>
    private void EnsureProgress()
    {
        lock (_gate)
        {
            ThrowIfDiskIsFullLocked();
            ScheduleFlushLocked();
            ScheduleCompactionLocked();
        }
    }

    /// <summary>Lets jobs try again if the last try is long enough ago; whoever comes earlier is refused, and does not wait for a job that nobody starts.</summary>
    private void ThrowIfDiskIsFullLocked()
    {
        if (_diskFull is { } error && Stopwatch.GetElapsedTime(_diskFullAt) < s_fullDiskRetry)
            throw Refused(error);
        _diskFull = null;
    }

    private void SignalRoom()
    {
        TaskCompletionSource signal;
        lock (_gate)
        {
            signal = _room;
            _room = NewSignal();
        }

        signal.TrySetResult();
    }
}
