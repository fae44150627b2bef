using System.Diagnostics.CodeAnalysis;
using System.IO.Pipelines;
using System.Net;

namespace ShardForge.Network;

/// <summary>One connection after its handshake: requests one way, their answers the other.</summary>
/// <remarks><code>
/// sender ─→ SendQueue ─→ pump: FrameFormat.Write ─→ Output ══→ Input ─→ reading loop: FrameFormat.TryRead ─→ MessageAssembler ─→ handler
///    ↑                                                                                                                        │ reply
///    └────────── PeerCall ←─ reading loop ←─ Input ←══ Output ←─ pump ←─ SendQueue ←──────────────────────────────────────────┘
/// </code>
/// The side that dialled sends requests, the other answers them.
/// Threads: one reading loop; one pump at a time, run by whoever adds to an idle queue, so that a lone request costs no hop and many share a write.
/// Lock: <c>_gate</c> guards queue, table, flags; nothing is completed, written or called under it.
/// Invariants: a call is in the table until it is completed; after <c>_isClosed</c> nothing is added; only the pump, or whoever closes while there is none,
/// clears the queue. At most once (R22): a request is written to one connection, once; what was in the queue when that broke did not leave.</remarks>
[SuppressMessage("Design", "CA1001", Justification = "Its loops own what it holds and free it when they end.")]
internal sealed partial class PeerConnection
{
    /// <summary>How long a side that says goodbye waits for the other to close. In real time: a frozen test clock must not hold up a dispose.</summary>
    private static readonly TimeSpan s_goodbyeTimeout = TimeSpan.FromMilliseconds(250);

    private readonly Lock _gate = new();
    private readonly ITransportConnection _transport;
    private readonly HandshakeOutcome _handshake;
    private readonly LinkDirection _direction;
    private readonly PeerNetworkOptions _options;
    private readonly PeerHandlers _handlers;
    private readonly PeerCounters _counters;
    private readonly string _name;
    private readonly CancellationTokenSource _ended = new();
    private Task _completion = Task.CompletedTask;
    private ITimer? _goodbyeTimer;
    private CloseCause? _cause;
    private bool _isClosed;
    private int _quietTicks;

    /// <summary>The connection is taken over: ended and disposed by the loops that <see cref="Start"/> starts.</summary>
    public PeerConnection(
        ITransportConnection transport,
        HandshakeOutcome handshake,
        LinkDirection direction,
        PeerNetworkOptions options,
        PeerHandlers handlers,
        PeerCounters counters)
    {
        _transport = transport;
        _handshake = handshake;
        _direction = direction;
        _options = options;
        _handlers = handlers;
        _counters = counters;
        string way = direction == LinkDirection.Outgoing ? "link to" : "link from";
        _name = $"{way} {handshake.Remote.NodeId} ({transport.Remote?.ToString() ?? "address unknown"})";
        _assembler = new MessageAssembler(options.MessageBytesMax);
        int frameBytesMax = Math.Min(options.FrameBytesMax, handshake.RemoteFrameBytesMax);
        _queue = new SendQueue(frameBytesMax, options.Limits.PeerQueueBytesMax, options.Limits.PeerRequestsMax);
        _timer = direction == LinkDirection.Outgoing
            ? options.TimeProvider.CreateTimer(FailOverdue, this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan)
            : null;
    }

    public HandshakeHello Remote => _handshake.Remote;

    public EndPoint? RemoteEndPoint => _transport.Remote;

    public LinkDirection Direction => _direction;

    public bool IsClosed => Volatile.Read(ref _isClosed);

    /// <summary>Completes when the connection is closed, its loops have ended and its resources are free. Never fails.</summary>
    public Task Completion => _completion;

    /// <summary>Why it was closed; null while it is open.</summary>
    public CloseCause? Cause => Volatile.Read(ref _cause);

    public void Start()
    {
        // The loops outlive the caller: its ambient context (activity, locals) is not theirs.
        using AsyncFlowControl? flow = ExecutionContext.IsFlowSuppressed() ? null : ExecutionContext.SuppressFlow();
        _completion = RunAsync();
    }

    /// <summary>Ends the connection. Pending calls fail now. Only the first call counts.</summary>
    public void Close(CloseCause cause)
    {
        List<(PeerCall Call, bool HasLeft)> calls = [];
        lock (_gate)
        {
            if (_isClosed)
                return;
            _cause = cause;
            Volatile.Write(ref _isClosed, true);
            foreach (PeerCall call in _pending.Values)
                calls.Add((call, call.HasLeft));
            _pending.Clear();
            if (!_isPumping)
                _queue.Clear();
            if (cause.SaysGoodbye)
                _goodbyeTimer = TimeProvider.System.CreateTimer(AbortTransport, _transport, s_goodbyeTimeout, Timeout.InfiniteTimeSpan);
        }

        _timer?.Dispose();
        foreach ((PeerCall call, bool hasLeft) in calls)
            call.Fail(LostError(cause, hasLeft));
        if (cause.SaysGoodbye)
            Flush();
        else
            _transport.Abort();
    }

