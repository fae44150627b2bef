using System.Net;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Metadata;
using ShardForge.Network;

namespace ShardForge.Tests.Metadata;

/// <summary>Formation over the real peer network.</summary>
[Parallelizable(ParallelScope.All)]
internal sealed class PeerMetadataLinkTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(20);

    [Test]
    public async Task Three_nodes_form_over_peer_links_and_then_keep_links_to_each_other()
    {
        InMemoryNetwork wires = new();
        await using Node first = await Node.StartAsync(wires, 1), second = await Node.StartAsync(wires, 2), third = await Node.StartAsync(wires, 3);
        ClusterState[] records = await Task.WhenAll(first.Service.Formed, second.Service.Formed, third.Service.Formed).WaitAsync(s_limit);
        Assert.That(records.Select(static record => record.ClusterId).Distinct().Count(), Is.EqualTo(1));
        foreach (Node node in (Node[])[first, second, third])
        {
            await MetadataNodes.WaitAsync(
                () => records[0].Nodes.All(other => other.NodeId == node.Service.NodeId || node.Network.IsConnected(other.NodeId)), "links to everybody");
        }

        byte[] answer = await first.Link.AskAsync("n3", new StateRequest(0, TimeSpan.Zero).Encode(), s_limit, default);
        Assert.That(((StateAnswer)MetadataMessage.DecodeAnswer(answer)!).State!.ClusterId, Is.EqualTo(records[0].ClusterId));
    }

    [Test]
    public async Task Another_cluster_name_fails_the_formation()
    {
        InMemoryNetwork wires = new();
        await using Node first = await Node.StartAsync(wires, 1), second = await Node.StartAsync(wires, 2, "other");
        ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(() => first.Service.Formed.WaitAsync(s_limit));
        Assert.That(error!.Setting, Is.EqualTo("ClusterName"));
    }

    private sealed class Node : IAsyncDisposable
    {
        public required PeerNetwork Network { get; init; }

        public required PeerMetadataLink Link { get; init; }

        public required MetadataService Service { get; init; }

        public static async Task<Node> StartAsync(InMemoryNetwork wires, int number, string cluster = "test")
        {
            string nodeId = $"n{number}";
            IReadOnlyDictionary<string, EndPoint> members = MetadataNodes.Members(3);
            MetadataService? service = null;
            MetadataOptions options = new()
            {
                NodeId = nodeId,
                ClusterName = cluster,
                InstanceId = new Guid(number, 0, 0, new byte[8]),
                OpenCounter = 1,
                Members = members,
                NewClusterId = new Guid(100 + number, 0, 0, new byte[8]),
                Directory = "/data",
                FileSystem = new InMemoryFileSystem(),
            };
            options.FileSystem.CreateDirectory("/data");
            HandshakeHello early = new() { ClusterName = cluster, NodeId = nodeId, InstanceId = options.InstanceId, OpenCounter = 1, FeatureLevel = 1, AdvertisedEndPoint = members[nodeId] };
            PeerNetwork network = PeerNetwork.Open(new()
            {
                Transport = new InMemoryTransport(wires),
                ListenEndPoint = members[nodeId],
                LocalHello = () => service?.Hello(1) ?? early,
                Policy = new MembershipPolicy(nodeId, cluster, [.. members.Keys], () => service?.Current),
            });
            PeerMetadataLink link = new(network);
            service = await MetadataService.StartAsync(options with { Link = link });
            link.Serve(service);
            network.Start();
            return new() { Network = network, Link = link, Service = service };
        }

        public async ValueTask DisposeAsync()
        {
            await Service.DisposeAsync();
            await Network.DisposeAsync();
        }
    }
}
