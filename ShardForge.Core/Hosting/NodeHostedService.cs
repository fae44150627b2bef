using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace ShardForge.Hosting;

/// <summary>Opens the node before any hosted service of the application starts, and stops it after all of them have stopped.</summary>
/// <remarks>
/// Where the host knows only <see cref="IHostedService"/>, the start does the same in its turn, and the container's disposal stops the
/// node: stopping it in its turn could take it from a service that was registered before it and still runs.
/// Threads: the host calls one method at a time.
/// </remarks>
internal sealed class NodeHostedService(IServiceProvider provider, IMeterFactory? meters, ShardForgeHostingOptions options)
    : IHostedLifecycleService, IDisposable
{
    private readonly IServiceProvider _provider = provider;
    private readonly IMeterFactory? _meters = meters;
    private readonly ShardForgeHostingOptions _options = options;
    private ShardForgeCluster? _cluster;
    private NodeMetrics? _metrics;

    public Task StartingAsync(CancellationToken cancellationToken) => OpenAsync(cancellationToken);

    public Task StartAsync(CancellationToken cancellationToken) => OpenAsync(cancellationToken);

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public async Task StoppedAsync(CancellationToken cancellationToken)
    {
        _metrics?.Dispose();
        if (_cluster is not null)
            await _cluster.DisposeAsync().AsTask().WaitAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>The node itself belongs to the container, which disposes it.</summary>
    public void Dispose() => _metrics?.Dispose();

    private async Task OpenAsync(CancellationToken cancellationToken)
    {
        if (_cluster is not null)
            return;
        // The container opens it where a constructor has not asked for it before.
        _cluster = _provider.GetRequiredService<ShardForgeCluster>();
        _metrics = new NodeMetrics(_cluster, _meters);
        if (_options.WaitUntilReady)
            await _cluster.WaitUntilReadyAsync(cancellationToken).ConfigureAwait(false);
    }
}
