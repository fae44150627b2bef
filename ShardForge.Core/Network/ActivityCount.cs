namespace ShardForge.Network;

/// <summary>Counts what is under way, so that an end can wait for it.</summary>
internal sealed class ActivityCount
{
    private readonly Lock _gate = new();
    private TaskCompletionSource? _idle;
    private int _count;

    public void Enter()
    {
        lock (_gate)
            _count++;
    }

    public void Exit()
    {
        TaskCompletionSource? idle = null;
        lock (_gate)
        {
            Invariant.Check(_count > 0);
            if (--_count == 0)
                (idle, _idle) = (_idle, null);
        }

        idle?.TrySetResult();
    }

    /// <summary>Completes at a moment when nothing is under way.</summary>
    public Task WhenIdle()
    {
        lock (_gate)
            return _count == 0 ? Task.CompletedTask : (_idle ??= new(TaskCreationOptions.RunContinuationsAsynchronously)).Task;
    }
}
