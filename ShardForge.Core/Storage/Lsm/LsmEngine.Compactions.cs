using ShardForge.Storage.Lsm.Compaction;
using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm;

/// <summary>Which compactions run when: automatic ones and those of a range that somebody asked for, side by side where they do not conflict.</summary>
/// <remarks>
/// A job in the workers' queue is not bound to a compaction: what is best is decided when it gets a thread. An engine has at most one such job in the queue, and as many
/// that run as the node has workers for them. While the next merge of a range that was asked for waits for running ones, no new automatic ones start, so that it gets its turn.
/// </remarks>
internal sealed partial class LsmEngine
{
    private readonly Action _runCompaction;

    // Guarded by the gate.
    private readonly Queue<ManualCompaction> _manual = new();
    private readonly List<CompactionPick> _running = [];
    private int _compactionJobs;    // in the queue and running
    private bool _compactionQueued;

    public ValueTask CompactAsync(KeyRange range = default, CancellationToken cancellationToken = default) => CompactAsync(range, progress: null, cancellationToken);

    public ValueTask CompactAsync(KeyRange range, IProgress<StorageCompactionProgress>? progress, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        StorageArguments.CheckRange(range);
        return cancellationToken.IsCancellationRequested ? ValueTask.FromCanceled(cancellationToken) : new(CompactRangeAsync(range, progress, cancellationToken));
    }

    private async Task CompactRangeAsync(KeyRange range, IProgress<StorageCompactionProgress>? progress, CancellationToken cancellationToken)
    {
        await FlushMemtableAsync(cancellationToken).ConfigureAwait(false);
        if (range.IsEmpty)
            return;
        KeyRange own = range.HasEnd ? KeyRange.Between(range.Start.ToArray(), range.End.ToArray()) : KeyRange.From(range.Start.ToArray());
        ManualCompaction compaction = new(own, ManualPieceTables * _options.TableBytes, progress, cancellationToken);
        lock (_gate)
        {
            ThrowIfDisposed();
            ThrowIfFailed();
            ThrowIfDiskIsFullLocked();
            _manual.Enqueue(compaction);
            ScheduleCompactionLocked();
        }

        await compaction.Completion.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
    }

    private void ScheduleCompactionLocked()
    {
        if (_compactionQueued || _diskFull is not null || _compactionJobs >= _shared.Workers.CompactionsMax || !IsCompactionDueLocked())
            return;
        if (!StartJobLocked(_runCompaction, urgent: false))
            return;
        _compactionQueued = true;
        _compactionJobs++;
    }

    private bool IsCompactionDueLocked()
    {
        if (!_manual.TryPeek(out ManualCompaction? manual) || manual.IsRunning)
            return CompactionPicker.Pick(_versions.Current, _options, _running) is not null;
        manual.Begin(_versions.Current, _versions.NextFileNumber);
        return manual.Stop.IsCancellationRequested || manual.Next(_versions.Current) is not { } pick || CompactionPicker.CanRun(pick, _running);
    }

    private void RunCompaction()
    {
        CompactionJob? job = null;
        ManualCompaction? ended = null;
        try
        {
            lock (_gate)
            {
                _compactionQueued = false;
                if (!_closing && _failure is null && _diskFull is null)
                    job = TakeCompactionLocked(out ended);
                if (job is null)
                    _compactionJobs--;

                // The next one, to run beside this one; or what an ended range lets go on.
                ScheduleCompactionLocked();
            }

            if (ended is not null)
                EndManual(ended);
            if (job is not null)
                RunParts(job);
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

    private CompactionJob? TakeCompactionLocked(out ManualCompaction? ended)
    {
        ended = null;
        LsmVersion version = _versions.Current;
        CompactionPick? pick;
        if (_manual.TryPeek(out ManualCompaction? manual) && !manual.IsRunning)
        {
            manual.Begin(version, _versions.NextFileNumber);
            pick = manual.Stop.IsCancellationRequested ? null : manual.Next(version);
            if (pick is null)
            {
                ended = _manual.Dequeue();
                return null;
            }

            if (!CompactionPicker.CanRun(pick, _running))
                return null;
            manual.IsRunning = true;
        }
        else
        {
            manual = null;
            pick = CompactionPicker.Pick(version, _options, _running);
            if (pick is null)
                return null;
        }

        Invariant.Require(version.TryAddReference());
        _running.Add(pick);
        int free = Math.Max(1, _shared.Workers.CompactionsMax - _compactionJobs + 1);
        return new CompactionJob(pick, manual, version, CompactionCuts.Choose(pick, free, _options.TableBytes), _stop.Token);
    }

    /// <summary>Takes a compaction out of those that run.</summary>
    private void EndCompaction(CompactionJob job)
    {
        lock (_gate)
        {
            _running.Remove(job.Pick);
            _compactionJobs--;
            if (job.Manual is { } manual)
            {
                manual.IsRunning = false;
                if (job.Failure is null)
                    manual.Advance(job.Pick);
            }

            ScheduleCompactionLocked();
        }

        job.Version.Release();
        job.Dispose();
        if (job is { Manual: { } reported, Failure: null })
            Report(reported, ended: false);
    }

    private static void EndManual(ManualCompaction manual)
    {
        if (manual.Stop.IsCancellationRequested)
        {
            manual.Completion.TrySetCanceled(manual.Stop);
            return;
        }

        Report(manual, ended: true);
        manual.Completion.TrySetResult();
    }

    /// <summary>A stranger's code: what it throws is its caller's, not the engine's.</summary>
    private static void Report(ManualCompaction manual, bool ended)
    {
        try
        {
            manual.Report(ended);
        }
        catch (Exception error)
        {
            manual.Completion.TrySetException(error);
        }
    }
}
