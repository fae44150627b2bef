using System.Collections.Concurrent;
using System.Net;

namespace ShardForge.Network;

/// <summary>The peer links of one node.</summary>
/// <remarks>In the order of a request: <see cref="PeerLink"/> (one per peer, keeps a connection) → <see cref="PeerDialer"/> → <see cref="Handshake"/> →
/// <see cref="PeerConnection"/> → <see cref="SendQueue"/> → <see cref="FrameFormat"/> → <see cref="ITransport"/> ⇒ its accept loop →
/// <see cref="MessageAssembler"/> → <see cref="PeerHandlers"/>.
/// <code>
/// Open: the address is bound     Register: who answers     Start: others are let in     SetAddress: links are dialled     Dispose or Kill
/// </code>
/// Locks: none is held while another is taken.</remarks>
internal sealed partial class PeerNetwork : IPeerNetwork
{
    /// <summary>Why a connection ends that nobody needs any more.</summary>
    public static readonly CloseCause Removed = new(RefusalCode.Closing, "It is not needed any more.", CloseKind.Removed);

    private static readonly TimeSpan s_timeoutMax = TimeSpan.FromDays(1);

    private readonly ConcurrentDictionary<string, PeerLink> _links = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, PeerCounters> _counters = new(StringComparer.Ordinal);
    private readonly PeerConnections _connections = new();
    private readonly PeerHandlers _handlers = new();
    private readonly ActivityCount _activity = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly ITransportListener? _listener;
    private readonly Lock _gate = new();
    private Task _beating = Task.CompletedTask;
    private Task? _disposing;
    private bool _isStopping;

    private PeerNetwork(PeerNetworkOptions options, ITransportListener? listener)
    {
        Options = options;
        NodeId = options.LocalHello().NodeId;
        Dialer = new PeerDialer(options, _stop.Token);
        _listener = listener;
    }

    public event Action<string, bool>? PeerStateChanged;

    public event Action<PeerRefusal>? PeerRefused;

    public PeerNetworkOptions Options { get; }

    public string NodeId { get; }

    public EndPoint? ListenEndPoint => _listener?.EndPoint;

    public PeerDialer Dialer { get; }

