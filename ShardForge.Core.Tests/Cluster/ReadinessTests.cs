using NUnit.Framework;
using ShardForge.Testing;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>What a node that is not ready says.</summary>
public sealed class ReadinessTests
{
    [Test]
    public async Task A_node_whose_only_replica_has_stopped_says_why_it_is_not_ready()
    {
        FaultyFileSystem files = new();
        ShardForgeConfig config = new() { DataDirectory = "/data", ShardCount = 1, OperationTimeout = TimeSpan.FromSeconds(1) };
        await using ShardForgeCluster node = await ShardForgeCluster.OpenWithoutWaitAsync(config, new NodeEnvironment { FileSystem = files, Seed = 1 }, CancellationToken.None);
        await node.WaitUntilReadyAsync();
        files.FailWhen(static operation => operation.Kind == FileOperationKind.Flush && operation.Path.EndsWith(".seg", StringComparison.Ordinal));
        Assert.That(async () => await node.PutAsync(Bytes("k"), Bytes("v")), Throws.InstanceOf<ShardForgeException>());

        ShardForgeException? error = Assert.ThrowsAsync<ShardForgeException>(async () => await node.WaitUntilReadyAsync().WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.That(error!.InnerException, Is.InstanceOf<IOException>());
        Assert.That(error.Message, Does.Contain("has stopped: The node log in").And.Contain("fails (planned)"));
        Assert.That(error.IsTransient, Is.False);
    }
}
