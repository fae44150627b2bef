using System.Diagnostics.CodeAnalysis;
using System.Net;

namespace ShardForge.Network;

/// <summary>Keeps this node's own connection to one peer at one address: opens it, notices its end, tries again.</summary>
/// <remarks><code>
/// Opening ──→ Open ──→ Opening            a request waits for the first attempt after a start or a loss,
///    ↓         ↑                          within its own time limit
///   Down ──────┘                          after a failure requests fail at once, until an attempt succeeds
/// </code>
/// Threads: one loop; the rest is called by any. Lock: <c>_gate</c> guards the state; nothing is completed or called under it.</remarks>
[SuppressMessage("Design", "CA1001", Justification = "Stopped by its token source, which holds nothing else; its loop may look at it until the end.")]
internal sealed class PeerLink
{
    private readonly Lock _gate = new();
    private readonly PeerNetwork _network;
    private readonly CancellationTokenSource _stop = new();
    private TaskCompletionSource<PeerConnection>? _opening = NewOpening();
    private TaskCompletionSource? _delay;
    private PeerConnection? _connection;
    private Exception? _lastError;
    private Task _loop = Task.CompletedTask;

    public PeerLink(PeerNetwork network, string nodeId, EndPoint endPoint, PeerCounters counters)
    {
        _network = network;
        NodeId = nodeId;
        EndPoint = endPoint;
        Counters = counters;
    }

    public string NodeId { get; }

    public EndPoint EndPoint { get; }

    public PeerCounters Counters { get; }

    /// <summary>The open connection; null while there is none.</summary>
    public PeerConnection? Connection => Volatile.Read(ref _connection) is { IsClosed: false } open ? open : null;

    public void Start()
    {
        using AsyncFlowControl? flow = ExecutionContext.IsFlowSuppressed() ? null : ExecutionContext.SuppressFlow();
        _loop = RunAsync();
    }

    /// <summary>Completes when the loop has ended; never fails.</summary>
    public Task Ended => _loop;

    /// <summary>Stops trying. The open connection is closed by the network.</summary>
    public void Stop() => _stop.Cancel();

    /// <summary>The peer was heard of otherwise: no use to wait any longer before the next attempt.</summary>
    public void TryNow()
    {
        TaskCompletionSource? delay;
        lock (_gate)
            delay = _delay;
        delay?.TrySetResult();
    }

    /// <summary>As <see cref="IPeerNetwork.SendAsync(string, PeerService, PeerBuffer, PeerPriority, TimeSpan, CancellationToken)"/>.</summary>
    public ValueTask<PeerBuffer> CallAsync(PeerService service, PeerBuffer payload, PeerPriority priority, long deadline, CancellationToken cancellationToken)
    {
        if (Connection is PeerConnection connection)
            return connection.CallAsync(service, payload, priority, deadline, cancellationToken);

        TaskCompletionSource<PeerConnection>? opening;
        Exception? lastError;
        lock (_gate)
        {
            opening = _opening;
            lastError = _lastError;
        }

        if (opening is not null)
            return CallWhenOpenAsync(opening.Task, service, payload, priority, deadline, cancellationToken);
        payload.Dispose();
        return ValueTask.FromException<PeerBuffer>(DownError(lastError));
    }

