using System.Collections.Concurrent;
using System.Net;
using ShardForge.Metadata;
using ShardForge.Network;

namespace ShardForge.Tests.Metadata;

/// <summary>Links between the metadata services of one process.</summary>
internal sealed class MetadataHub
{
    private readonly ConcurrentDictionary<string, MetadataService> _services = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, string> _nodesByAddress = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<(string From, string To), bool> _cuts = new();

    public static IPEndPoint AddressOf(int number) => new(IPAddress.Loopback, 10_000 + number);

    public IMetadataLink CreateLink(string nodeId, EndPoint address)
    {
        _nodesByAddress[address.ToString()!] = nodeId;
        return new Link(this, nodeId);
    }

    public void Add(MetadataService service) => _services[service.NodeId] = service;

    public void Remove(string nodeId) => _services.TryRemove(nodeId, out _);

    public void Cut(string left, string right)
    {
        _cuts[(left, right)] = true;
        _cuts[(right, left)] = true;
    }

    public void Heal() => _cuts.Clear();

    private MetadataService Reach(string from, string? to) =>
        to is not null && !_cuts.ContainsKey((from, to)) && _services.TryGetValue(to, out MetadataService? service)
            ? service
            : throw new PeerUnavailableException(PeerFailure.NotConnected, mayHaveLeft: false, $"{to} is not there.");

    private sealed class Link(MetadataHub hub, string nodeId) : IMetadataLink
    {
        private readonly ConcurrentDictionary<string, EndPoint> _addresses = new(StringComparer.Ordinal);

        public async ValueTask<byte[]> AskAsync(string target, ReadOnlyMemory<byte> request, TimeSpan timeout, CancellationToken cancellationToken)
        {
            await Task.Yield();
            if (!_addresses.TryGetValue(target, out EndPoint? address))
                throw new PeerUnavailableException(PeerFailure.UnknownNode, mayHaveLeft: false, $"{nodeId} knows no address of {target}.");
            return await BoundAsync(hub.Reach(nodeId, hub._nodesByAddress.GetValueOrDefault(address.ToString()!)).HandleAsync(nodeId, request, CancellationToken.None), target, timeout, cancellationToken);
        }

        public async ValueTask<byte[]> AskAddressAsync(EndPoint address, ReadOnlyMemory<byte> request, TimeSpan timeout, CancellationToken cancellationToken)
        {
            await Task.Yield();
            string? target = hub._nodesByAddress.GetValueOrDefault(address.ToString()!);
            return await BoundAsync(hub.Reach(nodeId, target).HandleFormationAsync(nodeId, request, CancellationToken.None), target!, timeout, cancellationToken);
        }

        public void SetAddress(string target, EndPoint address) => _addresses[target] = address;

        public void Remove(string target) => _addresses.TryRemove(target, out _);

        public bool IsConnected(string target) => _addresses.TryGetValue(target, out EndPoint? address)
            && hub._nodesByAddress.GetValueOrDefault(address.ToString()!) is { } there && hub._services.ContainsKey(there) && !hub._cuts.ContainsKey((nodeId, there));

        public bool IsConnected(string target, Guid instanceId) => hub._services.TryGetValue(target, out MetadataService? service) && service.Hello(0).InstanceId == instanceId;

        private static async Task<byte[]> BoundAsync(ValueTask<byte[]> answer, string target, TimeSpan timeout, CancellationToken cancellationToken)
        {
            try
            {
                return await answer.AsTask().WaitAsync(timeout, cancellationToken);
            }
            catch (TimeoutException)
            {
                throw new PeerUnavailableException(PeerFailure.TimedOut, mayHaveLeft: true, $"{target} did not answer in {timeout}.");
            }
        }
    }
}
