using System.Diagnostics;
using System.Net;
using Microsoft.Extensions.Logging;
using NUnit.Framework;
using ShardForge.Network;
using ShardForge.Testing.Network;

namespace ShardForge.Tests.Network;

public enum TransportKind
{
    InMemory,
    Tcp,
    FaultyInMemory,
    FaultyTcp,
}

/// <summary>The nodes of one test, over one kind of transport, each with a handler of its own.</summary>
internal sealed class PeerWorld(TransportKind kind, TimeProvider? timeProvider = null, int seed = 20) : IAsyncDisposable
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);
    private static readonly Guid s_clusterId = new("5f0c8f6e-0000-4000-8000-000000000001");
    private readonly InMemoryNetwork _memory = new();
    private readonly List<PeerNetwork> _nodes = [];

    public NetworkFaults Faults { get; } = new(seed, timeProvider);

    public static IPEndPoint AnyPort => new(IPAddress.Loopback, 0);

    public static HandshakeHello Hello(string nodeId) => new()
    {
        ClusterId = s_clusterId,
        ClusterName = "tests",
        NodeId = nodeId,
        InstanceId = new Guid("00000000-0000-4000-8000-00000000000a"),
        OpenCounter = 3,
        LogEnd = 4_096,
        FeatureLevel = 1,
    };

    public ITransport Transport(int node) => kind switch
    {
        TransportKind.InMemory => new InMemoryTransport(_memory),
        TransportKind.Tcp => new TcpTransport(),
        TransportKind.FaultyInMemory => new FaultyTransport(new InMemoryTransport(_memory), Faults, node),
        _ => new FaultyTransport(new TcpTransport(), Faults, node),
    };

    /// <summary>A node that listens, answers every service with what it got, and is not linked yet.</summary>
    public PeerNetwork Add(string nodeId, IPeerRequestHandler? handler = null, Func<PeerNetworkOptions, PeerNetworkOptions>? with = null)
    {
        PeerNetworkOptions options = new()
        {
            Transport = Transport(_nodes.Count),
            LocalHello = () => Hello(nodeId),
            Policy = new SameClusterPolicy(),
            ListenEndPoint = AnyPort,
            Seed = seed + _nodes.Count,

            // Generous: tests run beside others on few cores. Tests of the alarm set their own.
            SilenceAlarm = TimeSpan.FromSeconds(15),
            ConnectTimeout = TimeSpan.FromSeconds(15),
            TimeProvider = timeProvider ?? TimeProvider.System,
        };
        PeerNetwork network = PeerNetwork.Open(with?.Invoke(options) ?? options);
        _nodes.Add(network);
        network.Register(PeerService.Shard, handler ?? new Echo());
        network.Start();
        return network;
    }

    /// <summary>Two nodes, of which the first is linked to the second.</summary>
    public async Task<(PeerNetwork Client, PeerNetwork Server)> PairAsync(
        IPeerRequestHandler? handler = null, Func<PeerNetworkOptions, PeerNetworkOptions>? with = null)
    {
        PeerNetwork client = Add("node-1", with: with), server = Add("node-2", handler, with);
        client.SetAddress("node-2", server.ListenEndPoint!);
        await UntilAsync(() => client.IsConnected("node-2"));
        return (client, server);
    }

    public static async Task UntilAsync(Func<bool> condition, [System.Runtime.CompilerServices.CallerArgumentExpression(nameof(condition))] string what = "")
    {
        long start = Stopwatch.GetTimestamp();
        while (!condition())
        {
            if (Stopwatch.GetElapsedTime(start) > Patience)
                Assert.Fail($"Never came true: {what}");
            await Task.Delay(2);
        }
    }

    public async ValueTask DisposeAsync()
    {
        Faults.Heal();
        foreach (PeerNetwork node in _nodes)
            await node.DisposeAsync();
    }
}

internal sealed class SameClusterPolicy : IHandshakePolicy
{
    public HandshakeVerdict Check(HandshakeHello remote, LinkDirection direction) =>
        string.Equals(remote.ClusterName, "tests", StringComparison.Ordinal)
            ? HandshakeVerdict.Accept
            : HandshakeVerdict.Refuse(RefusalCode.WrongCluster, $"cluster \"{remote.ClusterName}\" is not \"tests\"");
}

internal sealed class Echo : IPeerRequestHandler
{
    public ValueTask<PeerReply> HandleAsync(PeerRequest request, CancellationToken cancellationToken) => new(PeerReply.Copy(request.Payload.Span));
}

internal sealed class Handler(Func<PeerRequest, CancellationToken, ValueTask<PeerReply>> handle) : IPeerRequestHandler
{
    private int _calls;

    public int Calls => Volatile.Read(ref _calls);

    public ValueTask<PeerReply> HandleAsync(PeerRequest request, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _calls);
        return handle(request, cancellationToken);
    }
}

/// <summary>A handler that holds its requests until the test lets them go.</summary>
internal sealed class Gate : IPeerRequestHandler
{
    private readonly TaskCompletionSource _open = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _waiting;

    public int Waiting => Volatile.Read(ref _waiting);

    public void Open() => _open.TrySetResult();

    public async ValueTask<PeerReply> HandleAsync(PeerRequest request, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _waiting);
        await _open.Task.WaitAsync(cancellationToken);
        return PeerReply.Copy(request.Payload.Span);
    }
}

internal static class PeerNetworkCalls
{
    public static async Task<byte[]> AskAsync(
        this PeerNetwork network, string nodeId, ReadOnlyMemory<byte> payload, PeerPriority priority = PeerPriority.Request, TimeSpan? timeout = null, CancellationToken cancellationToken = default)
    {
        using PeerBuffer answer = await network.SendAsync(nodeId, PeerService.Shard, PeerBuffer.Copy(payload.Span), priority, timeout ?? PeerWorld.Patience, cancellationToken);
        return answer.Span.ToArray();
    }
}
