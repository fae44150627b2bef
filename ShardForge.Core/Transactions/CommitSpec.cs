using ShardForge.Replication;

namespace ShardForge.Transactions;

/// <summary>What one attempt of a transaction or batch is about to commit.</summary>
internal sealed record CommitSpec
{
    /// <summary>Of this attempt: a re-run has a new one (R20).</summary>
    public required OperationId Id { get; init; }

    /// <summary>The first oracle timestamp of the call, over all of its runs (R20).</summary>
    public required Timestamp Age { get; init; }

    /// <summary>The snapshot; null: a blind batch, which conflicts with nothing.</summary>
    public Timestamp? Start { get; init; }

    /// <summary>A timestamp from before this attempt began (R18), not above <see cref="Start"/>.</summary>
    public required Timestamp Known { get; init; }

    /// <summary>Each key once, in key order; at least one.</summary>
    public required IReadOnlyList<KeyWrite> Writes { get; init; }

    /// <summary>Of a serializable transaction: the keys that it read and does not write.</summary>
    public IReadOnlyList<ReadOnlyMemory<byte>> ReadKeys { get; init; } = [];

    /// <summary>Of a serializable transaction: what it scanned.</summary>
    public IReadOnlyList<KeyRange> ReadRanges { get; init; } = [];

    /// <summary>An attempt of this id was sent before, and may have been written.</summary>
    public bool IsInDoubt { get; init; }

    /// <summary>R16: it read more than the single keys that it writes.</summary>
    public bool HasReads => ReadKeys.Count > 0 || ReadRanges.Count > 0;
}
