using System.Net;

namespace ShardForge.Network;

/// <content>Those who dial this node: let in, or turned away.</content>
internal sealed partial class PeerNetwork
{
    private static readonly TimeSpan s_acceptRetryDelay = TimeSpan.FromMilliseconds(20);

    private Task _accepting = Task.CompletedTask;
    private int _handshakes;

    private async Task AcceptAsync(ITransportListener listener)
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                if (await listener.AcceptAsync(_stop.Token).ConfigureAwait(false) is not ITransportConnection accepted)
                    return;
                _activity.Enter();

                // Not awaited here: it never fails, and the count of activities waits for it.
                _ = ServeAsync(accepted);
            }
            catch (OperationCanceledException)
            {
                return;
            }
            catch (Exception error)
            {
                // Out of handles, most likely: the listener stays, others may go.
                NetworkLog.AcceptFailed(Options.Logger, NodeId, error.Message);
                await Task.Delay(s_acceptRetryDelay, TimeProvider.System, _stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    private async Task ServeAsync(ITransportConnection accepted)
    {
        EndPoint? address = accepted.Remote;
        try
        {
            // A stranger costs one of a few places, a bounded read and a bounded time; without a place, nothing.
            if (await ShakeAsync(accepted).ConfigureAwait(false) is not ShakenConnection opened)
                return;
            if (opened.Outcome.Remote.Purpose == HandshakePurpose.Probe)
            {
                await opened.Transport.DisposeAsync().ConfigureAwait(false);
                return;
            }

            HandshakeHello remote = opened.Outcome.Remote;
            PeerCounters counters = remote.Purpose == HandshakePurpose.Link ? CountersOf(remote.NodeId) : new PeerCounters();
            PeerConnection connection = Adopt(opened, LinkDirection.Incoming, counters);
            if (_links.TryGetValue(remote.NodeId, out PeerLink? link))
                link.TryNow();
            await connection.Completion.ConfigureAwait(false);
            Forget(connection);
        }
        catch (Exception error)
        {
            NetworkLog.AcceptFailed(Options.Logger, NodeId, $"{address}: {error.Message}");
        }
        finally
        {
            _activity.Exit();
        }
    }

    /// <summary>Null: no peer, or none that may come in. The connection is ended then.</summary>
    private async ValueTask<ShakenConnection?> ShakeAsync(ITransportConnection accepted)
    {
        try
        {
            bool hasPlace = Interlocked.Increment(ref _handshakes) <= Options.HandshakesMax;
            if (hasPlace && _connections.Count(LinkDirection.Incoming) < Options.IncomingConnectionsMax)
                return await Dialer.AcceptAsync(accepted).ConfigureAwait(false);
            accepted.Abort();
            await accepted.DisposeAsync().ConfigureAwait(false);
            return null;
        }
        catch (PeerRefusedException error)
        {
            ReportRefusal(new PeerRefusal(error.NodeId, accepted.Remote, error));
            return null;
        }
        catch (Exception error) when (error is IOException or OperationCanceledException)
        {
            return null;                                                         // it went away, or we do
        }
        finally
        {
            Interlocked.Decrement(ref _handshakes);
        }
    }
}
