namespace ShardForge.Replication;

/// <summary>Where a replica gets timestamps: the oracle, as this node reaches it. The root wires it.</summary>
internal interface ITimestampSource
{
    /// <summary>Highest timestamp this node has been given so far.</summary>
    Timestamp LastKnown { get; }

    /// <summary>A fresh timestamp: asked for after the call began, joined only to a request that was not yet sent (R02).</summary>
    ValueTask<Timestamp> NextAsync(CancellationToken cancellationToken);
}