    /// <summary>Once per heartbeat interval: pings a quiet link, ends a silent one.</summary>
    /// <remarks>Silence is counted in ticks, not in time: after the process itself stood still, one tick passes, and what has arrived is read first.
    /// Only whole valid frames count as heard, so a damaged length that swallows what follows ends here too.</remarks>
    public void Tick(int quietTicksMax)
    {
        int quietTicks = Interlocked.Increment(ref _quietTicks);
        if (quietTicks > quietTicksMax)
        {
            Close(new CloseCause(RefusalCode.Silent, $"Nothing was heard for {_options.SilenceAlarm.TotalMilliseconds:N0} ms.", CloseKind.Lost));
            return;
        }

        bool sent = Interlocked.Exchange(ref _hasSent, 0) != 0;
        if (_direction == LinkDirection.Outgoing && (quietTicks > 1 || !sent))
            Ping();
    }

    public override string ToString() => _name;

    private static void AbortTransport(object? transport) => ((ITransportConnection)transport!).Abort();

    private async Task RunAsync()
    {
        CloseCause cause;
        try
        {
            cause = await ReceiveAsync().ConfigureAwait(false);
        }
        catch (PeerProtocolException error)
        {
            cause = new CloseCause(error.Code, error.Message, CloseKind.Refused);
        }
        catch (Exception error) when (error is IOException or ObjectDisposedException or OperationCanceledException)
        {
            cause = new CloseCause(RefusalCode.None, error.Message, CloseKind.Lost);
        }
        catch (Exception error)
        {
            NetworkLog.ConnectionFailed(_options.Logger, _name, error);
            cause = new CloseCause(RefusalCode.None, error.Message, CloseKind.Lost);
        }

        Close(cause);
        try
        {
            await _ended.CancelAsync().ConfigureAwait(false);
            if (Cause!.SaysGoodbye)
                await DrainAsync().ConfigureAwait(false);
            _transport.Abort();
            await PumpEnded().ConfigureAwait(false);
            await _transport.DisposeAsync().ConfigureAwait(false);
        }
        catch (Exception error)
        {
            // What is left to do does not depend on the transport or on a handler's cancellation callback.
            NetworkLog.ConnectionFailed(_options.Logger, _name, error);
        }

        _assembler.Dispose();
        if (_goodbyeTimer is not null)
            await _goodbyeTimer.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>Reads and drops until the other side closes or the goodbye's time is up: closing with unread bytes would reset the connection, and
    /// the goodbye could be lost.</summary>
    private async Task DrainAsync()
    {
        try
        {
            while (true)
            {
                ReadResult result = await _transport.Input.ReadAsync(CancellationToken.None).ConfigureAwait(false);
                _transport.Input.AdvanceTo(result.Buffer.End);
                if (result.IsCanceled || result.IsCompleted)
                    return;
            }
        }
        catch (Exception error) when (error is IOException or ObjectDisposedException or OperationCanceledException)
        {
            // Closed by the other side or by the timer: what the drain waits for.
        }
    }

    private PeerUnavailableException LostError(CloseCause cause, bool hasLeft)
    {
        PeerFailure failure = cause.Kind is CloseKind.Stopped or CloseKind.Killed ? PeerFailure.Stopped : PeerFailure.LinkLost;
        string fate = hasLeft ? "The request had left: it may have been handled." : "The request had not left.";
        return new PeerUnavailableException(failure, hasLeft, $"The {_name} was closed: {cause.Text} {fate}");
    }
}

/// <summary>Why a connection ended.</summary>
internal sealed record CloseCause(RefusalCode Code, string Text, CloseKind Kind)
{
    /// <summary>The other side is told.</summary>
    public bool SaysGoodbye => Kind is CloseKind.Refused or CloseKind.Stopped or CloseKind.Removed;
}

internal enum CloseKind
{
    /// <summary>It broke, or nothing was heard.</summary>
    Lost,

    /// <summary>The other side said goodbye.</summary>
    ByPeer,

    /// <summary>The other side broke the protocol.</summary>
    Refused,

    /// <summary>The peer's address was removed or changed, or what the connection was for is done.</summary>
    Removed,

    /// <summary>This node's network is being disposed.</summary>
    Stopped,

    /// <summary>This node's network was killed.</summary>
    Killed,
}
