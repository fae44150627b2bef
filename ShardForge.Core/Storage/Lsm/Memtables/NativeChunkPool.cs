using System.Runtime.InteropServices;

namespace ShardForge.Storage.Lsm.Memtables;

/// <summary>Recycles the large chunks of arenas: the first touch of a fresh page costs microseconds, a used one nothing.</summary>
/// <remarks>Bounded by <c>chunksMax</c> unused chunks. Safe for concurrent use. After dispose it still takes chunks back, and frees them.</remarks>
internal sealed unsafe class NativeChunkPool(int chunksMax) : IDisposable
{
    public const int ChunkBytes = 1024 * 1024;
    private readonly Stack<nint> _free = new();
    private readonly Lock _gate = new();
    private bool _disposed;

    ~NativeChunkPool() => FreeAll();

    public byte* Rent()
    {
        lock (_gate)
        {
            if (_free.TryPop(out nint chunk))
                return (byte*)chunk;
        }

        return (byte*)NativeMemory.Alloc(ChunkBytes);
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

        NativeMemory.Free(chunk);
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
                NativeMemory.Free((void*)chunk);
        }
    }
}