    private static TaskCompletionSource<PeerConnection> NewOpening() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private async ValueTask<PeerBuffer> CallWhenOpenAsync(
        Task<PeerConnection> opening, PeerService service, PeerBuffer payload, PeerPriority priority, long deadline, CancellationToken cancellationToken)
    {
        PeerConnection connection;
        try
        {
            TimeProvider time = _network.Options.TimeProvider;
            TimeSpan left = time.GetElapsedTime(time.GetTimestamp(), deadline);
            connection = await opening.WaitAsync(left > TimeSpan.Zero ? left : TimeSpan.Zero, time, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException error)
        {
            payload.Dispose();
            string message = $"The link to {NodeId} ({EndPoint}) did not open within the time limit. The request had not left.";
            throw new PeerUnavailableException(PeerFailure.TimedOut, mayHaveLeft: false, message, error);
        }
        catch (Exception)
        {
            payload.Dispose();
            throw;
        }

        return await connection.CallAsync(service, payload, priority, deadline, cancellationToken).ConfigureAwait(false);
    }

    private PeerUnavailableException DownError(Exception? cause)
    {
        PeerFailure failure = cause switch
        {
            _ when _network.IsStopping => PeerFailure.Stopped,
            PeerRefusedException => PeerFailure.Refused,
            _ => PeerFailure.NotConnected,
        };
        string message = $"No link to {NodeId} ({EndPoint}): {cause?.Message ?? "it is closed."} The request had not left.";
        return new PeerUnavailableException(failure, mayHaveLeft: false, message, cause);
    }

    private async Task RunAsync()
    {
        int failures = 0;
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                ShakenConnection opened = await _network.Dialer.DialAsync(EndPoint, NodeId, HandshakePurpose.Link, _stop.Token).ConfigureAwait(false);
                failures = await KeepAsync(opened, failures).ConfigureAwait(false);
            }
            catch (Exception error)
            {
                // Whatever the transport or a policy throws: the attempt failed, its waiters are told, the next one comes.
                if (!_stop.IsCancellationRequested)
                    ReportFailure(error, failures++);
                Fail(error);
            }

            await DelayAsync(_network.Dialer.ReconnectDelay(failures)).ConfigureAwait(false);
        }

        Fail(new OperationCanceledException("The link was removed."));
    }

    /// <returns>Failures in a row after it: one that was closed as soon as it was open counts as one.</returns>
    private async Task<int> KeepAsync(ShakenConnection opened, int failures)
    {
        TimeProvider time = _network.Options.TimeProvider;
        long openedAt = time.GetTimestamp();
        PeerConnection connection = _network.Adopt(opened, LinkDirection.Outgoing, Counters);
        Counters.Connected();
        TaskCompletionSource<PeerConnection>? opening;
        lock (_gate)
        {
            (opening, _opening) = (_opening, null);
            Volatile.Write(ref _connection, connection);
            _lastError = null;
        }

        opening?.TrySetResult(connection);
        NetworkLog.LinkOpened(_network.Options.Logger, _network.NodeId, NodeId, EndPoint.ToString() ?? "");
        _network.RaiseStateChanged(NodeId, isConnected: true);

        // A link that is removed is closed by the network, which knows why; one that is stopped while it was being opened is closed here.
        if (_stop.IsCancellationRequested)
            connection.Close(PeerNetwork.Removed);
        await connection.Completion.ConfigureAwait(false);
        _network.Forget(connection);
        bool lasted = time.GetElapsedTime(openedAt) >= _network.Options.ReconnectDelayMax;
        lock (_gate)
        {
            Volatile.Write(ref _connection, null);
            _opening = NewOpening();
        }

        NetworkLog.LinkLost(_network.Options.Logger, _network.NodeId, NodeId, connection.Cause!.Text);
        _network.RaiseStateChanged(NodeId, isConnected: false);
        return lasted ? 0 : failures + 1;
    }

    private void Fail(Exception error)
    {
        TaskCompletionSource<PeerConnection>? opening;
        lock (_gate)
        {
            (opening, _opening) = (_opening, null);
            _lastError = error;
        }

        if (opening?.TrySetException(DownError(error)) == true)
        {
            // Most of the time nobody waits for it; then the error counts as seen.
            _ = opening.Task.Exception;
        }
    }

    private void ReportFailure(Exception error, int failuresBefore)
    {
        if (error is PeerRefusedException refused)
            _network.ReportRefusal(new PeerRefusal(refused.NodeId ?? NodeId, EndPoint, refused));
        else if (failuresBefore == 0)
            NetworkLog.LinkDown(_network.Options.Logger, _network.NodeId, NodeId, EndPoint.ToString() ?? "", error.Message);
    }

    private async Task DelayAsync(TimeSpan delay)
    {
        if (delay == TimeSpan.Zero || _stop.IsCancellationRequested)
            return;
        TaskCompletionSource called = new(TaskCreationOptions.RunContinuationsAsynchronously);
        using CancellationTokenSource ended = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
        lock (_gate)
            _delay = called;
        await Task.WhenAny(called.Task, Task.Delay(delay, _network.Options.TimeProvider, ended.Token)).ConfigureAwait(false);
        await ended.CancelAsync().ConfigureAwait(false);
        lock (_gate)
            _delay = null;
    }
}