    /// <summary>Binds the address. Nobody is let in, and no heartbeat goes, before <see cref="Start"/>.</summary>
    /// <exception cref="ConfigurationException">ListenEndPoint: in use, or not of this machine.</exception>
    public static PeerNetwork Open(PeerNetworkOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.FrameBytesMax, FrameFormat.FrameBytesMaxLowest);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(options.HeartbeatInterval, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.SilenceAlarm, options.HeartbeatInterval);
        return new PeerNetwork(options, options.ListenEndPoint is EndPoint endPoint ? options.Transport.Listen(endPoint) : null);
    }

    /// <summary>Lets others in. Call it when the handlers are registered.</summary>
    public void Start()
    {
        using AsyncFlowControl? flow = ExecutionContext.IsFlowSuppressed() ? null : ExecutionContext.SuppressFlow();
        _beating = BeatAsync();
        if (_listener is null)
            return;
        NetworkLog.Listening(Options.Logger, NodeId, EndPointText.Format(_listener.EndPoint));
        if (Options.Security is null && _listener.EndPoint is IPEndPoint address && !IPAddress.IsLoopback(address.Address))
            NetworkLog.ListeningBeyondLoopback(Options.Logger, NodeId, EndPointText.Format(_listener.EndPoint));
        _accepting = AcceptAsync(_listener);
    }

    public void Register(PeerService service, IPeerRequestHandler handler) => _handlers.Set(service, handler);

    public void SetAddress(string nodeId, EndPoint endPoint)
    {
        ArgumentException.ThrowIfNullOrEmpty(nodeId);
        ArgumentNullException.ThrowIfNull(endPoint);
        PeerLink? replaced;
        PeerLink link;
        lock (_gate)
        {
            if (_isStopping || (_links.TryGetValue(nodeId, out replaced) && replaced.EndPoint.Equals(endPoint)))
                return;
            link = new PeerLink(this, nodeId, endPoint, CountersOf(nodeId));
            _links[nodeId] = link;
        }

        if (replaced is not null)
            StopLink(replaced);
        link.Start();
    }

    public void Remove(string nodeId)
    {
        PeerLink? removed;
        lock (_gate)
        {
            _links.TryRemove(nodeId, out removed);
            _counters.TryRemove(nodeId, out _);
        }

        if (removed is not null)
            StopLink(removed);
        _connections.Close(nodeId, Removed);
    }

    public ValueTask<PeerBuffer> SendAsync(
        string nodeId, PeerService service, PeerBuffer payload, PeerPriority priority, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            payload.Dispose();
            return ValueTask.FromCanceled<PeerBuffer>(cancellationToken);
        }

        if (Refusal(payload, timeout) is Exception refusal)
        {
            payload.Dispose();
            return ValueTask.FromException<PeerBuffer>(refusal);
        }

        if (_links.TryGetValue(nodeId, out PeerLink? link))
            return link.CallAsync(service, payload, priority, Deadline(timeout), cancellationToken);
        payload.Dispose();
        return ValueTask.FromException<PeerBuffer>(new PeerUnavailableException(
            PeerFailure.UnknownNode, mayHaveLeft: false, $"No address of {nodeId} is known to {NodeId}. The request had not left."));
    }

    public bool TrySend(string nodeId, PeerService service, PeerBuffer payload, PeerPriority priority)
    {
        if (payload.Length <= Options.MessageBytesMax && _links.TryGetValue(nodeId, out PeerLink? link) && link.Connection is PeerConnection connection)
            return connection.TrySend(service, payload, priority);
        payload.Dispose();
        return false;
    }

    public async ValueTask<PeerBuffer> SendToAddressAsync(
        EndPoint endPoint, PeerService service, PeerBuffer payload, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        long deadline = Deadline(timeout);
        PeerConnection connection;
        _activity.Enter();
        try
        {
            if (Refusal(payload, timeout) is Exception refusal)
                throw refusal;
            ShakenConnection opened = await DialOnceAsync(endPoint, HandshakePurpose.Call, timeout, cancellationToken).ConfigureAwait(false);
            connection = Adopt(opened, LinkDirection.Outgoing, new PeerCounters());
        }
        catch (Exception)
        {
            payload.Dispose();
            _activity.Exit();
            throw;
        }

        try
        {
            return await connection.CallAsync(service, payload, PeerPriority.Control, deadline, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            connection.Close(Removed);

            // The caller has its answer and does not wait for the goodbye; the count of activities does.
            _ = ForgetWhenEndedAsync(connection);
        }
    }

    public async ValueTask<HandshakeHello> ProbeAsync(EndPoint endPoint, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        _activity.Enter();
        try
        {
            ShakenConnection opened = await DialOnceAsync(endPoint, HandshakePurpose.Probe, timeout, cancellationToken).ConfigureAwait(false);
            await opened.Transport.DisposeAsync().ConfigureAwait(false);
            return opened.Outcome.Remote;
        }
        finally
        {
            _activity.Exit();
        }
    }

    public bool IsConnected(string nodeId) => _links.TryGetValue(nodeId, out PeerLink? link) && link.Connection is not null;

    public long LastHeard(string nodeId) => _counters.TryGetValue(nodeId, out PeerCounters? counters) ? counters.LastHeard : 0;

    public IReadOnlyList<HandshakeHello> ConnectedHellos(string nodeId) => _connections.Hellos(nodeId);

    public PeerLinkStatistics? GetStatistics(string nodeId)
    {
        if (!_links.TryGetValue(nodeId, out PeerLink? link))
            return null;
        PeerConnection? connection = link.Connection;
        return link.Counters.ToStatistics(connection?.RequestsPending ?? 0, connection?.QueuedBytes ?? 0);
    }

    public void Kill() => Stop(new CloseCause(RefusalCode.Closing, $"{NodeId} was killed.", CloseKind.Killed));

    public ValueTask DisposeAsync()
    {
        lock (_gate)
            _disposing ??= DisposeOnceAsync();
        return new ValueTask(_disposing);
    }

    /// <summary>Disposed or killed.</summary>
    internal bool IsStopping => Volatile.Read(ref _isStopping);

    /// <summary>Starts an opened connection, which is to be given to <see cref="Forget"/> at its end.</summary>
    internal PeerConnection Adopt(ShakenConnection opened, LinkDirection direction, PeerCounters counters)
    {
        PeerConnection connection = new(opened.Transport, opened.Outcome, direction, Options, _handlers, counters);
        _connections.Start(connection);
        return connection;
    }

    /// <summary>Forgets a connection whose loops have ended, and reports why if it was for a broken protocol.</summary>
    internal void Forget(PeerConnection connection)
    {
        _connections.Remove(connection);
        CloseCause cause = connection.Cause!;
        if (cause.Code is RefusalCode.None or RefusalCode.Closing or RefusalCode.Silent)
            return;
        RefusedBy by = cause.Kind == CloseKind.ByPeer ? RefusedBy.Peer : RefusedBy.ThisNode;
        string message = $"The {connection} was closed by {(by == RefusedBy.Peer ? "the peer" : NodeId)} ({cause.Code}): {cause.Text}";
        string remote = connection.Remote.NodeId;
        ReportRefusal(new PeerRefusal(remote, connection.RemoteEndPoint, new PeerRefusedException(cause.Code, by, cause.Text, message, remote)));
    }

    internal void ReportRefusal(PeerRefusal refusal)
    {
        PeerRefusedException error = refusal.Error;
        string peer = refusal.NodeId ?? "unknown", address = refusal.Remote?.ToString() ?? "address unknown";
        NetworkLog.Refused(Options.Logger, NodeId, peer, address, error.Code, error.RefusedBy, error.Text);
        try
        {
            PeerRefused?.Invoke(refusal);
        }
        catch (Exception failure)
        {
            // Links do not hang on who listens.
            NetworkLog.EventFailed(Options.Logger, NodeId, failure);
        }
    }

    internal void RaiseStateChanged(string nodeId, bool isConnected)
    {
        try
        {
            PeerStateChanged?.Invoke(nodeId, isConnected);
        }
        catch (Exception error)
        {
            // Links do not hang on who listens.
            NetworkLog.EventFailed(Options.Logger, NodeId, error);
        }
    }

    private PeerCounters CountersOf(string nodeId) => _counters.GetOrAdd(nodeId, static _ => new PeerCounters());

    private long Deadline(TimeSpan timeout)
    {
        double ticks = Math.Min(timeout.TotalSeconds, s_timeoutMax.TotalSeconds) * Options.TimeProvider.TimestampFrequency;
        return Options.TimeProvider.GetTimestamp() + (long)ticks;
    }

    private Exception? Refusal(PeerBuffer payload, TimeSpan timeout)
    {
        if (timeout <= TimeSpan.Zero)
            return new ArgumentOutOfRangeException(nameof(timeout), timeout, "A request's time limit is above zero.");
        int limit = Options.MessageBytesMax;
        if (payload.Length <= limit)
            return null;
        string message = $"A message of {payload.Length:N0} bytes is over the limit of {limit:N0} of a peer link. It was not sent.";
        return new LimitExceededException(nameof(PeerNetworkOptions.MessageBytesMax), limit, payload.Length, message);
    }

    private async ValueTask<ShakenConnection> DialOnceAsync(
        EndPoint endPoint, HandshakePurpose purpose, TimeSpan timeout, CancellationToken cancellationToken)
    {
        using CancellationTokenSource time = new(timeout < s_timeoutMax ? timeout : s_timeoutMax, Options.TimeProvider);
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(time.Token, cancellationToken);
        try
        {
            return await Dialer.DialAsync(endPoint, expectedNodeId: "", purpose, limit.Token).ConfigureAwait(false);
        }
        catch (PeerRefusedException error)
        {
            throw new PeerUnavailableException(PeerFailure.Refused, mayHaveLeft: false, error.Message, error);
        }
        catch (IOException error)
        {
            throw new PeerUnavailableException(PeerFailure.NotConnected, mayHaveLeft: false, $"No connection to {endPoint}: {error.Message}", error);
        }
        catch (OperationCanceledException error) when (!cancellationToken.IsCancellationRequested)
        {
            PeerFailure failure = _stop.IsCancellationRequested ? PeerFailure.Stopped : PeerFailure.TimedOut;
            string message = $"No connection to {endPoint} within {timeout.TotalMilliseconds:N0} ms, or {NodeId} is closing.";
            throw new PeerUnavailableException(failure, mayHaveLeft: false, message, error);
        }
        catch (OperationCanceledException)
        {
            throw new OperationCanceledException(cancellationToken);
        }
    }

    private async Task ForgetWhenEndedAsync(PeerConnection connection)
    {
        await connection.Completion.ConfigureAwait(false);
        Forget(connection);
        _activity.Exit();
    }

    private void StopLink(PeerLink link)
    {
        _activity.Enter();
        link.Stop();
        link.Connection?.Close(Removed);

        // Whoever removes a peer does not wait for its loop; the count of activities does.
        _ = CountAsync(link.Ended);
    }

    private async Task CountAsync(Task stopped)
    {
        await stopped.ConfigureAwait(false);
        _activity.Exit();
    }

    private async Task BeatAsync()
    {
        int quietTicksMax = (int)Math.Ceiling(Options.SilenceAlarm / Options.HeartbeatInterval);
        using PeriodicTimer timer = new(Options.HeartbeatInterval, Options.TimeProvider);
        try
        {
            while (await timer.WaitForNextTickAsync(_stop.Token).ConfigureAwait(false))
                _connections.Tick(quietTicksMax);
        }
        catch (OperationCanceledException)
        {
            // The network stops.
        }
    }

    private void Stop(CloseCause cause)
    {
        PeerLink[] links;
        lock (_gate)
        {
            Volatile.Write(ref _isStopping, true);
            links = [.. _links.Values];
        }

        // First what may start others, then the connections with the reason that counts, then the loops that would only know a lesser one.
        _listener?.Dispose();
        _stop.Cancel();
        _connections.CloseAll(cause);
        foreach (PeerLink link in links)
            StopLink(link);
    }

    private async Task WhenEndedAsync()
    {
        // In this order: the first two start what the others count.
        await _accepting.ConfigureAwait(false);
        await _beating.ConfigureAwait(false);
        await _activity.WhenIdle().ConfigureAwait(false);
        await _handlers.Running.WhenIdle().ConfigureAwait(false);
    }

    private async Task DisposeOnceAsync()
    {
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        Stop(new CloseCause(RefusalCode.Closing, $"{NodeId} closes.", CloseKind.Stopped));
        try
        {
            // In real time: a frozen test clock must not hold up a dispose.
            await WhenEndedAsync().WaitAsync(Options.CloseTimeout, TimeProvider.System, CancellationToken.None).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            NetworkLog.CloseCutShort(Options.Logger, NodeId, Options.CloseTimeout);
        }
    }
}
