using System.Buffers;

namespace ShardForge.Storage.Lsm.TimeToLive;

/// <summary>The engine with a time to live: values are stored with their expiry, and are gone for readers from then on, for the disk after the next compaction.</summary>
/// <remarks>
/// Parts: <see cref="ExpiryClock"/> (what is stored, which moments count), <see cref="ExpiryFilter"/>, <see cref="ExpiringSnapshot"/>, <see cref="ExpiringIterator"/>.
/// For an engine of its own only: replicas of one shard would expire values at different moments (R27). The directory's marker says that its values are stored like
/// this, so an engine without time to live refuses it, and the other way round.
/// </remarks>
internal sealed class ExpiringEngine : ITransactionalEngine, ILsmEngine
{
    private readonly LsmEngine _inner;
    private readonly ExpiryClock _clock;

    private ExpiringEngine(LsmEngine inner, ExpiryClock clock)
    {
        _inner = inner;
        _clock = clock;
    }

    public static ExpiringEngine Open(StorageEngineContext context, LsmOptions options, CancellationToken cancellationToken)
    {
        ExpiryClock clock = new(context.TimeProvider, options.TimeToLive!.Value);
        return new(LsmEngine.Open(context with { CompactionFilter = new ExpiryFilter(clock) }, options, cancellationToken), clock);
    }

    public bool TryGet(ReadOnlySpan<byte> key, IBufferWriter<byte> value, IStorageSnapshot? snapshot = null)
    {
        ArgumentNullException.ThrowIfNull(value);
        (IStorageSnapshot? inner, long moment) = Unwrap(snapshot);
        ArrayBufferWriter<byte> stored = new();
        if (!_inner.TryGet(key, stored, inner) || ExpiryClock.IsExpired(stored.WrittenSpan, moment))
            return false;
        value.Write(stored.WrittenSpan[ExpiryClock.HeaderBytes..]);
        return true;
    }

    public ValueTask<byte[]?> GetAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled<byte[]?>(cancellationToken);
        ArrayBufferWriter<byte> value = new();
        return new(TryGet(key.Span, value) ? value.WrittenSpan.ToArray() : null);
    }

    public ValueTask PutAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        StorageBatch batch = new();
        batch.Put(key.Span, value.Span);
        return WriteAsync(batch, StorageDurability.Flushed, cancellationToken);
    }

    public ValueTask DeleteAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default) => _inner.DeleteAsync(key, cancellationToken);

    public ValueTask WriteAsync(StorageBatch batch, StorageDurability durability = StorageDurability.Flushed, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        ArgumentNullException.ThrowIfNull(batch);
        return cancellationToken.IsCancellationRequested ? ValueTask.FromCanceled(cancellationToken) : _inner.WriteAsync(WithExpiry(batch), durability, cancellationToken);
    }

    public IStorageIterator Scan(KeyRange range, StorageScanOptions? options = null)
    {
        (IStorageSnapshot? inner, long moment) = Unwrap(options?.Snapshot);
        return new ExpiringIterator(_inner.Scan(range, options is null ? null : options with { Snapshot = inner }), moment);
    }

    public IStorageSnapshot CreateSnapshot()
    {
        // The moment first: a compaction that begins in between judges by it already.
        long moment = _clock.Hold();
        try
        {
            return new ExpiringSnapshot(this, _inner.CreateSnapshot(), _clock, moment);
        }
        catch
        {
            _clock.Release(moment);
            throw;
        }
    }

    public ValueTask<IStorageTransaction> BeginTransactionAsync(CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled<IStorageTransaction>(cancellationToken);
        long moment = _clock.Hold();
        try
        {
            TransactionStart start = _inner.BeginTransaction();
            return new(new StorageTransaction(this, start with { Snapshot = new ExpiringSnapshot(this, start.Snapshot, _clock, moment) }));
        }
        catch
        {
            _clock.Release(moment);
            throw;
        }
    }

    ValueTask ITransactionalEngine.CommitAsync(StorageBatch batch, TransactionStart start, CancellationToken cancellationToken) =>
        ((ITransactionalEngine)_inner).CommitAsync(WithExpiry(batch), start, cancellationToken);

    void ITransactionalEngine.EndTransaction(TransactionStart start) => ((ITransactionalEngine)_inner).EndTransaction(start);

    public void ThrowIfDisposed() => _inner.ThrowIfDisposed();

    public ValueTask FlushAsync(CancellationToken cancellationToken = default) => _inner.FlushAsync(cancellationToken);

    public ValueTask CompactAsync(KeyRange range = default, CancellationToken cancellationToken = default) => _inner.CompactAsync(range, cancellationToken);

    public ValueTask CompactAsync(KeyRange range, IProgress<StorageCompactionProgress>? progress, CancellationToken cancellationToken = default) =>
        _inner.CompactAsync(range, progress, cancellationToken);

    public ValueTask IngestAsync(IReadOnlyList<string> paths, CancellationToken cancellationToken = default) => _inner.IngestAsync(paths, cancellationToken);

    public ValueTask CheckpointAsync(string directory, CancellationToken cancellationToken = default) => _inner.CheckpointAsync(directory, cancellationToken);

    public StorageStatistics GetStatistics() => _inner.GetStatistics();

    public ValueTask DisposeAsync() => _inner.DisposeAsync();

    private StorageBatch WithExpiry(StorageBatch batch)
    {
        StorageBatch stored = new();
        byte[] value = new byte[256];
        StorageBatchReader reader = batch.GetReader();
        while (reader.MoveNext())
        {
            switch (reader.Kind)
            {
                case StorageOperationKind.Put:
                    int bytes = ExpiryClock.HeaderBytes + reader.Value.Length;
                    if (value.Length < bytes)
                        value = new byte[Math.Max(bytes, 2 * value.Length)];
                    _clock.WriteExpiry(value);
                    reader.Value.CopyTo(value.AsSpan(ExpiryClock.HeaderBytes));
                    stored.Put(reader.Key, value.AsSpan(0, bytes));
                    break;
                case StorageOperationKind.Delete:
                    stored.Delete(reader.Key);
                    break;
                default:
                    stored.DeleteRange(reader.Key, reader.Value);
                    break;
            }
        }

        return stored;
    }

    private (IStorageSnapshot? Inner, long Moment) Unwrap(IStorageSnapshot? snapshot)
    {
        if (snapshot is null)
            return (null, _clock.Now);
        if (snapshot is not ExpiringSnapshot own || own.Owner != this)
            throw new ArgumentException("The snapshot is another engine's.", nameof(snapshot));
        return (own.Inner, own.Moment);
    }
}
