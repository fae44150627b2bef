using ShardForge.Common;
using ShardForge.Replication;

namespace ShardForge.Tests.Replication;

/// <summary>The end of a replica gives back what it holds, whatever ended before it.</summary>
public sealed class ShardReplicaEndTests
{
    [Test]
    public async Task A_replica_that_ends_while_it_takes_over_gives_its_directory_back()
    {
        InMemoryFileSystem files = new();
        ShardReplicaOptions? leads = null;
        await using (ScriptedShard shard = await ScriptedShard.OpenAsync(configure: options =>
        {
            ShardReplicaOptions ends = options with { Timestamps = new EndedSource(), FileSystem = files, Directory = $"/shards/{options.Replica}" };
            leads ??= ends;
            return ends;
        }))
        {
            Assert.That(shard[1].IsServing, Is.False);
        }

        await using ShardReplica again = await ShardReplica.OpenAsync(leads!);
        Assert.That(again.Fault, Is.Null);
    }

    /// <summary>The oracle's client of a node that is being stopped.</summary>
    private sealed class EndedSource : ITimestampSource
    {
        public Timestamp LastKnown => default;

        public ValueTask<Timestamp> NextAsync(CancellationToken cancellationToken) =>
            ValueTask.FromException<Timestamp>(new ObjectDisposedException("node", "The node was stopped before it got a timestamp."));
    }
}
