using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace ShardForge.Hosting;

/// <summary>Translates the node's own view of its health.</summary>
internal sealed class NodeHealthCheck(ShardForgeCluster cluster) : IHealthCheck
{
    private readonly ShardForgeCluster _cluster = cluster;

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return Task.FromResult(Check(context.Registration.FailureStatus));
    }

    private HealthCheckResult Check(HealthStatus failureStatus)
    {
        ClusterStatus status;
        try
        {
            status = _cluster.GetStatus();
        }
        catch (ObjectDisposedException)
        {
            return new HealthCheckResult(failureStatus, "The node is stopped.");
        }

        return Translate(status, failureStatus);
    }

    internal static HealthCheckResult Translate(ClusterStatus status, HealthStatus failureStatus)
    {
        HealthStatus health = status.Health switch
        {
            ClusterHealth.Healthy => HealthStatus.Healthy,
            ClusterHealth.Degraded => HealthStatus.Degraded,
            _ => failureStatus,
        };
        Dictionary<string, object> data = new()
        {
            ["node"] = status.NodeId,
            ["cluster"] = status.ClusterName,
            ["shards"] = status.Shards.Count,
            ["shardsLeaderless"] = status.Shards.Count(static shard => shard.LeaderNodeId is null),
            ["nodesDisconnected"] = status.Nodes.Count(static node => !node.IsConnected),
        };
        string description = status.Problems.Count == 0 ? $"{status.NodeId}: {status.Health}" : string.Join("; ", status.Problems);
        return new HealthCheckResult(health, description, data: data);
    }
}
