using System.Buffers;
using System.Diagnostics.CodeAnalysis;

namespace ShardForge.Mvcc;

/// <summary>Where an engine writes one value that is looked at and then forgotten. One per thread, so a point read allocates only what it returns.</summary>
internal sealed class VersionBuffer : IBufferWriter<byte>
{
    // A buffer that once held a large value is not kept for ever by every thread of the pool.
    private const int KeptBytesMax = 256 * 1024, FirstBytes = 512;

    [ThreadStatic]
    [SuppressMessage("Style", "IDE1006", Justification = "The prefix says that each thread has its own; the naming rule cannot tell.")]
    private static VersionBuffer? t_free;

    private byte[] _buffer = new byte[FirstBytes];
    private int _length;

    public ReadOnlySpan<byte> Written => _buffer.AsSpan(0, _length);

    /// <summary>Takes this thread's buffer; another call before <see cref="Return"/> makes a new one.</summary>
    public static VersionBuffer Rent()
    {
        VersionBuffer buffer = t_free ?? new VersionBuffer();
        t_free = null;
        buffer._length = 0;
        return buffer;
    }

    public static void Return(VersionBuffer buffer)
    {
        Invariant.Poison(buffer._buffer.AsSpan(0, buffer._length));
        if (buffer._buffer.Length <= KeptBytesMax)
            t_free = buffer;
    }

    public void Clear() => _length = 0;

    public void Advance(int count)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)count, (uint)(_buffer.Length - _length));
        _length += count;
    }

    public Memory<byte> GetMemory(int sizeHint = 0)
    {
        Reserve(sizeHint);
        return _buffer.AsMemory(_length);
    }

    public Span<byte> GetSpan(int sizeHint = 0)
    {
        Reserve(sizeHint);
        return _buffer.AsSpan(_length);
    }

    private void Reserve(int bytes)
    {
        int needed = _length + Math.Max(bytes, 1);
        if (needed > _buffer.Length)
            Array.Resize(ref _buffer, Math.Max(needed, (int)Math.Min(Array.MaxLength, 2L * _buffer.Length)));
    }
}
