using ShardForge.Network;

namespace ShardForge.Consensus;

/// <summary>The messages of a node's groups over its peer links. Snapshots go as a service of their own, behind everything else.</summary>
internal sealed class PeerRaftLink(IPeerNetwork network) : IRaftLink
{
    private readonly IPeerNetwork _network = network;

    public void Register(IRaftLinkHandler handler)
    {
        Answerer answerer = new(handler);
        _network.Register(PeerService.Raft, answerer);
        _network.Register(PeerService.Snapshot, answerer);
    }

    public ValueTask<PeerBuffer> RequestAsync(string nodeId, PeerBuffer message, bool bulk, TimeSpan limit, CancellationToken cancellationToken) =>
        bulk
            ? _network.SendAsync(nodeId, PeerService.Snapshot, message, PeerPriority.Bulk, limit, cancellationToken)
            : _network.SendAsync(nodeId, PeerService.Raft, message, PeerPriority.Raft, limit, cancellationToken);

    private sealed class Answerer(IRaftLinkHandler handler) : IPeerRequestHandler
    {
        public ValueTask<PeerReply> HandleAsync(PeerRequest request, CancellationToken cancellationToken)
        {
            ValueTask<PeerBuffer> answer = handler.HandleAsync(request.From, request.Payload, cancellationToken);
            return answer.IsCompletedSuccessfully ? new(new PeerReply(answer.Result)) : AwaitAsync(answer);
        }

        private static async ValueTask<PeerReply> AwaitAsync(ValueTask<PeerBuffer> answer) => new(await answer.ConfigureAwait(false));
    }
}
