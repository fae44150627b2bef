using System.Buffers;

namespace ShardForge.Storage;

/// <summary>One ordered key space in one directory. All engines pass the same conformance suite. Safe for concurrent use.</summary>
/// <remarks>
/// Keys are plain bytes ordered as unsigned bytes, up to 64 KiB; values up to 64 MiB; both may be empty. After a failed flush an
/// engine takes no more writes and says why. After dispose every call throws <see cref="ObjectDisposedException"/>.
/// </remarks>
public interface IStorageEngine : IAsyncDisposable
{
    /// <summary>Reads the value of a key as of now, or as of a snapshot.</summary>
    /// <param name="key">The key.</param>
    /// <param name="value">Gets the value's bytes; untouched where the key is absent.</param>
    /// <param name="snapshot">A snapshot of this engine; null: as of now.</param>
    /// <returns>Whether the key is present.</returns>
    bool TryGet(ReadOnlySpan<byte> key, IBufferWriter<byte> value, IStorageSnapshot? snapshot = null);

    /// <summary>
    /// The point read of a version: the first entry at or after <paramref name="key"/> that has the same bytes before the version
    /// suffix (the last <see cref="StorageEngineContext.VersionSuffixBytes"/> bytes of a key).
    /// </summary>
    /// <param name="key">The wanted key with its version suffix: versions are ordered newest first.</param>
    /// <param name="suffixBytes">Length of the version suffix, in bytes.</param>
    /// <param name="suffix">Gets the suffix of the entry found; at least <paramref name="suffixBytes"/> long.</param>
    /// <param name="value">Gets the value's bytes; untouched where there is none.</param>
    /// <param name="snapshot">A snapshot of this engine; null: as of now.</param>
    /// <returns>Whether there is such an entry.</returns>
    bool TryGetVersion(ReadOnlySpan<byte> key, int suffixBytes, Span<byte> suffix, IBufferWriter<byte> value, IStorageSnapshot? snapshot = null)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(suffixBytes, key.Length);
        ReadOnlySpan<byte> prefix = key[..^suffixBytes];
        using IStorageIterator iterator = Scan(KeyRange.From(key.ToArray()), snapshot is null ? null : new StorageScanOptions { Snapshot = snapshot });
        if (!iterator.MoveNext() || iterator.Key.Length != key.Length || !iterator.Key.StartsWith(prefix))
            return false;
        iterator.Key[prefix.Length..].CopyTo(suffix);
        value.Write(iterator.Value);
        return true;
    }

    /// <summary>Reads the value of a key; null where it is absent.</summary>
    ValueTask<byte[]?> GetAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default);

    /// <summary>Reads many keys as of one moment.</summary>
    /// <param name="keys">In any order; the same key may be there twice.</param>
    /// <param name="snapshot">A snapshot of this engine; null: as of now.</param>
    /// <param name="cancellationToken">Looked at between the keys.</param>
    /// <returns>The values in the order of the keys; null where a key is absent.</returns>
    ValueTask<byte[]?[]> GetManyAsync(IReadOnlyList<ReadOnlyMemory<byte>> keys, IStorageSnapshot? snapshot = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(keys);
        using IStorageSnapshot? own = snapshot is null ? CreateSnapshot() : null;
        byte[]?[] values = new byte[]?[keys.Count];
        ArrayBufferWriter<byte> value = new();
        for (int index = 0; index < values.Length; index++)
        {
            if (cancellationToken.IsCancellationRequested)
                return ValueTask.FromCanceled<byte[]?[]>(cancellationToken);
            value.ResetWrittenCount();
            if (TryGet(keys[index].Span, value, snapshot ?? own))
                values[index] = value.WrittenSpan.ToArray();
        }

        return new(values);
    }

    /// <summary>Writes one key, <see cref="StorageDurability.Flushed"/>. Cancelling stops the wait, not the write.</summary>
    ValueTask PutAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value, CancellationToken cancellationToken = default);

    /// <summary>Removes one key, <see cref="StorageDurability.Flushed"/>. Cancelling stops the wait, not the write.</summary>
    ValueTask DeleteAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default);

    /// <summary>Applies a batch in its order, all or nothing, also across a crash.</summary>
    /// <param name="batch">Left unchanged until the task ends.</param>
    /// <param name="durability">What it survives once the task has ended.</param>
    /// <param name="cancellationToken">Cancelling stops the wait, not the write.</param>
    ValueTask WriteAsync(StorageBatch batch, StorageDurability durability = StorageDurability.Flushed, CancellationToken cancellationToken = default);

    /// <summary>An iterator over a range, as of its creation or of a snapshot. It keeps what it reads alive until it is disposed.</summary>
    IStorageIterator Scan(KeyRange range, StorageScanOptions? options = null);

    /// <summary>Holds the present state for reads until it is disposed.</summary>
    IStorageSnapshot CreateSnapshot();

    /// <summary>Starts a transaction with snapshot isolation inside this engine.</summary>
    ValueTask<IStorageTransaction> BeginTransactionAsync(CancellationToken cancellationToken = default);

    /// <summary>Everything written so far survives a power cut once the task has ended.</summary>
    ValueTask FlushAsync(CancellationToken cancellationToken = default);

    /// <summary>Rewrites what the range holds, without what is deleted or overwritten.</summary>
    ValueTask CompactAsync(KeyRange range = default, CancellationToken cancellationToken = default);

    /// <summary>Writes a consistent copy that opens on its own; durable once the task has ended.</summary>
    /// <param name="directory">Absent or empty; on the engine's file system, best on the same volume.</param>
    /// <param name="cancellationToken">Stops it; what was written of the copy is removed.</param>
    ValueTask CheckpointAsync(string directory, CancellationToken cancellationToken = default);

    /// <summary>What the engine did and holds, as of now.</summary>
    StorageStatistics GetStatistics();
}

