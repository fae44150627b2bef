using System.Net;
using System.Security.Cryptography.X509Certificates;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using ShardForge.Hosting;
using ShardForge.Storage;
using ShardForge.Testing;

namespace ShardForge.Samples;

/// <summary>What the pages under docs/ show, between its markers, to the letter; a test compares both.</summary>
public static class DocsSnippets
{
    /// <summary>One of three processes; each has its own node id, directory and address, and the same members.</summary>
    public static Task<ShardForgeCluster> OpenOneOfThreeAsync(CancellationToken cancellationToken)
    {
        // snippet: three-nodes
        ShardForgeConfig config = new()
        {
            ClusterName = "orders",
            NodeId = "n1",
            DataDirectory = "/var/lib/orders",
            ListenEndPoint = new IPEndPoint(IPAddress.Parse("10.0.0.1"), 7400),
            Members = new Dictionary<string, EndPoint>
            {
                ["n1"] = new IPEndPoint(IPAddress.Parse("10.0.0.1"), 7400),
                ["n2"] = new IPEndPoint(IPAddress.Parse("10.0.0.2"), 7400),
                ["n3"] = new IPEndPoint(IPAddress.Parse("10.0.0.3"), 7400),
            },
        };
        return ShardForgeCluster.OpenAsync(config, cancellationToken);
        // end
    }

    /// <summary>Where a node's certificate comes from.</summary>
    public interface ICertificates
    {
        X509Certificate2 Current { get; }
    }

    public static ShardForgeConfig Secure(ShardForgeConfig config, ICertificates certificates)
    {
        // snippet: peer-tls
        X509Certificate2Collection authority = [];
        authority.ImportFromPemFile("/etc/orders/authority.pem");
        ShardForgeConfig secured = config with
        {
            PeerTls = new PeerTlsOptions
            {
                Certificate = () => certificates.Current,       // yours: read once, and again when the file has changed
                TrustedRoots = () => authority,
            },
        };
        // end
        return secured;
    }

    public static ShardForgeConfig ChooseEngine()
    {
        // snippet: choose-engine
        ShardForgeConfig config = new() { DataDirectory = "data", StorageEngine = StorageEngines.Sqlite() };
        // end
        return config;
    }

    public static async Task CheckEngineAsync(IStorageEngineFactory factory)
    {
        // snippet: conformance
        await StorageEngineConformance.RunAllAsync(factory);
        // end
    }

    public static async Task IngestAsync(IStorageEngine engine, string path)
    {
        // snippet: ingest
        using (LsmTableWriter writer = new(path))
        {
            writer.Put("a"u8, "1"u8);
            writer.Put("b"u8, "2"u8);
            writer.Finish();
        }

        await ((ILsmEngine)engine).IngestAsync([path]);
        // end
    }

    public static async Task VerifyAsync(string directory)
    {
        // snippet: verify
        StorageVerification found = await StorageEngines.VerifyAsync(directory);
        foreach (StorageDamage damage in found.Damage)
            Console.WriteLine($"{damage.Path} at {damage.Offset}: {damage.Reason}");
        // end
    }

    public static IHost BuildHost(string[] args)
    {
        // snippet: hosting
        HostApplicationBuilder builder = Host.CreateApplicationBuilder(args);
        builder.Services.AddShardForge(new ShardForgeConfig { DataDirectory = "data" });
        builder.Services.AddHealthChecks().AddShardForge();
        // end
        return builder.Build();
    }

    /// <summary>A put of the same value is idempotent, so it may be repeated whatever became of the first.</summary>
    public static async Task PutUntilAcknowledgedAsync(ShardForgeCluster db, byte[] key, byte[] value, CancellationToken cancellationToken)
    {
        // snippet: retry
        while (true)
        {
            try
            {
                await db.PutAsync(key, value, cancellationToken: cancellationToken);
                return;
            }
            catch (ShardForgeException error) when (error.IsTransient)
            {
                // Nothing was written, and the call has used its OperationTimeout (or a queue is full): say so, slow down, go on.
                await Task.Delay(TimeSpan.FromMilliseconds(50), cancellationToken);
            }
            catch (OutcomeUnknownException)
            {
                // It may have been written. Safe to repeat only because nobody else writes this key: a put of the same bytes changes nothing.
            }
        }
        // end
    }
}
