using System.Buffers;
using ShardForge.Storage.Lsm.Reads;

namespace ShardForge.Storage.Lsm;

/// <summary>Reads: an epoch (or a reference on the read state, for what lasts longer), then the state, then the sequence number, then the search.</summary>
internal sealed partial class LsmEngine
{
    /// <summary>Cursors of iterators that were disposed, for the next ones; one a place, and threads are spread over the places.</summary>
    private readonly ScanCursors?[] _unusedCursors = new ScanCursors?[8];

    /// <summary>Whether it was disposed; iterators ask before each step.</summary>
    internal bool IsDisposed => Volatile.Read(ref _disposed) != 0;

    public bool TryGet(ReadOnlySpan<byte> key, IBufferWriter<byte> value, IStorageSnapshot? snapshot = null)
    {
        ArgumentNullException.ThrowIfNull(value);
        StorageArguments.CheckKey(key);
        using ReadEpoch epoch = ReadEpoch.Enter();
        ReadState state = PresentState();
        _counters.CountRead();
        return state.TryGet(key, SequenceOf(snapshot), value);
    }

    public bool TryGetVersion(ReadOnlySpan<byte> key, int suffixBytes, Span<byte> suffix, IBufferWriter<byte> value, IStorageSnapshot? snapshot = null)
    {
        ArgumentNullException.ThrowIfNull(value);
        StorageArguments.CheckVersion(key, suffixBytes, suffix);
        using ReadEpoch epoch = ReadEpoch.Enter();
        ReadState state = PresentState();
        _counters.CountRead();
        ulong sequence = SequenceOf(snapshot);
        if (suffixBytes > 0 && suffixBytes == SuffixBytes && key.Length > suffixBytes)
        {
            VersionRead read = state.TryGetVersion(key, sequence, suffix, value);
            if (read != VersionRead.NeedsMerge)
                return read == VersionRead.Found;
        }

        return TryGetVersionByMerge(key, suffixBytes, snapshot, suffix, value);
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
            return new LsmIterator(this, range, state, SequenceOf(options?.Snapshot));
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
        return _snapshots.Add(() => Volatile.Read(ref VisibleSequence));
    }

    /// <summary>Cursors for an iterator.</summary>
    internal ScanCursors RentCursors() => Interlocked.Exchange(ref _unusedCursors[ReadEpoch.ThreadNumber % _unusedCursors.Length], null) ?? new ScanCursors();

    /// <summary>Takes the cursors of an iterator back, closed.</summary>
    internal void ReturnCursors(ScanCursors cursors) => Volatile.Write(ref _unusedCursors[ReadEpoch.ThreadNumber % _unusedCursors.Length], cursors);

    private bool TryGetVersionByMerge(ReadOnlySpan<byte> key, int suffixBytes, IStorageSnapshot? snapshot, Span<byte> suffix, IBufferWriter<byte> value)
    {
        using IStorageIterator iterator = Scan(KeyRange.From(key.ToArray()), new StorageScanOptions { Snapshot = snapshot });
        ReadOnlySpan<byte> prefix = key[..^suffixBytes];
        if (!iterator.MoveNext() || iterator.Key.Length != key.Length || !iterator.Key.StartsWith(prefix))
            return false;
        iterator.Key[prefix.Length..].CopyTo(suffix);
        value.Write(iterator.Value);
        return true;
    }

    /// <summary>The state that reads start from; it stays until the end of the caller's epoch.</summary>
    private ReadState PresentState()
    {
        ReadState? state = Volatile.Read(ref _state);
        ObjectDisposedException.ThrowIf(state is null || IsDisposed, typeof(IStorageEngine));
        return state;
    }

    /// <summary>The same with a reference.</summary>
    private ReadState AcquireState()
    {
        while (true)
        {
            ReadState? state = Volatile.Read(ref _state);
            ObjectDisposedException.ThrowIf(state is null || IsDisposed, typeof(IStorageEngine));

            // False: it was replaced between the two; the new one is there already.
            if (state.TryAddReference())
                return state;
        }
    }

    /// <summary>Read after the state was acquired: see <see cref="ReadState"/>.</summary>
    private ulong SequenceOf(IStorageSnapshot? snapshot)
    {
        if (snapshot is null)
            return Volatile.Read(ref VisibleSequence);
        if (snapshot is not LsmSnapshot own || own.Owner != _snapshots)
            throw new ArgumentException("The snapshot is another engine's.", nameof(snapshot));
        ObjectDisposedException.ThrowIf(own.IsDisposed, typeof(IStorageSnapshot));
        return own.Sequence;
    }
}
