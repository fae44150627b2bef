using ShardForge.Common;
using ShardForge.Replication;
using ShardForge.Routing;

namespace ShardForge.Transactions;

/// <summary>What the transactions of a node share.</summary>
internal sealed class TransactionContext
{
    public const int PageEntriesMax = 4_096;

    // Each holds its keys in memory and a few locks at the shards.
    private const int BackgroundMax = 4_096;

    public required Router Router { get; init; }

    public required Limits Limits { get; init; }

    public required TimeProvider TimeProvider { get; init; }

    public required ITimestampSource Timestamps { get; init; }

    /// <summary>Starts the deadline of work that goes on behind its caller; ends with the node.</summary>
    public required Func<Deadline> StartBackground { get; init; }

    /// <summary>Whether this node leads the shard of a key, as far as it knows.</summary>
    public required Func<ReadOnlyMemory<byte>, bool> IsLocal { get; init; }

    public TransactionRules Rules { get; init; } = TransactionRules.All;

    public KnownOutcomes Known { get; } = new();

    public OpenCommits Open { get; } = new();

    public required OpenSnapshots Snapshots { get; init; }

    public BackgroundWork Background { get; } = new();

    public LockResolver Resolver => field ??= new LockResolver(this);

    /// <summary>Decisions and resolutions that are behind their callers are fewer than their bound.</summary>
    public bool HasRoomInBackground => Background.Count < BackgroundMax;

    /// <summary>Starts the deadline of one call: the given limit or the node's, whichever is shorter.</summary>
    public required Func<TimeSpan, CancellationToken, Deadline> StartCall { get; init; }

    /// <summary>A new id, random over the cluster's life.</summary>
    public required Func<OperationId> NextId { get; init; }

    /// <summary>From the node's seeded source; 0 to 1.</summary>
    public required Func<double> NextRandom { get; init; }

    /// <summary>Throws <see cref="ObjectDisposedException"/> where the node is gone.</summary>
    public required Action ThrowIfDisposed { get; init; }

    /// <summary>What is left of a transaction's time; never negative.</summary>
    public TimeSpan TimeLeft(TransactionOptions options, long begun)
    {
        TimeSpan left = options.Timeout - TimeProvider.GetElapsedTime(begun);
        return left > TimeSpan.Zero ? left : TimeSpan.Zero;
    }

    /// <summary>Starts the deadline of one call of a transaction.</summary>
    /// <exception cref="TransactionTimeoutException">The transaction's time is over.</exception>
    public Deadline StartDeadline(TransactionOptions options, long begun, CancellationToken cancellationToken)
    {
        TimeSpan left = TimeLeft(options, begun);
        return left > TimeSpan.Zero ? StartCall(left, cancellationToken) : throw TimedOut(options, null);
    }

    public static TransactionTimeoutException TimedOut(TransactionOptions options, Exception? inner) =>
        new($"The transaction's time of {options.Timeout.TotalSeconds:0.###} s (TransactionOptions.Timeout) was over before its commit. Nothing was written.", inner);

    public void CheckKey(ReadOnlyMemory<byte> key)
    {
        if (key.Length > Limits.KeyBytesMax)
            throw new LimitExceededException(nameof(Limits.KeyBytesMax), Limits.KeyBytesMax, key.Length,
                $"Key of {key.Length:N0} bytes is over the limit of {Limits.KeyBytesMax:N0} (Limits.KeyBytesMax); it starts {ByteOrder.Show(key.Span)}. Nothing was written.");
    }

    public void CheckValue(ReadOnlyMemory<byte> value)
    {
        if (value.Length > Limits.ValueBytesMax)
            throw new LimitExceededException(nameof(Limits.ValueBytesMax), Limits.ValueBytesMax, value.Length,
                $"Value of {value.Length:N0} bytes is over the limit of {Limits.ValueBytesMax:N0} (Limits.ValueBytesMax). Nothing was written.");
    }

    /// <summary>A bound may be a byte longer than a key.</summary>
    public void CheckRange(KeyRange range)
    {
        CheckBound(range.Start);
        CheckBound(range.End);
    }

    private void CheckBound(ReadOnlyMemory<byte> bound)
    {
        if (bound.Length > Limits.KeyBytesMax + 1)
            throw new LimitExceededException(nameof(Limits.KeyBytesMax), Limits.KeyBytesMax + 1, bound.Length,
                $"A range's bound of {bound.Length:N0} bytes is over the limit of {Limits.KeyBytesMax + 1:N0} (Limits.KeyBytesMax and one more); it starts {ByteOrder.Show(bound.Span)}.");
    }
}
