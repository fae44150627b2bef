using ShardForge.Network;
using ShardForge.Replication;

namespace ShardForge.Routing;

/// <summary>Requests to shards of other nodes over the peer links. The other end is <see cref="ShardService"/>.</summary>
internal sealed class PeerShardLink(IPeerNetwork network) : IShardLink
{
    public async ValueTask<ShardResponse> SendAsync(string nodeId, ShardRequest request, bool mayRelay, TimeSpan timeout, CancellationToken cancellationToken)
    {
        if (timeout <= TimeSpan.Zero)
            throw new ShardLinkException($"no time was left to ask {nodeId}", mayHaveLeft: false);
        PeerBuffer payload = new();
        ShardFrame.WriteRequest(payload, request, mayRelay, timeout);
        try
        {
            using PeerBuffer answer = await network.SendAsync(nodeId, PeerService.Shard, payload, PeerPriority.Request, timeout, cancellationToken).ConfigureAwait(false);
            return ShardCodec.ReadResponse(answer.Span);
        }
        catch (PeerUnavailableException error)
        {
            throw new ShardLinkException(error.Message, error.MayHaveLeft, error);
        }
        catch (InvalidDataException error)
        {
            throw new ShardLinkException($"{nodeId} answered what is no answer: {error.Message}", mayHaveLeft: true, error);
        }
    }
}
