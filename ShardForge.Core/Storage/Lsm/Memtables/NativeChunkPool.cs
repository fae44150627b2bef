using System.Runtime.InteropServices;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Memtables;

/// <summary>Recycles the large chunks of arenas: the first touch of a fresh page costs microseconds, a used one nothing.</summary>
/// <remarks>Chunks are of the size of a huge page and lie on one, where the system has them: a fault a chunk, and one entry of the processor's address cache.
/// Bounded by <c>chunksMax</c> unused chunks. Safe for concurrent use. After dispose it still takes chunks back, and frees them.</remarks>
internal sealed unsafe class NativeChunkPool(int chunksMax) : IDisposable
{
    public const int ChunkBytes = HugePages.Bytes;
    private readonly Stack<nint> _free = new();
    private readonly Lock _gate = new();
    private bool _disposed;

    ~NativeChunkPool() => FreeAll();

    public static bool IsChunk(nint address) => (address & (ChunkBytes - 1)) == 0;

    public byte* Rent()
    {
        lock (_gate)
        {
            if (_free.TryPop(out nint chunk))
                return (byte*)chunk;
        }

        byte* fresh = (byte*)NativeMemory.AlignedAlloc(ChunkBytes, ChunkBytes);
        HugePages.Advise(fresh, ChunkBytes);
        return fresh;
    }

    public void Return(byte* chunk)
    {
        lock (_gate)
        {
            if (!_disposed && _free.Count < chunksMax)
            {
                _free.Push((nint)chunk);
                return;
            }
        }

        NativeMemory.AlignedFree(chunk);
    }

    public void Dispose()
    {
        FreeAll();
        GC.SuppressFinalize(this);
    }

    private void FreeAll()
    {
        lock (_gate)
        {
            _disposed = true;
            while (_free.TryPop(out nint chunk))
                NativeMemory.AlignedFree((void*)chunk);
        }
    }
}
