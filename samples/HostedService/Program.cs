using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using ShardForge;
using ShardForge.Hosting;
using ShardForge.Samples.HostedService;

// A node inside a generic host: it is ready before VisitCounter starts and is stopped after it. Settings may come from the
// command line or appsettings.json, e.g. --ShardForge:DataDirectory=/tmp/visits; without a directory the data is in memory.
HostApplicationBuilder builder = Host.CreateApplicationBuilder(args);
builder.Services.AddShardForge(_ => new ShardForgeConfig
{
    NodeId = builder.Configuration["ShardForge:NodeId"] ?? "node-1",
    DataDirectory = builder.Configuration["ShardForge:DataDirectory"],
});
builder.Services.AddHealthChecks().AddShardForge();
builder.Services.AddHostedService<VisitCounter>();

using IHost host = builder.Build();
await host.StartAsync();
HealthReport health = await host.Services.GetRequiredService<HealthCheckService>().CheckHealthAsync();
Console.WriteLine($"health: {health.Status} ({health.Entries["shardforge"].Description})");
await host.StopAsync();
