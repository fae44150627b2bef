using System.Diagnostics;
using System.IO.Pipelines;
using System.Text;

namespace ShardForge.Network;

/// <content>Calls, their time limits, and the pump.</content>
internal sealed partial class PeerConnection
{
    /// <summary>What one write carries, about: large enough to share its cost, small enough that an urgent frame behind it does not wait long.</summary>
    private const int BatchBytes = 128 * 1024;

    private const int BatchFramesMax = 512;

    /// <summary>Writes that a sender does for others before it hands the pump to the pool.</summary>
    private const int LoanedBatches = 4;

    /// <summary>Calls under way, of this side or of the other, up to which a sender writes itself, for the sake of its latency.</summary>
    private const int LoneCallsMax = 3;

    private const int GoodbyeTextBytesMax = 512;

    private readonly SendQueue _queue;
    private readonly Dictionary<ulong, PeerCall> _pending = [];
    private readonly List<OutgoingFrame> _batch = [];
    private readonly ITimer? _timer;
    private TaskCompletionSource? _pumpEnded;
    private ulong _lastCorrelation;
    private ulong _nextSequence;
    private long _timerDue = long.MaxValue;
    private int _hasSent;
    private bool _isPumping;
    private bool _saidGoodbye;

    public int RequestsPending
    {
        get
        {
            lock (_gate)
                return _pending.Count;
        }
    }

    public long QueuedBytes
    {
        get
        {
            lock (_gate)
                return _queue.Bytes;
        }
    }

    /// <summary>Sends a request. Its payload is taken over.</summary>
    /// <param name="service">Who is to answer.</param>
    /// <param name="payload">At most a message's largest size.</param>
    /// <param name="priority">What goes first.</param>
    /// <param name="deadline">In the time provider's ticks.</param>
    /// <param name="cancellationToken">Stops the wait.</param>
    public ValueTask<PeerBuffer> CallAsync(PeerService service, PeerBuffer payload, PeerPriority priority, long deadline, CancellationToken cancellationToken)
    {
        PeerCall call = new(this, deadline);
        int pending = 0;
        long queuedBytes = 0;
        bool added = false, closed;
        lock (_gate)
        {
            closed = _isClosed;
            if (!closed)
            {
                call.Correlation = ++_lastCorrelation;
                added = _pending.Count < _options.Limits.PeerRequestsMax
                    && _queue.TryAdd(new OutgoingMessage(FrameKind.Request, priority, (ushort)service, call.Correlation, payload, call));
                if (added)
                {
                    _pending.Add(call.Correlation, call);
                    ArmLocked(deadline);
                }
                else
                {
                    pending = _pending.Count;
                    queuedBytes = _queue.Bytes;
                }
            }
        }

        if (!added)
        {
            payload.Dispose();
            return ValueTask.FromException<PeerBuffer>(closed ? LostError(Cause!, hasLeft: false) : FullError(pending, queuedBytes));
        }

        call.CancelWith(cancellationToken);
        Flush();
        return call.Answer;
    }

    /// <summary>Sends without an answer. False: dropped. The payload is taken over either way.</summary>
    public bool TrySend(PeerService service, PeerBuffer payload, PeerPriority priority)
    {
        if (!TryAdd(new OutgoingMessage(FrameKind.OneWay, priority, (ushort)service, 0, payload)))
        {
            payload.Dispose();
            return false;
        }

        Flush();
        return true;
    }

    /// <summary>Nobody waits for the call any more. False: it is being completed otherwise.</summary>
    public bool TryGiveUp(PeerCall call)
    {
        lock (_gate)
        {
            if (!_pending.Remove(call.Correlation))
                return false;
            call.IsGivenUp = true;
            return true;
        }
    }

    private bool TryAdd(in OutgoingMessage message)
    {
        lock (_gate)
            return !_isClosed && _queue.TryAdd(message);
    }

