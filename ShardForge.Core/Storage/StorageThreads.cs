namespace ShardForge.Storage;

/// <summary>Named threads for single long pieces of blocking work, e.g. a checkpoint; dispose waits for those that run.</summary>
internal sealed class StorageThreads : IAsyncDisposable
{
    private readonly Lock _gate = new();
    private readonly HashSet<Task> _running = [];
    private bool _closed;

    /// <summary>Does the work on a thread of its own.</summary>
    public Task RunAsync(string name, Action work)
    {
        TaskCompletionSource done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_closed, typeof(IStorageEngine));
            _running.Add(done.Task);
        }

        Thread thread = new(() => Run(work, done)) { Name = $"shardforge-storage {name}", IsBackground = true };
        thread.Start();
        return done.Task;
    }

    public async ValueTask DisposeAsync()
    {
        Task[] running;
        lock (_gate)
        {
            _closed = true;
            running = [.. _running];
        }

        // Their failures belong to their callers.
        await Task.WhenAll(running).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private void Run(Action work, TaskCompletionSource done)
    {
        Exception? failure = null;
        try
        {
            work();
        }
        catch (Exception error)
        {
            failure = error;
        }

        lock (_gate)
            _running.Remove(done.Task);
        if (failure is null)
            done.SetResult();
        else
            done.SetException(failure);
    }
}
