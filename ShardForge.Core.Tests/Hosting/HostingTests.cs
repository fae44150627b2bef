using System.Diagnostics.Metrics;
using System.Text;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using NUnit.Framework;
using ShardForge.Hosting;

namespace ShardForge.Tests.Hosting;

[TestFixture]
[Parallelizable(ParallelScope.All)]
public sealed class HostingTests
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    [Test]
    public async Task A_service_registered_before_the_node_finds_it_ready_and_still_open_when_it_stops()
    {
        using CancellationTokenSource limit = new(s_patience);
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddSingleton<UsingService>();
        builder.Services.AddHostedService(static provider => provider.GetRequiredService<UsingService>());
        builder.Services.AddShardForge(new ShardForgeConfig { ShardCount = 1 });
        using IHost host = builder.Build();

        await host.StartAsync(limit.Token);
        UsingService service = host.Services.GetRequiredService<UsingService>();
        ShardForgeCluster cluster = host.Services.GetRequiredService<ShardForgeCluster>();
        Assert.That(service.ReadAtStart, Is.EqualTo("started"));
        Assert.That(host.Services.GetRequiredService<IKeyValueStore>(), Is.SameAs(cluster));

        await host.StopAsync(limit.Token);
        Assert.That(service.ReadAtStop, Is.EqualTo("started"));
        Assert.That(async () => await cluster.GetAsync("at"u8.ToArray()), Throws.InstanceOf<ObjectDisposedException>());
    }

    [Test]
    public async Task Settings_are_made_once_from_what_the_container_holds()
    {
        using CancellationTokenSource limit = new(s_patience);
        int made = 0;
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddSingleton("shop-7");
        builder.Services.AddShardForge(provider =>
        {
            made++;
            return new ShardForgeConfig { ShardCount = 1, NodeId = provider.GetRequiredService<string>() };
        });
        using IHost host = builder.Build();
        await host.StartAsync(limit.Token);
        Assert.That(host.Services.GetRequiredService<ShardForgeCluster>().NodeId, Is.EqualTo("shop-7"));
        Assert.That(made, Is.EqualTo(1));
        await host.StopAsync(limit.Token);
    }

    [Test]
    public void A_bad_setting_fails_the_start_of_the_host_and_names_the_setting()
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddShardForge(new ShardForgeConfig { NodeId = "" });
        using IHost host = builder.Build();
        ConfigurationException error = Assert.ThrowsAsync<ConfigurationException>(() => host.StartAsync())!;
        Assert.That(error.Setting, Is.EqualTo(nameof(ShardForgeConfig.NodeId)));
    }

    [Test]
    public void A_second_node_in_one_container_is_refused()
    {
        ServiceCollection services = new();
        services.AddShardForge(new ShardForgeConfig());
        Assert.That(() => services.AddShardForge(new ShardForgeConfig()), Throws.InvalidOperationException);
    }

    [Test]
    public async Task The_health_check_is_healthy_while_the_node_runs_and_unhealthy_once_it_is_stopped()
    {
        using CancellationTokenSource limit = new(s_patience);
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddLogging();
        builder.Services.AddShardForge(new ShardForgeConfig { ShardCount = 2 });
        builder.Services.AddHealthChecks().AddShardForge();
        using IHost host = builder.Build();
        await host.StartAsync(limit.Token);

        HealthCheckService checks = host.Services.GetRequiredService<HealthCheckService>();
        HealthReportEntry entry = (await checks.CheckHealthAsync(limit.Token)).Entries["shardforge"];
        Assert.That(entry.Status, Is.EqualTo(HealthStatus.Healthy), entry.Description);
        Assert.That(entry.Data["shards"], Is.EqualTo(2));

        await host.Services.GetRequiredService<ShardForgeCluster>().DisposeAsync();
        entry = (await checks.CheckHealthAsync(limit.Token)).Entries["shardforge"];
        Assert.That(entry.Status, Is.EqualTo(HealthStatus.Unhealthy));
        await host.StopAsync(limit.Token);
    }

    [TestCase(ClusterHealth.Healthy, HealthStatus.Healthy)]
    [TestCase(ClusterHealth.Degraded, HealthStatus.Degraded)]
    [TestCase(ClusterHealth.Unhealthy, HealthStatus.Unhealthy)]
    public void Health_is_translated_with_its_problems(ClusterHealth health, HealthStatus expected)
    {
        ClusterStatus status = new() { NodeId = "n1", ClusterName = "c", Health = health, Problems = ["first", "second"] };
        HealthCheckResult result = NodeHealthCheck.Translate(status, HealthStatus.Unhealthy);
        Assert.That(result.Status, Is.EqualTo(expected));
        Assert.That(result.Description, Is.EqualTo("first; second"));
    }

    [Test]
    public async Task Every_instrument_that_is_named_is_recorded()
    {
        using CancellationTokenSource limit = new(s_patience);
        string nodeId = $"metrics-{Guid.NewGuid():N}";
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddShardForge(new ShardForgeConfig { ShardCount = 3, NodeId = nodeId });
        using IHost host = builder.Build();

        Dictionary<string, int> recorded = [];
        using MeterListener listener = new();
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (instrument.Meter.Name == ShardForgeDiagnostics.MeterName)
                self.EnableMeasurementEvents(instrument);
        };
        listener.SetMeasurementEventCallback<int>((instrument, value, tags, _) =>
        {
            foreach (KeyValuePair<string, object?> tag in tags)
            {
                if (tag.Key == ShardForgeDiagnostics.NodeTag && nodeId.Equals(tag.Value))
                    recorded[instrument.Name] = value;
            }
        });
        listener.Start();
        await host.StartAsync(limit.Token);
        listener.RecordObservableInstruments();

        Assert.That(recorded.Keys, Is.EquivalentTo(new[]
        {
            ShardForgeDiagnostics.ShardsLed, ShardForgeDiagnostics.ShardsLeaderless,
            ShardForgeDiagnostics.ReplicasFaulted, ShardForgeDiagnostics.NodesDisconnected,
        }));
        Assert.That(recorded[ShardForgeDiagnostics.ShardsLed], Is.EqualTo(3));
        Assert.That(recorded[ShardForgeDiagnostics.ShardsLeaderless], Is.Zero);

        await host.StopAsync(limit.Token);
        recorded.Clear();
        listener.RecordObservableInstruments();
        Assert.That(recorded, Is.Empty, "a stopped node records nothing");
    }

    /// <summary>Writes when it starts, reads when it starts and when it stops.</summary>
    private sealed class UsingService(IKeyValueStore store) : IHostedService
    {
        private static readonly byte[] s_key = "at"u8.ToArray();

        public string? ReadAtStart { get; private set; }

        public string? ReadAtStop { get; private set; }

        public async Task StartAsync(CancellationToken cancellationToken)
        {
            await store.PutAsync(s_key, "started"u8.ToArray(), cancellationToken: cancellationToken);
            ReadAtStart = await ReadAsync(cancellationToken);
        }

        public async Task StopAsync(CancellationToken cancellationToken) => ReadAtStop = await ReadAsync(cancellationToken);

        private async Task<string?> ReadAsync(CancellationToken cancellationToken)
        {
            byte[]? value = await store.GetAsync(s_key, cancellationToken: cancellationToken);
            return value is null ? null : Encoding.UTF8.GetString(value);
        }
    }
}
