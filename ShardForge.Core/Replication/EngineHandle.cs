using ShardForge.Storage;

namespace ShardForge.Replication;

/// <summary>One generation of a replica's engine. Readers enter it, so that a snapshot that replaces it waits for them.</summary>
internal sealed class EngineHandle(IStorageEngine engine, long generation)
{
    private const long Closing = 1L << 62;

    private readonly TaskCompletionSource _left = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _users;

    public IStorageEngine Engine { get; } = engine;

    public long Generation { get; } = generation;

    /// <summary>False: it is being closed; otherwise <see cref="Exit"/> must follow.</summary>
    public bool TryEnter()
    {
        if (Interlocked.Increment(ref _users) < Closing)
            return true;
        Exit();
        return false;
    }

    public void Exit()
    {
        if (Interlocked.Decrement(ref _users) == Closing)
            _left.TrySetResult();
    }

    /// <summary>Refuses new readers, waits for those inside (a page of a scan at most), disposes the engine.</summary>
    public async ValueTask CloseAsync()
    {
        if (Interlocked.Add(ref _users, Closing) != Closing)
            await _left.Task.ConfigureAwait(false);
        await Engine.DisposeAsync().ConfigureAwait(false);
    }
}
