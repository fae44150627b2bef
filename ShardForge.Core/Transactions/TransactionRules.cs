namespace ShardForge.Transactions;

/// <summary>A switch for each rule that a coordinator or resolver keeps, as <see cref="Replication.ReplicationRules"/> for leaders. All are on; a test turns one off to show what it prevents.</summary>
internal sealed record TransactionRules
{
    public static TransactionRules All { get; } = new();

    /// <summary>R14: C is the largest M. Off: the primary's.</summary>
    public bool R14LargestM { get; init; } = true;

    /// <summary>R15: acknowledged once every prewrite is durable. Off: once the primary's is.</summary>
    public bool R15WaitsForAll { get; init; } = true;

    /// <summary>R15: the decision is durable before another lock is touched. Off: they go first.</summary>
    public bool R15DecidesFirst { get; init; } = true;

    /// <summary>R16: reads over shards are validated.</summary>
    public bool R16Validates { get; init; } = true;

    /// <summary>R16: explicit locks are never inferred as committed.</summary>
    public bool R16RollsBackExplicit { get; init; } = true;

    /// <summary>R20: only the older one waits.</summary>
    public bool R20OldestWaits { get; init; } = true;

    /// <summary>R21: once an attempt is in doubt, only the primary's durable abort says that nothing was written.</summary>
    public bool R21AsksPrimary { get; init; } = true;
}
