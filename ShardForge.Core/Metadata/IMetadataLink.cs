using System.Net;
using ShardForge.Network;

namespace ShardForge.Metadata;

/// <summary>How this node's metadata asks others. Safe for concurrent use.</summary>
internal interface IMetadataLink
{
    /// <summary>Asks a node whose address was set.</summary>
    /// <exception cref="PeerUnavailableException">No answer.</exception>
    /// <exception cref="OverloadedException">A queue is full.</exception>
    ValueTask<byte[]> AskAsync(string nodeId, ReadOnlyMemory<byte> request, TimeSpan timeout, CancellationToken cancellationToken);

    /// <summary>Asks whoever listens at an address, about forming or joining a cluster. Errors as of <see cref="AskAsync"/>.</summary>
    ValueTask<byte[]> AskAddressAsync(EndPoint address, ReadOnlyMemory<byte> request, TimeSpan timeout, CancellationToken cancellationToken);

    /// <summary>Sets where a node is; the same again does nothing.</summary>
    void SetAddress(string nodeId, EndPoint address);

    /// <summary>Forgets a node.</summary>
    void Remove(string nodeId);

    /// <summary>Whether a link to a node is open.</summary>
    bool IsConnected(string nodeId);

    /// <summary>Whether a node is connected with that data directory (R38).</summary>
    bool IsConnected(string nodeId, Guid instanceId);
}
