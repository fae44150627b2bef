using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace ShardForge.Hosting;

/// <summary>The node's health among the application's health checks.</summary>
public static class ShardForgeHealthChecksBuilderExtensions
{
    /// <summary>Adds a check that reports <see cref="ClusterStatus.Health"/> of the node that <c>AddShardForge</c> registered, with its problems.</summary>
    /// <param name="builder">The application's health checks.</param>
    /// <param name="name">Name of the check.</param>
    /// <param name="failureStatus">What an unhealthy node is reported as; null: unhealthy. A degraded one is always reported as degraded.</param>
    /// <param name="tags">Tags of the check.</param>
    /// <returns><paramref name="builder"/>.</returns>
    /// <remarks>Asks no other node and reads no disk: it may be called often. Right for readiness; a liveness probe that restarts a process does not need it.</remarks>
    public static IHealthChecksBuilder AddShardForge(
        this IHealthChecksBuilder builder, string name = "shardforge", HealthStatus? failureStatus = null, IEnumerable<string>? tags = null)
    {
        ArgumentNullException.ThrowIfNull(builder);
        return builder.Add(new HealthCheckRegistration(
            name, static provider => new NodeHealthCheck(provider.GetRequiredService<ShardForgeCluster>()), failureStatus, tags));
    }
}