    private void Ping()
    {
        // The time it was sent comes back in its pong.
        TryAdd(new OutgoingMessage(FrameKind.Ping, PeerPriority.Control, 0, (ulong)Stopwatch.GetTimestamp(), Payload: null));
        Flush();
    }

    private OverloadedException FullError(int pending, long queuedBytes) =>
        new($"The {_name} is full: {pending:N0} requests wait for answers (limit {_options.Limits.PeerRequestsMax:N0}, Limits.PeerRequestsMax), "
            + $"{queuedBytes:N0} bytes are queued (limit {_options.Limits.PeerQueueBytesMax:N0}, Limits.PeerQueueBytesMax). The request was not sent.");

    // One timer for all calls of the connection, set to the earliest deadline. A call that is answered leaves it as it is: when it fires, the next earliest
    // is looked for. Under load that is one scan per time limit, not one timer per call.
    private void ArmLocked(long deadline)
    {
        if (deadline >= _timerDue)
            return;
        _timerDue = deadline;
        TimeSpan wait = _options.TimeProvider.GetElapsedTime(_options.TimeProvider.GetTimestamp(), deadline);
        _timer!.Change(TimeSpan.FromMilliseconds(Math.Clamp(Math.Ceiling(wait.TotalMilliseconds), 1, int.MaxValue)), Timeout.InfiniteTimeSpan);
    }

    private static void FailOverdue(object? connection) => ((PeerConnection)connection!).FailOverdue();

    private void FailOverdue()
    {
        List<(PeerCall Call, bool HasLeft)> overdue = [];
        lock (_gate)
        {
            if (_isClosed)
                return;
            long now = _options.TimeProvider.GetTimestamp(), next = long.MaxValue;
            foreach (PeerCall call in _pending.Values)
            {
                if (call.Deadline <= now)
                    overdue.Add((call, call.HasLeft));
                else
                    next = Math.Min(next, call.Deadline);
            }

            foreach ((PeerCall call, _) in overdue)
            {
                _pending.Remove(call.Correlation);
                call.IsGivenUp = true;
            }

            _timerDue = long.MaxValue;
            if (next != long.MaxValue)
                ArmLocked(next);
        }

        foreach ((PeerCall call, bool hasLeft) in overdue)
        {
            string fate = hasLeft ? "The request had left: it may have been handled, or may be still." : "The request had not left, and will not.";
            call.Fail(new PeerUnavailableException(PeerFailure.TimedOut, hasLeft, $"No answer over the {_name} within the time limit. {fate}"));
        }
    }

    /// <summary>Gets what is queued written: by the pump that runs, or by this thread as far as it goes without waiting, or by the pool.</summary>
    private void Flush()
    {
        bool isBusy;
        lock (_gate)
        {
            if (_isPumping || (_isClosed ? !OwesGoodbyeLocked : _queue.IsEmpty))
                return;
            _isPumping = true;
            isBusy = _pending.Count > LoneCallsMax || Volatile.Read(ref _runningCount) > LoneCallsMax;
        }

        // A lone request goes out at once. Where many are under way, their answers come in together and so do the next requests: behind
        // those that are about to run in the pool's queue, the pump finds them all and writes once.
        // Not awaited: it never fails, and PumpEnded waits for it.
        if (isBusy)
            ThreadPool.UnsafeQueueUserWorkItem(static connection => _ = connection.PumpAsync(), this, preferLocal: false);
        else
            _ = PumpAsync();
    }

    private bool OwesGoodbyeLocked => !_saidGoodbye && _cause!.SaysGoodbye;

    private async Task PumpAsync()
    {
        try
        {
            for (int batch = 1; TakeBatch(); batch++)
            {
                WriteBatch();
                FlushResult result = await _transport.Output.FlushAsync(CancellationToken.None).ConfigureAwait(false);
                if (result.IsCanceled || result.IsCompleted)
                    throw new IOException("The other side closed the connection.");
                if (batch % LoanedBatches == 0)
                    await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
            }
        }
        catch (Exception error)
        {
            if (error is not (IOException or ObjectDisposedException or OperationCanceledException))
                NetworkLog.ConnectionFailed(_options.Logger, _name, error);
            ReleaseBatch();
            Close(new CloseCause(RefusalCode.None, error.Message, CloseKind.Lost));
            _transport.Abort();
            EndPump();
        }
    }

