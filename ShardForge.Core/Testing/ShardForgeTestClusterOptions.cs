using Microsoft.Extensions.Logging;
using ShardForge.Storage;

namespace ShardForge.Testing;

/// <summary>What carries the bytes between the nodes of a test cluster.</summary>
public enum TestTransport
{
    /// <summary>Pipes in this process.</summary>
    InMemory,

    /// <summary>TCP on loopback, on ports of its own.</summary>
    Tcp,
}

/// <summary>How a <see cref="ShardForgeTestCluster"/> is started.</summary>
public sealed record ShardForgeTestClusterOptions
{
    /// <summary>1 to 16. Default 3.</summary>
    public int Nodes { get; init; } = 3;

    /// <summary>Default 4.</summary>
    public int ShardCount { get; init; } = 4;

    /// <summary>Replicas of each shard; null: min(3, nodes).</summary>
    public int? ReplicationFactor { get; init; }

    /// <summary>Default <see cref="TestTransport.InMemory"/>.</summary>
    public TestTransport Transport { get; init; } = TestTransport.InMemory;

    /// <summary>True (default): real files, so that a restart finds its data. False: files in memory, which a restart finds as well, as long as the test cluster lives.</summary>
    public bool Durable { get; init; } = true;

    /// <summary>
    /// Whether a flush waits for the disk. Default false: no power is really cut in a test, and the played cut knows what was flushed without it. True: as
    /// a real node, for measurements. Means something only where <see cref="Durable"/> is true.
    /// </summary>
    public bool FlushesReachDisk { get; init; }

    /// <summary>Default <see cref="StorageEngines.Lsm(LsmOptions)"/>. An engine with files of its own (SQLite) needs <see cref="Durable"/> to find its data after a restart.</summary>
    public IStorageEngineFactory StorageEngine { get; init; } = StorageEngines.Lsm();

    /// <summary>Where log lines go; null: nowhere.</summary>
    public ILoggerFactory? LoggerFactory { get; init; }

    /// <summary>For the randomness the cluster itself uses (election timeouts, what a power cut keeps); null: drawn anew, see <see cref="ShardForgeTestCluster.Seed"/>.</summary>
    public int? Seed { get; init; }

    /// <summary>Initial. Which part of a key decides where it lives. Default <see cref="PartitionRule.WholeKey"/>.</summary>
    public PartitionRule PartitionRule { get; init; } = PartitionRule.WholeKey;

    /// <summary>The bound of a call on a node. Default 5 s.</summary>
    public TimeSpan OperationTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Time of the nodes, except leases and elections. Default <see cref="TimeProvider.System"/>.</summary>
    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;

    /// <summary>Upper bounds of keys, values, transactions and queues.</summary>
    public Limits Limits { get; init; } = Limits.Default;

    /// <summary>Shortest time without a leader after which a replica stands for election. Default 100 ms: fast, and above the pauses of a busy test machine.</summary>
    public TimeSpan ElectionTimeout { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>Bound of <c>StartAsync</c> and <c>RestartAsync</c>. Default 30 s.</summary>
    public TimeSpan ReadyTimeout { get; init; } = TimeSpan.FromSeconds(30);
}
