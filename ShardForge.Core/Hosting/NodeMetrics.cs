using System.Diagnostics.Metrics;

namespace ShardForge.Hosting;

/// <summary>The instruments of <see cref="ShardForgeDiagnostics"/>: gauges over the node's status, computed when somebody collects.</summary>
internal sealed class NodeMetrics : IDisposable
{
    private readonly ShardForgeCluster _cluster;
    private readonly KeyValuePair<string, object?> _node;
    private readonly Meter? _owned;
    private volatile bool _disposed;

    /// <param name="cluster">The node; not owned.</param>
    /// <param name="meters">Owns the meter it makes; null: the meter is made, and disposed, here.</param>
    public NodeMetrics(ShardForgeCluster cluster, IMeterFactory? meters)
    {
        _cluster = cluster;
        _node = new(ShardForgeDiagnostics.NodeTag, cluster.NodeId);
        Meter meter = meters?.Create(new MeterOptions(ShardForgeDiagnostics.MeterName)) ?? (_owned = new Meter(ShardForgeDiagnostics.MeterName));
        Add(meter, ShardForgeDiagnostics.ShardsLed, "{shard}", "Shards that this node leads.", CountLed);
        Add(meter, ShardForgeDiagnostics.ShardsLeaderless, "{shard}", "Shards without a known leader.", CountLeaderless);
        Add(meter, ShardForgeDiagnostics.ReplicasFaulted, "{replica}", "Replicas that have stopped with a fault.", CountFaulted);
        Add(meter, ShardForgeDiagnostics.NodesDisconnected, "{node}", "Members without a link to this node.", CountDisconnected);
    }

    /// <summary>Ends the recording; a factory's meter goes with its factory.</summary>
    public void Dispose()
    {
        _disposed = true;
        _owned?.Dispose();
    }

    private void Add(Meter meter, string name, string unit, string description, Func<ClusterStatus, int> count) =>
        meter.CreateObservableGauge(name, () => Observe(count), unit, description);

    /// <summary>Nothing once the node is stopped: a collector may still ask, and an error would be its.</summary>
    private IEnumerable<Measurement<int>> Observe(Func<ClusterStatus, int> count)
    {
        if (_disposed)
            return [];
        try
        {
            return [new Measurement<int>(count(_cluster.GetStatus()), _node)];
        }
        catch (ObjectDisposedException)
        {
            return [];
        }
    }

    private static int CountLed(ClusterStatus status) =>
        status.Shards.Count(shard => string.Equals(shard.LeaderNodeId, status.NodeId, StringComparison.Ordinal));

    private static int CountLeaderless(ClusterStatus status) => status.Shards.Count(static shard => shard.LeaderNodeId is null);

    private static int CountFaulted(ClusterStatus status) =>
        status.Shards.Sum(static shard => shard.Replicas.Count(static replica => replica.Fault is not null));

    private static int CountDisconnected(ClusterStatus status) => status.Nodes.Count(static node => !node.IsConnected);
}
