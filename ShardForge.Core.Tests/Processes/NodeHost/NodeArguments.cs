using System.Globalization;
using System.Net;

namespace ShardForge.Tests.Processes;

/// <summary>The command line: <c>{data directory} {node id} {shards} [{node id}={port} ...]</c>; members are on loopback, none: alone.</summary>
internal sealed record NodeArguments(string DataDirectory, string NodeId, int ShardCount, IReadOnlyDictionary<string, int> PortByNode)
{
    public static NodeArguments Parse(string[] arguments)
    {
        Dictionary<string, int> ports = [];
        foreach (string member in arguments.AsSpan(3))
        {
            string[] parts = member.Split('=');
            ports.Add(parts[0], int.Parse(parts[1], CultureInfo.InvariantCulture));
        }

        return new NodeArguments(arguments[0], arguments[1], int.Parse(arguments[2], CultureInfo.InvariantCulture), ports);
    }

    public ShardForgeConfig ToConfig()
    {
        ShardForgeConfig config = new() { DataDirectory = DataDirectory, NodeId = NodeId, ShardCount = ShardCount, OperationTimeout = TimeSpan.FromSeconds(20) };
        return PortByNode.Count == 0 ? config : config with
        {
            ListenEndPoint = new IPEndPoint(IPAddress.Loopback, PortByNode[NodeId]),
            Members = PortByNode.ToDictionary(static member => member.Key, static member => (EndPoint)new IPEndPoint(IPAddress.Loopback, member.Value)),
        };
    }
}
