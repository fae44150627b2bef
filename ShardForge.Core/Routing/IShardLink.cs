using ShardForge.Replication;

namespace ShardForge.Routing;

/// <summary>Carries a request to the replica of a shard on another node.</summary>
internal interface IShardLink
{
    /// <exception cref="ShardLinkException">It was not answered; says whether it may have arrived.</exception>
    /// <exception cref="OverloadedException">The queue to the node is full; it did not leave.</exception>
    ValueTask<ShardResponse> SendAsync(string nodeId, ShardRequest request, TimeSpan timeout, CancellationToken cancellationToken);
}

/// <summary>A request to another node was not answered.</summary>
internal sealed class ShardLinkException(string message, bool mayHaveLeft, Exception? innerException = null) : Exception(message, innerException)
{
    /// <summary>False: it certainly did not reach the other node.</summary>
    public bool MayHaveLeft { get; } = mayHaveLeft;
}
