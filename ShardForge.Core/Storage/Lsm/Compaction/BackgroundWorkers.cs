namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>The named threads that flush and compact for all engines of a node.</summary>
/// <remarks>
/// Flushes go first, and of several threads one is never given to anything else, so that a long compaction cannot hold writers up. Where that one is busy, or
/// there is only one thread, a merge lets urgent jobs run in between (<see cref="RunUrgent"/>). Threads start when they are needed. The queues are bounded by
/// their users: an engine has at most one flush, one compaction with its parts and one clean-up in them. A job does not throw: it is the top of its own loop.
/// </remarks>
internal sealed class BackgroundWorkers(int threadsMax) : IDisposable
{
    private readonly object _gate = new();
    private readonly Queue<Action> _urgent = new(), _other = new();
    private readonly List<Thread> _threads = [];
    private int _idle, _runningOther, _urgentWaiting;
    private bool _disposed;

    /// <summary>How many compactions, or parts of them, run at once.</summary>
    public int CompactionsMax => Math.Max(1, threadsMax - 1);

    /// <summary>Called by a long job where it holds no latch: runs, on its thread, urgent jobs that no other thread has taken.</summary>
    public void RunUrgent()
    {
        while (Volatile.Read(ref _urgentWaiting) > 0)
        {
            Action? job;
            lock (_gate)
            {
                if (_disposed || !TryTakeUrgentLocked(out job))
                    return;
            }

            job();
        }
    }

    /// <summary>Has a job run. False: the workers are disposed.</summary>
    public bool Enqueue(Action job, bool urgent)
    {
        lock (_gate)
        {
            if (_disposed)
                return false;
            (urgent ? _urgent : _other).Enqueue(job);
            _urgentWaiting = _urgent.Count;
            if (_idle > 0)
            {
                // Counted here, not by the thread when it gets to run: two jobs in a row need two threads.
                _idle--;
                Monitor.Pulse(_gate);
            }
            else if (_threads.Count < threadsMax)
                StartThreadLocked();
            return true;
        }
    }

    /// <summary>Waits until the running jobs have ended. What still waits is not run.</summary>
    public void Dispose()
    {
        Thread[] threads;
        lock (_gate)
        {
            _disposed = true;
            _urgent.Clear();
            _other.Clear();
            Monitor.PulseAll(_gate);
            threads = _threads.ToArray();
        }

        foreach (Thread thread in threads)
        {
            if (thread != Thread.CurrentThread)
                thread.Join();
        }
    }

    private void StartThreadLocked()
    {
        Thread thread = new(Run) { IsBackground = true, Name = $"shardforge-storage-{_threads.Count + 1}" };
        _threads.Add(thread);
        thread.Start();
    }

    private void Run()
    {
        while (true)
        {
            Action? job;
            bool other = false;
            lock (_gate)
            {
                while (!TryTakeLocked(out job, out other))
                {
                    if (_disposed)
                        return;
                    _idle++;
                    Monitor.Wait(_gate);
                }
            }

            job();
            if (!other)
                continue;
            lock (_gate)
            {
                _runningOther--;
                if (_other.Count > 0 && _idle > 0)
                {
                    _idle--;
                    Monitor.Pulse(_gate);
                }
            }
        }
    }

    private bool TryTakeLocked([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Action? job, out bool other)
    {
        other = false;
        if (TryTakeUrgentLocked(out job))
            return true;
        if (_runningOther >= CompactionsMax || !_other.TryDequeue(out job))
            return false;
        other = true;
        _runningOther++;
        return true;
    }

    private bool TryTakeUrgentLocked([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Action? job)
    {
        bool taken = _urgent.TryDequeue(out job);
        _urgentWaiting = _urgent.Count;
        return taken;
    }
}
