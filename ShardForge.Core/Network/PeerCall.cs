using System.Threading.Tasks.Sources;

namespace ShardForge.Network;

/// <summary>A request that waits for its answer: the source of the sender's ValueTask.</summary>
/// <remarks>The connection's table decides who completes it: whoever takes it out does, once. Its two flags belong to the connection's lock.
/// The sender goes on with another thread of the pool, never on the link's reading thread.</remarks>
internal sealed class PeerCall : IValueTaskSource<PeerBuffer>
{
    private ManualResetValueTaskSourceCore<PeerBuffer> _core = new() { RunContinuationsAsynchronously = true };
    private CancellationTokenRegistration _registration;

    public PeerCall(PeerConnection connection, long deadline)
    {
        Connection = connection;
        Deadline = deadline;
    }

    public PeerConnection Connection { get; }

    /// <summary>In the time provider's ticks.</summary>
    public long Deadline { get; }

    public ulong Correlation { get; set; }

    /// <summary>Its last byte was handed to the writer: the peer may see all of it. Guarded by the connection's lock.</summary>
    public bool HasLeft { get; set; }

    /// <summary>Nobody waits any more: what was not written need not be. Guarded by the connection's lock.</summary>
    public bool IsGivenUp { get; set; }

    public ValueTask<PeerBuffer> Answer => new(this, _core.Version);

    /// <summary>Before the sender gets the task.</summary>
    public void CancelWith(CancellationToken cancellationToken)
    {
        if (cancellationToken.CanBeCanceled)
            _registration = cancellationToken.UnsafeRegister(static (call, token) => ((PeerCall)call!).Cancel(token), this);
    }

    public void Complete(PeerBuffer answer) => _core.SetResult(answer);

    public void Fail(Exception error) => _core.SetException(error);

    PeerBuffer IValueTaskSource<PeerBuffer>.GetResult(short token)
    {
        _registration.Dispose();
        return _core.GetResult(token);
    }

    ValueTaskSourceStatus IValueTaskSource<PeerBuffer>.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource<PeerBuffer>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);

    private void Cancel(CancellationToken token)
    {
        if (Connection.TryGiveUp(this))
            Fail(new OperationCanceledException(token));
    }
}
