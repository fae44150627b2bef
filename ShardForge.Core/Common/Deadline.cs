namespace ShardForge.Common;

/// <summary>The bound of one call: its own time limit, the caller's token and the end of the node, as one token. Disposed by the call that started it.</summary>
/// <remarks>Which of them ended it decides the error: the caller's token gives <see cref="OperationCanceledException"/>, the node's end
/// <see cref="ObjectDisposedException"/>, the limit a typed error.</remarks>
internal sealed class Deadline : IDisposable
{
    private readonly CancellationTokenSource _source;
    private readonly CancellationTokenRegistration _callerRegistration, _ownerRegistration;
    private readonly TimeProvider _timeProvider;
    private readonly long _started;
    private readonly CancellationToken _caller, _owner;

    public Deadline(TimeSpan limit, TimeProvider timeProvider, CancellationToken caller, CancellationToken owner = default)
    {
        Limit = limit;
        _timeProvider = timeProvider;
        _started = timeProvider.GetTimestamp();
        _caller = caller;
        _owner = owner;
        _source = new CancellationTokenSource(limit, timeProvider);
        _callerRegistration = caller.UnsafeRegister(static source => ((CancellationTokenSource)source!).Cancel(), _source);
        _ownerRegistration = owner.UnsafeRegister(static source => ((CancellationTokenSource)source!).Cancel(), _source);
    }

    public TimeSpan Limit { get; }

    public CancellationToken Token => _source.Token;

    /// <summary>Never negative.</summary>
    public TimeSpan Remaining
    {
        get
        {
            TimeSpan remaining = Limit - _timeProvider.GetElapsedTime(_started);
            return remaining > TimeSpan.Zero ? remaining : TimeSpan.Zero;
        }
    }

    public string WhyEnded => _owner.IsCancellationRequested ? "the node was stopped" : $"the time of {Limit.TotalSeconds:0.###} s is over";

    /// <summary>Throws, with the caller's token, where it was the caller's token that ended the call.</summary>
    public void ThrowIfCallerCancelled(OperationCanceledException error)
    {
        if (_caller.IsCancellationRequested)
            throw new OperationCanceledException("The caller cancelled. A write that was in flight may still happen.", error, _caller);
    }

    /// <summary>Throws where it was the end of the node that ended the call. Not for a write that may have left.</summary>
    public void ThrowIfOwnerStopped()
    {
        if (_owner.IsCancellationRequested)
            throw new ObjectDisposedException("ShardForgeCluster", "The node was stopped. Nothing was written.");
    }

    public void Dispose()
    {
        _callerRegistration.Dispose();
        _ownerRegistration.Dispose();
        _source.Dispose();
    }
}