    /// <summary>False: nothing waits, and the pump has ended.</summary>
    private bool TakeBatch()
    {
        TaskCompletionSource? ended;
        lock (_gate)
        {
            if (_isClosed)
            {
                _queue.Clear();
                if (OwesGoodbyeLocked)
                {
                    _saidGoodbye = true;
                    PeerBuffer text = TextBuffer(_cause!.Text);
                    OutgoingMessage goodbye = new(FrameKind.Goodbye, PeerPriority.Control, (ushort)_cause.Code, 0, text);
                    _batch.Add(new OutgoingFrame(goodbye, FrameFlags.Whole, 0, text.Length));
                    return true;
                }
            }

            for (int bytes = 0; bytes < BatchBytes && _batch.Count < BatchFramesMax && _queue.TryNext(out OutgoingFrame frame);)
            {
                bytes += frame.FrameBytes;
                _batch.Add(frame);
                if (frame.IsLast && frame.Message.Call is PeerCall call)
                    call.HasLeft |= !frame.IsAbandoned;
            }

            if (_batch.Count > 0)
                return true;
            _isPumping = false;
            ended = _pumpEnded;
        }

        ended?.TrySetResult();
        return false;
    }

    private void WriteBatch()
    {
        PipeWriter output = _transport.Output;
        long bytes = 0;
        bool beyondPings = false;
        foreach (OutgoingFrame frame in _batch)
        {
            int frameBytes = frame.FrameBytes;
            OutgoingMessage message = frame.Message;
            FrameHeader header = new(_handshake.Version, message.Kind, frame.Flags, message.Priority, message.Code, _nextSequence++, message.Correlation);
            FrameFormat.Write(output.GetSpan(frameBytes)[..frameBytes], _handshake.SendSeed, header, frame.TotalBytes, frame.Payload);
            output.Advance(frameBytes);
            bytes += frameBytes;
            beyondPings |= message.Kind != FrameKind.Ping;
        }

        if (beyondPings)
            Volatile.Write(ref _hasSent, 1);
        _counters.Sent(_batch.Count, bytes);
        ReleaseBatch();
    }

    private void ReleaseBatch()
    {
        foreach (OutgoingFrame frame in _batch)
        {
            if (frame.IsLast)
                frame.Message.Payload?.Dispose();
        }

        _batch.Clear();
    }

    private void EndPump()
    {
        TaskCompletionSource? ended;
        lock (_gate)
        {
            // The queue stays closed, so nobody starts another; what it holds goes here.
            _queue.Clear();
            _saidGoodbye = true;
            _isPumping = false;
            ended = _pumpEnded;
        }

        ended?.TrySetResult();
    }

    /// <summary>Completes when the pump has ended; none starts any more. For a connection that is closed and aborted.</summary>
    private Task PumpEnded()
    {
        lock (_gate)
        {
            // Whoever closed it may come only now to write the goodbye: too late for that.
            _saidGoodbye = true;
            return _isPumping ? (_pumpEnded ??= new(TaskCreationOptions.RunContinuationsAsynchronously)).Task : Task.CompletedTask;
        }
    }

    /// <summary>A text for the other side, cut to what a small frame holds.</summary>
    private static PeerBuffer TextBuffer(string text)
    {
        PeerBuffer buffer = new(GoodbyeTextBytesMax);
        Encoding.UTF8.GetEncoder().Convert(text, buffer.GetSpan(GoodbyeTextBytesMax)[..GoodbyeTextBytesMax], flush: true, out _, out int bytes, out _);
        buffer.Advance(bytes);
        return buffer;
    }
}
