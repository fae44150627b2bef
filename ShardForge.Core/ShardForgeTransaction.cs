using ShardForge.Transactions;

namespace ShardForge;

/// <summary>A transaction: reads one snapshot plus its own writes, and commits all of them or none.</summary>
/// <remarks>
/// Not thread-safe, bound to no thread. Its snapshot is taken at the begin. Optimistic: conflicts are found at the commit
/// (<see cref="TransactionConflictException"/>, transient). Disposing an open one rolls it back. After a commit, failed or not, it is ended:
/// only <see cref="RollbackAsync"/> (does nothing) and <see cref="DisposeAsync"/> are allowed, everything else throws <see cref="InvalidOperationException"/>.
/// <para>One that only reads never conflicts and writes nothing. One that writes keys of a single shard (see <see cref="ShardForgeConfig.PartitionRule"/>) is one
/// Raft entry; over several shards it locks its keys first, and its caller goes on after one round of consensus (two if it is serializable and read what it does not write).</para>
/// </remarks>
public sealed class ShardForgeTransaction : IKeyValueStore, IAsyncDisposable
{
    private readonly ClientTransaction _transaction;
    private readonly TransactionContext _context;

    internal ShardForgeTransaction(ClientTransaction transaction, TransactionContext context)
    {
        _transaction = transaction;
        _context = context;
    }

    internal ClientTransaction Inner => _transaction;

    /// <inheritdoc/>
    public ValueTask<byte[]?> GetAsync(ReadOnlyMemory<byte> key, ReadOptions? options = null, CancellationToken cancellationToken = default) =>
        _transaction.GetAsync(key, cancellationToken);

    /// <summary>Buffers a write until the commit; nothing leaves the process before.</summary>
    /// <param name="key">Copied. At most <see cref="Limits.KeyBytesMax"/> bytes.</param>
    /// <param name="value">Copied. At most <see cref="Limits.ValueBytesMax"/> bytes.</param>
    /// <param name="options">How to write; null: the defaults.</param>
    /// <param name="cancellationToken">Cancelled before the call: nothing is buffered.</param>
    /// <exception cref="LimitExceededException">Key, value or the transaction (<see cref="Limits.TransactionBytesMax"/>) is over its limit; it goes on without this write.</exception>
    public ValueTask PutAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value, WriteOptions? options = null, CancellationToken cancellationToken = default) =>
        Buffer(key, value, cancellationToken);

    /// <summary>Buffers a delete until the commit; nothing leaves the process before.</summary>
    /// <param name="key">Copied. At most <see cref="Limits.KeyBytesMax"/> bytes.</param>
    /// <param name="options">How to write; null: the defaults.</param>
    /// <param name="cancellationToken">Cancelled before the call: nothing is buffered.</param>
    /// <exception cref="LimitExceededException">The key or the transaction is over its limit; it goes on without this write.</exception>
    public ValueTask DeleteAsync(ReadOnlyMemory<byte> key, WriteOptions? options = null, CancellationToken cancellationToken = default) =>
        Buffer(key, null, cancellationToken);

    /// <inheritdoc/>
    /// <remarks>The transaction's snapshot merged with the own writes made before the first move.</remarks>
    public IAsyncEnumerable<KeyValuePair<byte[], byte[]>> ScanAsync(KeyRange range, ScanOptions? options = null, CancellationToken cancellationToken = default)
    {
        _context.CheckRange(range);
        ScanOptions checkedOptions = options ?? new ScanOptions();
        ArgumentOutOfRangeException.ThrowIfNegative(checkedOptions.Limit ?? 0, nameof(options));
        return _transaction.ScanAsync(range, checkedOptions, cancellationToken);
    }

    /// <summary>Marks a point to which the writes can be taken back. Nothing leaves the process.</summary>
    /// <exception cref="InvalidOperationException">The transaction has ended.</exception>
    public TransactionSavepoint SetSavepoint() => new(_transaction, _transaction.SetSavepoint());

    /// <summary>Takes back every write that was buffered since the savepoint; what was read counts as read. The savepoint stays usable.</summary>
    /// <param name="savepoint">Of this transaction.</param>
    /// <exception cref="ArgumentException">It is of another transaction.</exception>
    /// <exception cref="InvalidOperationException">The transaction has ended, or went back to before the savepoint.</exception>
    public void RollbackTo(TransactionSavepoint savepoint)
    {
        ArgumentNullException.ThrowIfNull(savepoint);
        if (savepoint.Owner != _transaction)
            throw new ArgumentException("The savepoint is of another transaction.", nameof(savepoint));
        if (!_transaction.TryRollbackTo(savepoint.Position))
            throw new InvalidOperationException("The transaction went back to before this savepoint.");
    }

    /// <summary>Writes everything, or nothing.</summary>
    /// <param name="cancellationToken">Ends the transaction. Cancelled while the commit is in flight: it may happen.</param>
    /// <exception cref="TransactionConflictException">Another wrote what this one writes (or, serializable, read) since its snapshot. Nothing was written; transient.</exception>
    /// <exception cref="TransactionTimeoutException"><see cref="TransactionOptions.Timeout"/> passed before. Nothing was written.</exception>
    /// <exception cref="OutcomeUnknownException">The commit may or may not have happened.</exception>
    public ValueTask CommitAsync(CancellationToken cancellationToken = default) => _transaction.CommitAsync(cancellationToken);

    /// <summary>Ends it without writing. Does nothing where it has ended.</summary>
    public ValueTask RollbackAsync(CancellationToken cancellationToken = default)
    {
        _transaction.Rollback();
        return default;
    }

    /// <summary>Rolls an open one back.</summary>
    public ValueTask DisposeAsync()
    {
        _transaction.Rollback();
        return default;
    }

    private ValueTask Buffer(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte>? value, CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled(cancellationToken);
        _transaction.Put(key, value);
        return default;
    }
}

/// <summary>A point in a transaction to which its writes can be taken back.</summary>
public sealed class TransactionSavepoint
{
    internal TransactionSavepoint(ClientTransaction owner, int position)
    {
        Owner = owner;
        Position = position;
    }

    internal ClientTransaction Owner { get; }

    internal int Position { get; }
}
