using System.Runtime.InteropServices;

namespace ShardForge.Storage.Lsm.Memtables;

/// <summary>Native memory that only grows and is freed at once: what a memtable's entries live in.</summary>
/// <remarks>
/// Chunks start small, so that an idle engine costs little, and double up to the size that the pool recycles. What does not fit
/// a chunk well gets memory of its own. Threads: one allocates; <see cref="AllocatedBytes"/> may be read by any. Whoever holds the memtable
/// decides when it is freed; the finalizer is for owners that were lost.
/// </remarks>
internal sealed unsafe class Arena(NativeChunkPool pool) : IDisposable
{
    private const int FirstChunkBytes = 16 * 1024, ChunkAlignment = 64;
    private readonly List<(nint Address, int Bytes)> _chunks = [];
    private byte* _at, _end;
    private int _nextChunkBytes = FirstChunkBytes;
    private long _allocatedBytes;
    private bool _freed;

    ~Arena() => Free();

    /// <summary>Native memory held, in bytes.</summary>
    public long AllocatedBytes => Volatile.Read(ref _allocatedBytes);

    /// <summary>What was asked for, without the unused end of the last chunk. The writer's.</summary>
    public long UsedBytes => _allocatedBytes - (_end - _at);

    /// <summary>Memory of that many bytes, aligned to eight; not cleared.</summary>
    public byte* Allocate(int bytes)
    {
        Invariant.Check(!_freed);
        int rounded = (bytes + 7) & ~7;
        if (rounded <= _end - _at)
        {
            byte* result = _at;
            _at += rounded;
            return result;
        }

        return AllocateSlow(rounded);
    }

    /// <summary>Memory that starts on a multiple of <paramref name="alignment"/>, a power of two up to 64.</summary>
    public byte* AllocateAligned(int bytes, int alignment)
    {
        Invariant.Check(alignment <= ChunkAlignment);
        nint padding = -(nint)_at & (alignment - 1);
        if (padding + bytes <= _end - _at)
        {
            byte* result = _at + padding;
            _at = result + bytes;
            return result;
        }

        // A chunk starts on one.
        return AllocateSlow(bytes);
    }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private byte* AllocateSlow(int bytes)
    {
        // A large entry gets its own memory, so that the rest of the present chunk is not lost.
        if (bytes > _nextChunkBytes / 4)
        {
            byte* own = (byte*)NativeMemory.AlignedAlloc((nuint)bytes, ChunkAlignment);
            _chunks.Add(((nint)own, bytes));
            Volatile.Write(ref _allocatedBytes, _allocatedBytes + bytes);
            return own;
        }

        bool isPooled = _nextChunkBytes == NativeChunkPool.ChunkBytes;
        byte* chunk = isPooled ? pool.Rent() : (byte*)NativeMemory.AlignedAlloc((nuint)_nextChunkBytes, ChunkAlignment);
        _chunks.Add(((nint)chunk, _nextChunkBytes));
        Volatile.Write(ref _allocatedBytes, _allocatedBytes + _nextChunkBytes);
        _at = chunk + bytes;
        _end = chunk + _nextChunkBytes;
        _nextChunkBytes = Math.Min(_nextChunkBytes * 2, NativeChunkPool.ChunkBytes);
        return chunk;
    }

    private void Free()
    {
        if (_freed)
            return;
        _freed = true;
        foreach ((nint address, int bytes) in _chunks)
        {
            // An entry of its own may happen to have the pooled size; it is aligned otherwise and goes the other way.
            if (bytes == NativeChunkPool.ChunkBytes && NativeChunkPool.IsChunk(address))
                pool.Return((byte*)address);
            else
                NativeMemory.AlignedFree((void*)address);
        }

        _chunks.Clear();
        _at = _end = null;
    }
}
