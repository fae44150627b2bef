namespace ShardForge.Replication;

/// <summary>A read that waits for registered writes. Counted under the gate, completed outside of it.</summary>
internal sealed class ReadWaiter(TaskCreationOptions continuations)
{
    private readonly TaskCompletionSource<bool> _done = new(continuations);

    /// <summary>Writes it still waits for. Guarded by the gate.</summary>
    public int Remaining { get; set; }

    /// <summary>True: all of them are applied, or will never be. False: the leadership was lost, and only the next leader knows (R09).</summary>
    public Task<bool> Task => _done.Task;

    public void Complete(bool reached) => _done.TrySetResult(reached);
}