/// <summary>What a write survives once its task has ended.</summary>
public enum StorageDurability
{
    /// <summary>The end of the process, not a power cut. With the engine's log off: what was flushed last, and a consistent prefix of the rest.</summary>
    Buffered,

    /// <summary>A power cut.</summary>
    Flushed,
}

/// <summary>How a scan reads.</summary>
public sealed record StorageScanOptions
{
    /// <summary>A snapshot of the same engine; null: as of the iterator's creation.</summary>
    public IStorageSnapshot? Snapshot { get; init; }
}

/// <summary>A cursor over a range. Starts before the first entry; reads the moment of its creation. One thread at a time.</summary>
/// <remarks>Moved past an end it is invalid until the next <c>Seek…</c>; moving it further stays false.</remarks>
public interface IStorageIterator : IDisposable
{
    /// <summary>To the next entry (at first: to the first one).</summary>
    bool MoveNext();

    /// <summary>To the entry before.</summary>
    bool MovePrevious();

    /// <summary>To the first entry of the range.</summary>
    bool SeekFirst();

    /// <summary>To the last entry of the range.</summary>
    bool SeekLast();

    /// <summary>To the first entry at or after a key (a key before the range: to its first entry).</summary>
    bool Seek(ReadOnlySpan<byte> key);

    /// <summary>To the last entry at or before a key (a key behind the range: to its last entry).</summary>
    bool SeekForPrevious(ReadOnlySpan<byte> key);

    /// <summary>The entry's key; lives until the next move. <see cref="InvalidOperationException"/> where there is no entry.</summary>
    ReadOnlySpan<byte> Key { get; }

    /// <summary>The entry's value; lives until the next move. <see cref="InvalidOperationException"/> where there is no entry.</summary>
    ReadOnlySpan<byte> Value { get; }
}

/// <summary>The state of an engine at one moment. Disposing it lets go of what only it needs.</summary>
public interface IStorageSnapshot : IDisposable;

/// <summary>Snapshot isolation inside one engine. Not thread-safe. Disposing an open one rolls it back.</summary>
/// <remarks>The first committer wins: a key written by another since the begin fails the commit with <see cref="TransactionConflictException"/>.</remarks>
public interface IStorageTransaction : IAsyncDisposable
{
    /// <summary>Reads the snapshot plus the transaction's own writes.</summary>
    ValueTask<byte[]?> GetAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default);

    /// <summary>Buffers a write until the commit.</summary>
    ValueTask PutAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value, CancellationToken cancellationToken = default);

    /// <summary>Buffers a delete until the commit; counts as a write of the key, also of an absent one.</summary>
    ValueTask DeleteAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default);

    /// <summary>Scans the snapshot plus the own writes made before the call.</summary>
    IStorageIterator Scan(KeyRange range);

    /// <summary>Writes everything, <see cref="StorageDurability.Flushed"/>, or throws <see cref="TransactionConflictException"/> and writes nothing.</summary>
    ValueTask CommitAsync(CancellationToken cancellationToken = default);

    /// <summary>Ends it without writing.</summary>
    ValueTask RollbackAsync(CancellationToken cancellationToken = default);
}

/// <summary>Opens engines of one kind with one set of options. Immutable; safe for concurrent use.</summary>
public interface IStorageEngineFactory
{
    /// <summary>Short name of the kind, e.g. <c>lsm</c>; written into the data directory and checked at the next open.</summary>
    string Name => GetType().FullName ?? GetType().Name;

    /// <summary>Whether the engine keeps its files by <see cref="StorageEngineContext.FileSystem"/>; false: it has files of its own, which need a real directory.</summary>
    bool UsesFileSystem => false;

    /// <summary>Opens an engine on its own: own log, own budgets.</summary>
    /// <param name="directory">Created where it is missing; null: in memory.</param>
    /// <param name="cancellationToken">Stops the open; nothing stays open or locked.</param>
    ValueTask<IStorageEngine> OpenAsync(string? directory, CancellationToken cancellationToken = default);

    /// <summary>Opens an engine inside a node.</summary>
    /// <param name="context">What the node shares with it. By default only the directory is used.</param>
    /// <param name="cancellationToken">Stops the open; nothing stays open or locked.</param>
    ValueTask<IStorageEngine> OpenAsync(StorageEngineContext context, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(context);
        return OpenAsync(context.Directory, cancellationToken);
    }
}
