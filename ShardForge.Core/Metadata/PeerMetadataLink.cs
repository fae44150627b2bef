using System.Net;
using ShardForge.Network;

namespace ShardForge.Metadata;

/// <summary>The link over the node's peer network, and the way back: it answers its two services from a <see cref="MetadataService"/>.</summary>
/// <remarks>A network that speaks before the service is there answers nothing: register by <see cref="Serve"/> first.</remarks>
internal sealed class PeerMetadataLink(IPeerNetwork network) : IMetadataLink
{
    private readonly IPeerNetwork _network = network;

    /// <summary>Answers the requests of others from now on.</summary>
    public void Serve(MetadataService service)
    {
        _network.Register(PeerService.Metadata, new Handler(service.HandleAsync));
        _network.Register(PeerService.Formation, new Handler(service.HandleFormationAsync));
    }

    public async ValueTask<byte[]> AskAsync(string nodeId, ReadOnlyMemory<byte> request, TimeSpan timeout, CancellationToken cancellationToken)
    {
        using PeerBuffer answer = await _network.SendAsync(
            nodeId, PeerService.Metadata, PeerBuffer.Copy(request.Span), PeerPriority.Request, timeout, cancellationToken).ConfigureAwait(false);
        return answer.Span.ToArray();
    }

    public async ValueTask<byte[]> AskAddressAsync(EndPoint address, ReadOnlyMemory<byte> request, TimeSpan timeout, CancellationToken cancellationToken)
    {
        using PeerBuffer answer = await _network.SendToAddressAsync(
            address, PeerService.Formation, PeerBuffer.Copy(request.Span), timeout, cancellationToken).ConfigureAwait(false);
        return answer.Span.ToArray();
    }

    public void SetAddress(string nodeId, EndPoint address) => _network.SetAddress(nodeId, address);

    public void Remove(string nodeId) => _network.Remove(nodeId);

    public bool IsConnected(string nodeId) => _network.IsConnected(nodeId);

    public bool IsConnected(string nodeId, Guid instanceId)
    {
        foreach (HandshakeHello hello in _network.ConnectedHellos(nodeId))
        {
            if (hello.InstanceId == instanceId)
                return true;
        }

        return false;
    }

    private sealed class Handler(Func<string, ReadOnlyMemory<byte>, CancellationToken, ValueTask<byte[]>> answer) : IPeerRequestHandler
    {
        public async ValueTask<PeerReply> HandleAsync(PeerRequest request, CancellationToken cancellationToken) =>
            PeerReply.Copy(await answer(request.From, request.Payload, cancellationToken).ConfigureAwait(false));
    }
}
