namespace ShardForge;

/// <summary>Keys and values, ordered by key as unsigned bytes: what a node and a transaction have in common.</summary>
/// <remarks>
/// Byte strings are plain bytes; the empty key and the empty value are allowed. Buffers given to a call are left unchanged by the
/// caller until its task ends; returned arrays belong to the caller.
/// <para>Errors that every call may throw: <see cref="LimitExceededException"/> (a key or value over its limit; nothing was
/// written), <see cref="ShardUnavailableException"/> (no leader reachable within the operation's time; nothing was written; transient),
/// <see cref="OverloadedException"/> (a bounded queue is full; nothing was written; transient), <see cref="CorruptionException"/> (damage was
/// found on the way), <see cref="OperationCanceledException"/> (the caller's token), <see cref="ObjectDisposedException"/>.</para>
/// </remarks>
public interface IKeyValueStore
{
    /// <summary>Reads the value of a key; null where it is absent.</summary>
    /// <param name="key">At most <see cref="Limits.KeyBytesMax"/> bytes.</param>
    /// <param name="options">How to read; null: the defaults.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    ValueTask<byte[]?> GetAsync(ReadOnlyMemory<byte> key, ReadOptions? options = null, CancellationToken cancellationToken = default);

    /// <summary>Writes a key, whatever it held.</summary>
    /// <param name="key">At most <see cref="Limits.KeyBytesMax"/> bytes.</param>
    /// <param name="value">At most <see cref="Limits.ValueBytesMax"/> bytes.</param>
    /// <param name="options">How to write; null: the defaults.</param>
    /// <param name="cancellationToken">Cancelled before the call: nothing is written. Cancelled while the write is in flight: it may happen.</param>
    /// <exception cref="OutcomeUnknownException">The write may or may not have happened.</exception>
    ValueTask PutAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value, WriteOptions? options = null, CancellationToken cancellationToken = default);

    /// <summary>Removes a key, present or not.</summary>
    /// <param name="key">At most <see cref="Limits.KeyBytesMax"/> bytes.</param>
    /// <param name="options">How to write; null: the defaults.</param>
    /// <param name="cancellationToken">Cancelled before the call: nothing is written. Cancelled while the write is in flight: it may happen.</param>
    /// <exception cref="OutcomeUnknownException">The delete may or may not have happened.</exception>
    ValueTask DeleteAsync(ReadOnlyMemory<byte> key, WriteOptions? options = null, CancellationToken cancellationToken = default);

    /// <summary>The entries of a range in key order over all shards, from one consistent snapshot, taken at the first <c>MoveNextAsync</c>.</summary>
    /// <param name="range">A bound may be one byte longer than a key.</param>
    /// <param name="options">Direction and limit; null: the defaults.</param>
    /// <param name="cancellationToken">Ends the scan.</param>
    /// <remarks>A scan that cannot go on throws in the middle; it never ends early as if complete.</remarks>
    IAsyncEnumerable<KeyValuePair<byte[], byte[]>> ScanAsync(KeyRange range, ScanOptions? options = null, CancellationToken cancellationToken = default);
}
