using System.Buffers;
using ShardForge.Storage.Lsm.Reads;

namespace ShardForge.Storage.Lsm;

/// <summary>Reads of many keys: one read state and one sequence number for all, and blocks met in key order.</summary>
internal sealed partial class LsmEngine
{
    public ValueTask<byte[]?[]> GetManyAsync(IReadOnlyList<ReadOnlyMemory<byte>> keys, IStorageSnapshot? snapshot = null, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        ArgumentNullException.ThrowIfNull(keys);
        (ReadOnlyMemory<byte> Key, int Place)[] sorted = new (ReadOnlyMemory<byte>, int)[keys.Count];
        for (int index = 0; index < sorted.Length; index++)
        {
            StorageArguments.CheckKey(keys[index].Span);
            sorted[index] = (keys[index], index);
        }

        Array.Sort(sorted, static (left, right) => left.Key.Span.SequenceCompareTo(right.Key.Span));
        byte[]?[] values = new byte[]?[sorted.Length];
        ArrayBufferWriter<byte> value = new();
        using ReadEpoch epoch = ReadEpoch.Enter();
        ReadState state = PresentState();
        ulong sequence = SequenceOf(snapshot);
        foreach ((ReadOnlyMemory<byte> key, int place) in sorted)
        {
            if (cancellationToken.IsCancellationRequested)
                return ValueTask.FromCanceled<byte[]?[]>(cancellationToken);
            _counters.CountRead();
            value.ResetWrittenCount();
            if (state.TryGet(key.Span, sequence, value))
                values[place] = value.WrittenSpan.ToArray();
        }

        return new(values);
    }
}
