using ShardForge.Common;
using ShardForge.Storage.Lsm.Compaction;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Memtables;
using ShardForge.Storage.Lsm.Reads;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm;

/// <summary>Flushes: memtables become tables of level 0, in their order, one at a time per engine.</summary>
internal sealed partial class LsmEngine
{
    private readonly Action _runFlush;

    // Guarded by the gate.
    private readonly List<(ulong Sequence, TaskCompletionSource Waiter)> _flushWaiters = [];
    private bool _flushScheduled;
    private ulong _flushedSequence;

    private void ScheduleFlushLocked()
    {
        if (!_flushScheduled && _immutables.Count > 0 && _diskFull is null)
            _flushScheduled = StartJobLocked(_runFlush, urgent: true);
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
        foreach ((int level, _, TableSummary table) in edit.Added)
            _compactionCounters.AddMerge(level, 0, table.Bytes);
        if (edit.LogNumber is { } firstLog)
            _log!.Release(firstLog);
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
        MergeTask task = new() { Snapshots = _snapshots.ToArray(), TableBytes = long.MaxValue, VersionSuffixBytes = SuffixBytes };
        using MemtableCursor cursor = memtable.NewCursor();
        WriteTables(task, cursor, memtable.GetWholeTombstones(), edit, level: 0, _counters.AddDiskBytesOf, _stop.Token);
        Invariant.Require(edit.Added.Count > 0);
    }

    private void WriteTables(MergeTask task, EntryCursor entries, RangeTombstoneSet tombstones, VersionEdit edit, int level, Action<int> written, CancellationToken stop)
    {
        IFile? file = null;
        TableBuffers buffers = _shared.TableBuffers.Rent();
        try
        {
            TableMerge merge = new(task, () =>
            {
                ulong number = _versions.NewFileNumber();
                file = _fileSystem.Open(_files.TablePath(number), FileOpenMode.CreateNew);
                return (number, new TableWriter(file, number, _options, SuffixBytes, written, buffers));
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
            _shared.TableBuffers.Return(buffers);
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

    /// <summary>Makes the present memtables and version what readers look in.</summary>
    /// <returns>The state before, to be released outside the gate.</returns>
    private ReadState? InstallStateLocked()
    {
        LsmVersion version = _versions.Current;
        Volatile.Write(ref _levelZeroCount, CompactionPicker.LevelZeroLength(version, _options));
        Volatile.Write(ref _immutableCount, _immutables.Count);
        if (_state is null)
            return null;
        ReadState old = _state;
        Volatile.Write(ref _state, new ReadState(_active, _immutables, version, SuffixBytes));
        return old;
    }
}
