namespace ShardForge;

/// <summary>How a key is read.</summary>
public sealed record ReadOptions
{
    /// <summary>
    /// As of an earlier moment, within the history window (10 minutes); null: now. Everything acknowledged before that moment, by the cluster's clock, is seen, and the same
    /// moment always shows the same. Not inside a transaction, which reads its snapshot.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Later than now by the cluster's clock; thrown by the read.</exception>
    /// <exception cref="HistoryGoneException">Before the history that is kept; thrown by the read.</exception>
    public DateTimeOffset? At { get; init; }
}

/// <summary>How a key is written. Has no settings yet.</summary>
public sealed record WriteOptions;

/// <summary>How a range is scanned.</summary>
public sealed record ScanOptions
{
    /// <summary>From the last key to the first. Default false.</summary>
    public bool Reverse { get; init; }

    /// <summary>At most so many entries; 0 gives none; null: all.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Negative; thrown by the scan.</exception>
    public int? Limit { get; init; }

    /// <summary>As of an earlier moment: see <see cref="ReadOptions.At"/>.</summary>
    public DateTimeOffset? At { get; init; }
}

/// <summary>What a transaction is isolated from. Both are strict: real-time order is kept.</summary>
public enum IsolationLevel
{
    /// <summary>Reads one snapshot; the first committer of a key wins.</summary>
    Snapshot,

    /// <summary>As if transactions ran one after the other: what was read is validated at the commit, too.</summary>
    Serializable,
}

/// <summary>How a transaction runs.</summary>
public sealed record TransactionOptions
{
    internal static TransactionOptions Default { get; } = new();

    /// <summary>Default <see cref="IsolationLevel.Snapshot"/>.</summary>
    public IsolationLevel Isolation { get; init; } = IsolationLevel.Snapshot;

    /// <summary>How often <c>RunInTransactionAsync</c> runs the work at most. Default 10; below 1: <see cref="ArgumentOutOfRangeException"/> at the call.</summary>
    public int MaxAttempts { get; init; } = 10;

    /// <summary>Time from the begin (of the first attempt) to the commit. Default 10 s; not above zero: <see cref="ArgumentOutOfRangeException"/> at the call; at most 5 minutes.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Longest <see cref="Timeout"/>: well below the horizon for which a commit's result is kept (R18).</summary>
    internal static readonly TimeSpan TimeoutMax = TimeSpan.FromMinutes(5);

    internal void Validate()
    {
        if (Isolation is not (IsolationLevel.Snapshot or IsolationLevel.Serializable))
            throw new ArgumentOutOfRangeException(nameof(Isolation), Isolation, "TransactionOptions.Isolation must be Snapshot or Serializable.");
        if (MaxAttempts < 1)
            throw new ArgumentOutOfRangeException(nameof(MaxAttempts), MaxAttempts, "TransactionOptions.MaxAttempts must be at least 1.");
        if (Timeout <= TimeSpan.Zero || Timeout > TimeoutMax)
            throw new ArgumentOutOfRangeException(nameof(Timeout), Timeout, $"TransactionOptions.Timeout must be above zero and at most {TimeoutMax}.");
    }
}
