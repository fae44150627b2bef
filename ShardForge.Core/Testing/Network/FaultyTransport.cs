using System.IO.Pipelines;
using System.Net;
using ShardForge.Network;

namespace ShardForge.Testing.Network;

/// <summary>A transport of one node of a test that obeys the <see cref="NetworkFaults"/> of the test.</summary>
/// <remarks>The side that dials puts both directions of its connection under the faults, so the accepting side needs nothing. All nodes of a
/// test have to dial through one of these.</remarks>
internal sealed class FaultyTransport(ITransport inner, NetworkFaults faults, int node) : ITransport
{
    public ITransportListener Listen(EndPoint endPoint)
    {
        ITransportListener listener = inner.Listen(endPoint);
        faults.SetOwner(listener.EndPoint, node);
        return listener;
    }

    public async ValueTask<ITransportConnection> ConnectAsync(EndPoint endPoint, CancellationToken cancellationToken)
    {
        if (faults.OwnerOf(endPoint) is not int target)
            return await inner.ConnectAsync(endPoint, cancellationToken).ConfigureAwait(false);

        // A connection takes a packet each way: it hangs if either is blocked.
        await faults.WaitUntilOpenAsync(node, target, cancellationToken).ConfigureAwait(false);
        await faults.WaitUntilOpenAsync(target, node, cancellationToken).ConfigureAwait(false);
        return new FaultyConnection(await inner.ConnectAsync(endPoint, cancellationToken).ConfigureAwait(false), faults, node, target);
    }
}

/// <summary>A dialled connection with a <see cref="FaultyStream"/> in each direction.</summary>
internal sealed class FaultyConnection : ITransportConnection
{
    private static readonly PipeOptions s_pipeOptions = new(readerScheduler: PipeScheduler.Inline, useSynchronizationContext: false);

    private readonly ITransportConnection _inner;
    private readonly NetworkFaults _faults;
    private readonly Pipe _outgoing = new(s_pipeOptions);
    private readonly Pipe _incoming = new(s_pipeOptions);
    private readonly CancellationTokenSource _ended = new();
    private readonly Task _streams;

    public FaultyConnection(ITransportConnection inner, NetworkFaults faults, int dialler, int acceptor)
    {
        _inner = inner;
        _faults = faults;
        Dialler = dialler;
        Acceptor = acceptor;
        faults.Add(this);
        _streams = Task.WhenAll(
            new FaultyStream(faults, dialler, acceptor, _outgoing.Reader, inner.Output, _ended.Token).RunAsync(),
            new FaultyStream(faults, acceptor, dialler, inner.Input, _incoming.Writer, _ended.Token).RunAsync());
    }

    public int Dialler { get; }

    public int Acceptor { get; }

    public PipeReader Input => _incoming.Reader;

    public PipeWriter Output => _outgoing.Writer;

    public EndPoint? Local => _inner.Local;

    public EndPoint? Remote => _inner.Remote;

    public void Abort()
    {
        _ended.Cancel();
        _inner.Abort();
        _outgoing.Reader.CancelPendingRead();
        _outgoing.Writer.CancelPendingFlush();
        _incoming.Reader.CancelPendingRead();
        _incoming.Writer.CancelPendingFlush();
    }

    public async ValueTask DisposeAsync()
    {
        // What was written still goes, if nothing holds it; what is read by nobody ends the other direction.
        await _outgoing.Writer.CompleteAsync().ConfigureAwait(false);
        await _incoming.Reader.CompleteAsync().ConfigureAwait(false);
        if (_faults.IsActive)
            Abort();
        _inner.Input.CancelPendingRead();
        await _streams.ConfigureAwait(false);
        _faults.Remove(this);
        await _inner.DisposeAsync().ConfigureAwait(false);
    }
}
