using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace ShardForge.Hosting;

/// <summary>Puts a node into an application built on <c>Microsoft.Extensions.Hosting</c>.</summary>
public static class ShardForgeServiceCollectionExtensions
{
    /// <summary>Registers one node: <see cref="ShardForgeCluster"/> and <see cref="IKeyValueStore"/> as singletons, opened and stopped with the host.</summary>
    /// <param name="services">The application's services.</param>
    /// <param name="config">The node's settings. Without a <see cref="ShardForgeConfig.LoggerFactory"/> it gets the application's.</param>
    /// <param name="options">How the host treats the node; null: the defaults.</param>
    /// <returns><paramref name="services"/>.</returns>
    /// <exception cref="InvalidOperationException">A node is registered already: there is one a process and directory, shared by all who ask.</exception>
    /// <remarks>
    /// The node is open and ready before any hosted service starts, and is stopped after all of them have stopped, whatever the order of
    /// registration. Who asks the container for it earlier (a constructor of a hosted service) gets it opened, not yet ready; its
    /// operations wait for that. A setting that cannot be used fails the start of the host with <see cref="ConfigurationException"/>.
    /// </remarks>
    public static IServiceCollection AddShardForge(this IServiceCollection services, ShardForgeConfig config, ShardForgeHostingOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(config);
        return services.AddShardForge(_ => config, options);
    }

    /// <inheritdoc cref="AddShardForge(IServiceCollection, ShardForgeConfig, ShardForgeHostingOptions?)"/>
    /// <param name="services">The application's services.</param>
    /// <param name="configure">Makes the settings, once, from what the container holds (configuration, options, other services).</param>
    /// <param name="options">How the host treats the node; null: the defaults.</param>
    public static IServiceCollection AddShardForge(
        this IServiceCollection services, Func<IServiceProvider, ShardForgeConfig> configure, ShardForgeHostingOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(configure);
        foreach (ServiceDescriptor service in services)
        {
            if (service.ServiceType == typeof(ShardForgeCluster))
                throw new InvalidOperationException("A ShardForge node is registered already; a process shares one. Open further ones with ShardForgeCluster.Open.");
        }

        services.AddSingleton(provider => ShardForgeCluster.Open(WithDefaults(configure(provider), provider)));
        services.AddSingleton<IKeyValueStore>(static provider => provider.GetRequiredService<ShardForgeCluster>());
        services.AddSingleton<IHostedService>(provider =>
            new NodeHostedService(provider, provider.GetService<IMeterFactory>(), options ?? new ShardForgeHostingOptions()));
        return services;
    }

    private static ShardForgeConfig WithDefaults(ShardForgeConfig config, IServiceProvider provider) =>
        config.LoggerFactory is not null ? config : config with { LoggerFactory = provider.GetService<ILoggerFactory>() };
}
