using ShardForge.Storage.Lsm.Compaction;

namespace ShardForge.Storage.Lsm;

/// <summary>Jobs on the node's workers: how they start, end and are waited for; and the smallest of them, the deletes.</summary>
internal sealed partial class LsmEngine
{
    private readonly Action _runDeletes;

    // Guarded by the gate.
    private bool _closing = true;    // no jobs before the open has ended, and none after the dispose has begun
    private bool _deletesScheduled;
    private int _jobCount;
    private TaskCompletionSource? _jobsEnded;

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
        await _threads.DisposeAsync().ConfigureAwait(false);
    }

    private void TakeWaitersLocked(List<TaskCompletionSource> waiters)
    {
        foreach ((_, TaskCompletionSource waiter) in _flushWaiters)
            waiters.Add(waiter);
        _flushWaiters.Clear();
        while (_manual.TryDequeue(out ManualCompaction? manual))
            waiters.Add(manual.Completion);
    }

    private void ScheduleDeletes()
    {
        lock (_gate)
        {
            if (!_deletesScheduled)
                _deletesScheduled = StartJobLocked(_runDeletes, urgent: true);
        }
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
}
