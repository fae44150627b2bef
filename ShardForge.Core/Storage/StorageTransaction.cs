using System.Buffers;

namespace ShardForge.Storage;

/// <summary>The engine transaction, over any engine: reads a snapshot, keeps its writes in memory, writes them as one batch.</summary>
/// <remarks>
/// Snapshot isolation: at the commit the engine refuses the batch if one of its keys was written since the begin (the first committer
/// wins), in the order in which it orders its writes. Ended by commit, rollback or dispose; a failed or cancelled commit ends it too.
/// Threads: one at a time.
/// </remarks>
internal sealed class StorageTransaction(ITransactionalEngine engine, TransactionStart start) : IStorageTransaction
{
    /// <summary>Bytes of keys and values that a transaction may buffer: they become one batch, and a batch is one array.</summary>
    internal const long BytesMax = 1L << 30;

    private readonly SortedMapEditor _writes = new(SortedMap.Empty);    // value null: a delete
    private bool _ended;

    public ValueTask<byte[]?> GetAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default)
    {
        ThrowIfUnusable();
        StorageArguments.CheckKey(key.Span);
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled<byte[]?>(cancellationToken);
        if (_writes.TryGet(key.Span, out byte[]? own))
            return new(own?.ToArray());
        ArrayBufferWriter<byte> value = new();
        return new(engine.TryGet(key.Span, value, start.Snapshot) ? value.WrittenSpan.ToArray() : null);
    }

    public ValueTask PutAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value, CancellationToken cancellationToken = default)
    {
        CheckWrite(key.Span, value.Length);
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled(cancellationToken);
        _writes.Put(key.ToArray(), value.ToArray());
        return ValueTask.CompletedTask;
    }

    public ValueTask DeleteAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default)
    {
        CheckWrite(key.Span, valueBytes: 0);
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled(cancellationToken);
        _writes.Put(key.ToArray(), null);
        return ValueTask.CompletedTask;
    }

    public IStorageIterator Scan(KeyRange range)
    {
        ThrowIfUnusable();
        IStorageIterator stored = engine.Scan(range, new StorageScanOptions { Snapshot = start.Snapshot });
        return new OverlayIterator(stored, _writes.ToMap().GetCursor(), range, ThrowIfUnusable);
    }

    public async ValueTask CommitAsync(CancellationToken cancellationToken = default)
    {
        ThrowIfUnusable();
        _ended = true;
        try
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (_writes.Count > 0)
                await engine.CommitAsync(ToBatch(), start, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            engine.EndTransaction(start);
        }
    }

    public ValueTask RollbackAsync(CancellationToken cancellationToken = default)
    {
        // Never cancelled: it only lets go.
        if (!_ended)
        {
            _ended = true;
            engine.EndTransaction(start);
        }

        return ValueTask.CompletedTask;
    }

    public ValueTask DisposeAsync() => RollbackAsync(CancellationToken.None);

    private void CheckWrite(ReadOnlySpan<byte> key, int valueBytes)
    {
        ThrowIfUnusable();
        StorageArguments.CheckKey(key);
        StorageArguments.CheckValue(valueBytes);
        long bytes = _writes.Bytes + key.Length + valueBytes;
        if (bytes > BytesMax)
            throw new LimitExceededException("StorageEngine.TransactionBytes", BytesMax, bytes);
    }

    private StorageBatch ToBatch()
    {
        StorageBatch batch = new();
        SortedMapCursor cursor = _writes.ToMap().GetCursor();
        for (bool found = cursor.ToFirst(); found; found = cursor.ToNext())
        {
            if (cursor.Value is { } value)
                batch.Put(cursor.Key, value);
            else
                batch.Delete(cursor.Key);
        }

        return batch;
    }

    private void ThrowIfUnusable()
    {
        engine.ThrowIfDisposed();
        if (_ended)
            throw new InvalidOperationException("The transaction has ended: it was committed, rolled back or disposed. Nothing was done.");
    }
}
