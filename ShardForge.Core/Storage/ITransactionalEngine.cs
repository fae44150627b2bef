namespace ShardForge.Storage;

/// <summary>What <see cref="StorageTransaction"/> needs of an engine.</summary>
internal interface ITransactionalEngine : IStorageEngine
{
    /// <summary>Throws <see cref="ObjectDisposedException"/> once the engine is disposed.</summary>
    void ThrowIfDisposed();

    /// <summary>Writes a transaction's batch, <see cref="StorageDurability.Flushed"/>, unless a key of it was written since the start.</summary>
    /// <param name="batch">Puts and deletes; left unchanged until the task ends.</param>
    /// <param name="start">Where the transaction began.</param>
    /// <param name="cancellationToken">Stops the wait, not the write.</param>
    /// <exception cref="TransactionConflictException">It was; nothing was written.</exception>
    ValueTask CommitAsync(StorageBatch batch, TransactionStart start, CancellationToken cancellationToken);

    /// <summary>The transaction has ended: its place in the write history is free, its snapshot is disposed. Never throws; also after dispose.</summary>
    void EndTransaction(TransactionStart start);
}
