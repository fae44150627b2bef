using System.Buffers;
using ShardForge.Storage.Lsm.Reads;

namespace ShardForge.Storage.Lsm;

/// <summary>Reads: a reference on the read state, then the sequence number, then the search.</summary>
internal sealed partial class LsmEngine
{
    private readonly Action _throwIfDisposed;

    public bool TryGet(ReadOnlySpan<byte> key, IBufferWriter<byte> value, IStorageSnapshot? snapshot = null)
    {
        ArgumentNullException.ThrowIfNull(value);
        StorageArguments.CheckKey(key);
        ReadState state = AcquireState();
        try
        {
            _counters.Reads.Increment();
            return state.TryGet(key, SequenceOf(snapshot), value);
        }
        finally
        {
            state.Release();
        }
    }

    public bool TryGetVersion(ReadOnlySpan<byte> key, int suffixBytes, Span<byte> suffix, IBufferWriter<byte> value, IStorageSnapshot? snapshot = null)
    {
        ArgumentNullException.ThrowIfNull(value);
        StorageArguments.CheckVersion(key, suffixBytes, suffix);
        ReadState state = AcquireState();
        try
        {
            _counters.Reads.Increment();
            ulong sequence = SequenceOf(snapshot);
            if (suffixBytes > 0 && suffixBytes == SuffixBytes && key.Length > suffixBytes)
            {
                VersionRead read = state.TryGetVersion(key, sequence, suffix, value);
                if (read != VersionRead.NeedsMerge)
                    return read == VersionRead.Found;
            }

            return TryGetVersionByMerge(state, key, suffixBytes, sequence, suffix, value);
        }
        finally
        {
            state.Release();
        }
    }

    public ValueTask<byte[]?> GetAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled<byte[]?>(cancellationToken);
        ArrayBufferWriter<byte> value = new();
        return new(TryGet(key.Span, value) ? value.WrittenSpan.ToArray() : null);
    }

    public IStorageIterator Scan(KeyRange range, StorageScanOptions? options = null)
    {
        ThrowIfDisposed();
        ReadState state = AcquireState();
        try
        {
            return new LsmIterator(range, state, SequenceOf(options?.Snapshot), _throwIfDisposed);
        }
        catch
        {
            state.Release();
            throw;
        }
    }

    public IStorageSnapshot CreateSnapshot()
    {
        ThrowIfDisposed();
        return _snapshots.Add(() => Volatile.Read(ref _visibleSequence));
    }

    private bool TryGetVersionByMerge(ReadState state, ReadOnlySpan<byte> key, int suffixBytes, ulong sequence, Span<byte> suffix, IBufferWriter<byte> value)
    {
        // The state is counted once more: the iterator lets go of its own.
        Invariant.Require(state.TryAddReference());
        using LsmIterator iterator = new(KeyRange.From(key.ToArray()), state, sequence, _throwIfDisposed);
        ReadOnlySpan<byte> prefix = key[..^suffixBytes];
        if (!iterator.MoveNext() || iterator.Key.Length != key.Length || !iterator.Key.StartsWith(prefix))
            return false;
        iterator.Key[prefix.Length..].CopyTo(suffix);
        value.Write(iterator.Value);
        return true;
    }

    private ReadState AcquireState()
    {
        while (true)
        {
            ReadState? state = Volatile.Read(ref _state);
            ObjectDisposedException.ThrowIf(state is null || Volatile.Read(ref _disposed) != 0, typeof(IStorageEngine));

            // False: it was replaced between the two; the new one is there already.
            if (state.TryAddReference())
                return state;
        }
    }

    /// <summary>Read after the state was acquired: see <see cref="ReadState"/>.</summary>
    private ulong SequenceOf(IStorageSnapshot? snapshot)
    {
        if (snapshot is null)
            return Volatile.Read(ref _visibleSequence);
        if (snapshot is not LsmSnapshot own || own.Owner != _snapshots)
            throw new ArgumentException("The snapshot is another engine's.", nameof(snapshot));
        ObjectDisposedException.ThrowIf(own.IsDisposed, typeof(IStorageSnapshot));
        return own.Sequence;
    }
}
