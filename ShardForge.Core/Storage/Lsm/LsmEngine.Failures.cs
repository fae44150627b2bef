using System.Diagnostics;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm;

/// <summary>What becomes of a job's progress and of its failure: a full disk refuses writes until there is room, anything else is final.</summary>
internal sealed partial class LsmEngine
{
    /// <summary>A full disk is tried again at most this often.</summary>
    private static readonly TimeSpan s_fullDiskRetry = TimeSpan.FromMilliseconds(50);

    // Guarded by the gate.
    private Exception? _diskFull;
    private long _diskFullAt;

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
        _shared.DiskIsFull?.Invoke();
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
