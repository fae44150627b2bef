using System.Buffers;
using System.Diagnostics.CodeAnalysis;

namespace ShardForge.Network;

/// <summary>Pooled bytes with one owner: a payload that is being written, or one that was received.</summary>
/// <remarks>The owner disposes it or hands it over; disposed twice it goes back once. Forgotten, it is left to the collector. One thread at a time.</remarks>
internal sealed class PeerBuffer : IBufferWriter<byte>, IDisposable
{
    private const int FirstBytes = 256;
    private byte[]? _array;
    private int _written;

    public PeerBuffer(int capacityBytes = FirstBytes) => _array = ArrayPool<byte>.Shared.Rent(Math.Max(capacityBytes, 1));

    public int Length => _written;

    public ReadOnlyMemory<byte> Memory => Array.AsMemory(0, _written);

    public ReadOnlySpan<byte> Span => Array.AsSpan(0, _written);

    private byte[] Array => _array ?? ThrowDisposed();

    /// <summary>A buffer with a copy of the bytes.</summary>
    public static PeerBuffer Copy(ReadOnlySpan<byte> bytes)
    {
        PeerBuffer buffer = new(bytes.Length);
        bytes.CopyTo(buffer._array);
        buffer._written = bytes.Length;
        return buffer;
    }

    /// <summary>A buffer with a copy of the bytes.</summary>
    public static PeerBuffer Copy(in ReadOnlySequence<byte> bytes)
    {
        int length = checked((int)bytes.Length);
        PeerBuffer buffer = new(length);
        bytes.CopyTo(buffer._array);
        buffer._written = length;
        return buffer;
    }

    public void Advance(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, Array.Length - _written);
        _written += count;
    }

    public Memory<byte> GetMemory(int sizeHint = 0)
    {
        Reserve(sizeHint);
        return Array.AsMemory(_written);
    }

    public Span<byte> GetSpan(int sizeHint = 0)
    {
        Reserve(sizeHint);
        return Array.AsSpan(_written);
    }

    public void Write(in ReadOnlySequence<byte> bytes)
    {
        int length = checked((int)bytes.Length);
        bytes.CopyTo(GetSpan(length));
        _written += length;
    }

    public void Dispose()
    {
        byte[]? array = Interlocked.Exchange(ref _array, null);
        if (array is null)
            return;
        Invariant.Poison(array.AsSpan(0, _written));
        ArrayPool<byte>.Shared.Return(array);
    }

    [DoesNotReturn]
    private static byte[] ThrowDisposed() => throw new ObjectDisposedException(nameof(PeerBuffer));

    private void Reserve(int bytes)
    {
        byte[] array = Array;
        int needed = Math.Max(bytes, 1);
        if (array.Length - _written >= needed)
            return;

        byte[] larger = ArrayPool<byte>.Shared.Rent(checked((int)Math.Min(Math.Max((long)array.Length * 2, (long)_written + needed), System.Array.MaxLength)));
        if (larger.Length - _written < needed)
        {
            ArrayPool<byte>.Shared.Return(larger);
            throw new InvalidOperationException($"A buffer of {(long)_written + needed:N0} bytes is more than an array holds.");
        }

        array.AsSpan(0, _written).CopyTo(larger);
        _array = larger;
        ArrayPool<byte>.Shared.Return(array);
    }
}
