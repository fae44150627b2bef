using ShardForge.Replication;

namespace ShardForge.Routing;

/// <summary>Carries a request to the replica of a shard on another node.</summary>
internal interface IShardLink
{
    /// <param name="nodeId">Whom to ask.</param>
    /// <param name="request">The request.</param>
    /// <param name="mayRelay">Whether a node that does not lead may pass it on to the leader, which this node may not reach itself.</param>
    /// <param name="timeout">Bound of the call.</param>
    /// <param name="cancellationToken">Stops the wait, not the request.</param>
    /// <exception cref="ShardLinkException">It was not answered; says whether it may have arrived.</exception>
    /// <exception cref="OverloadedException">The queue to the node is full; it did not leave.</exception>
    ValueTask<ShardResponse> SendAsync(string nodeId, ShardRequest request, bool mayRelay, TimeSpan timeout, CancellationToken cancellationToken);
}

/// <summary>A request to another node was not answered.</summary>
internal sealed class ShardLinkException(string message, bool mayHaveLeft, Exception? innerException = null) : Exception(message, innerException)
{
    /// <summary>False: it certainly did not reach the other node.</summary>
    public bool MayHaveLeft { get; } = mayHaveLeft;
}
