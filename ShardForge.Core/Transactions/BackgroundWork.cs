namespace ShardForge.Transactions;

/// <summary>Work that goes on after its caller has its answer: decisions, resolutions, rollbacks. Counted, bounded by who starts it, awaited at the end of the node.</summary>
/// <remarks>Threads: safe for concurrent use. A piece of work handles its own errors: whoever meets what it left behind resolves it (R17).</remarks>
internal sealed class BackgroundWork
{
    private readonly Lock _gate = new();
    private readonly HashSet<Task> _running = [];

    public int Count
    {
        get
        {
            lock (_gate)
                return _running.Count;
        }
    }

    /// <summary>Keeps a task that has begun until it ends.</summary>
    public void Track(Task work)
    {
        if (work.IsCompleted)
            return;
        lock (_gate)
            _running.Add(work);
        _ = work.ContinueWith(static (ended, state) => ((BackgroundWork)state!).Remove(ended), this, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
    }

    /// <summary>Waits for what runs now, no longer than the token allows.</summary>
    public async Task DrainAsync(CancellationToken cancellationToken)
    {
        Task[] running;
        lock (_gate)
            running = [.. _running];
        try
        {
            await Task.WhenAll(running).WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // What is left is found by whoever meets its locks.
        }
    }

    private void Remove(Task ended)
    {
        lock (_gate)
            _running.Remove(ended);
    }
}
