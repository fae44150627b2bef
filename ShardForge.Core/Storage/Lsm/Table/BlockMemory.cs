using System.Runtime.InteropServices;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>Native memory for cached blocks: slabs of one huge page, each for blocks of one size.</summary>
/// <remarks><code>
/// slab | header 64 | block | block | ... |        aligned to its size, so that a block's address leads to its slab
/// </code>
/// The first touch of a fresh page costs more than reading a block from the system's cache; on a huge page it is shared by hundreds of blocks, and a freed block's place is
/// used again. What is little (a small engine, the first megabyte) or large is allocated one by one. A slab goes when its last block goes, but for
/// one of each size. Safe for concurrent use.</remarks>
internal sealed unsafe class BlockMemory
{
    /// <summary>Sizes are rounded up to this, so that blocks that are nearly alike share slabs.</summary>
    private const int SizeStep = 256;
    private const int SizesMax = 72;
    private const int SlabBytes = HugePages.Bytes;
    private const long SingleBytesMax = 1024 * 1024;

    private readonly Lock _gate = new();
    private readonly nint[] _withRoom = new nint[SizesMax];    // first slab of each size that has room
    private long _singleBytes;
    private bool _closed;

    /// <summary>Memory of at least so many bytes; its header says how many it has.</summary>
    public CachedBlock* Allocate(int bytes)
    {
        int rounded = checked(bytes + SizeStep - 1) / SizeStep * SizeStep, size = rounded / SizeStep;
        lock (_gate)
        {
            if (size < SizesMax && _singleBytes >= SingleBytesMax)
                return TakeLocked(size);
            _singleBytes += rounded;
        }

        CachedBlock* block = (CachedBlock*)NativeMemory.AlignedAlloc((nuint)rounded, CachedBlock.Bytes);
        *block = new CachedBlock { AllocatedBytes = rounded, IsSingle = true };
        return block;
    }

    public void Free(CachedBlock* block)
    {
        if (!block->IsSingle)
        {
            Invariant.Poison(new Span<byte>((byte*)block + CachedBlock.Bytes, block->AllocatedBytes - CachedBlock.Bytes));
            lock (_gate)
                GiveLocked(block);
            return;
        }

        lock (_gate)
            _singleBytes -= block->AllocatedBytes;
        NativeMemory.AlignedFree(block);
    }

    /// <summary>No slab is kept for later any more.</summary>
    public void Close()
    {
        lock (_gate)
        {
            _closed = true;
            foreach (nint first in _withRoom)
            {
                for (Slab* slab = (Slab*)first; slab != null;)
                {
                    Slab* next = slab->Next;
                    if (slab->Used == 0)
                        RemoveLocked(slab);
                    slab = next;
                }
            }
        }
    }

    private CachedBlock* TakeLocked(int size)
    {
        Slab* slab = (Slab*)_withRoom[size];
        if (slab == null)
        {
            slab = (Slab*)NativeMemory.AlignedAlloc(SlabBytes, SlabBytes);
            HugePages.Advise((byte*)slab, SlabBytes);
            *slab = new Slab { Size = size, Capacity = (SlabBytes - Slab.HeaderBytes) / (size * SizeStep) };
            LinkLocked(slab);
        }

        CachedBlock* block = slab->Free;
        if (block != null)
            slab->Free = block->Next;
        else
            block = (CachedBlock*)((byte*)slab + Slab.HeaderBytes + ((long)slab->Carved++ * size * SizeStep));
        if (++slab->Used == slab->Capacity)
            UnlinkLocked(slab);
        *block = new CachedBlock { AllocatedBytes = size * SizeStep };
        return block;
    }

    private void GiveLocked(CachedBlock* block)
    {
        Slab* slab = (Slab*)((nint)block & ~(nint)(SlabBytes - 1));
        if (slab->Used == slab->Capacity)
            LinkLocked(slab);
        block->Next = slab->Free;
        slab->Free = block;
        if (--slab->Used == 0 && (_closed || slab->Next != null || slab->Previous != null))
            RemoveLocked(slab);
    }

    private void LinkLocked(Slab* slab)
    {
        slab->Previous = null;
        slab->Next = (Slab*)_withRoom[slab->Size];
        if (slab->Next != null)
            slab->Next->Previous = slab;
        _withRoom[slab->Size] = (nint)slab;
    }

    private void UnlinkLocked(Slab* slab)
    {
        if (slab->Previous != null)
            slab->Previous->Next = slab->Next;
        else
            _withRoom[slab->Size] = (nint)slab->Next;
        if (slab->Next != null)
            slab->Next->Previous = slab->Previous;
    }

    private void RemoveLocked(Slab* slab)
    {
        UnlinkLocked(slab);
        NativeMemory.AlignedFree(slab);
    }

    /// <summary>The header of a slab. Carved: places that were given out at least once; behind them the page is untouched.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Slab
    {
        public const int HeaderBytes = 64;
        public Slab* Previous, Next;
        public CachedBlock* Free;
        public int Size, Capacity, Carved, Used;
    }
}
