namespace ShardForge.Hosting;

/// <summary>How a host treats its node.</summary>
public sealed record ShardForgeHostingOptions
{
    /// <summary>
    /// True (default): the host goes on starting only when every shard has a leader that the node can reach, bounded by the host's own start
    /// timeout. False: it goes on once the local data is recovered; operations wait for their shards, each within its deadline.
    /// </summary>
    public bool WaitUntilReady { get; init; } = true;
}
