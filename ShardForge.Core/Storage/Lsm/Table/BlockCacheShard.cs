namespace ShardForge.Storage.Lsm.Table;

/// <summary>One part of the block cache: its two queues, and the blocks that wait for readers to leave.</summary>
/// <remarks>
/// Threads: the latch guards all of it, and the cells of its blocks; it is held for a move between lists, never over I/O. Blocks are linked through their headers.
/// <code>
/// cell ◀─▶ small or main queue ──evicted──▶ limbo (open batch → closed batches with a stamp) ──safe──▶ BlockMemory
/// </code></remarks>
internal sealed unsafe class BlockCacheShard
{
    /// <summary>Blocks that are unlinked under one stamp: the barrier behind it is shared by so many.</summary>
    private const int BatchBlocks = 32;

    private const int SmallShare = 10;

    private readonly Lock _gate = new();
    private readonly BlockMemory _memory;
    private readonly Queue<(long Stamp, nint First)> _limbo = new();
    private List _small, _main;
    private CachedBlock* _batch;
    private int _batchCount;
    private long _budgetBytes, _usedBytes, _evicted;
    private bool _closed;

    public BlockCacheShard(BlockMemory memory, long budgetBytes)
    {
        _memory = memory;
        _budgetBytes = budgetBytes;
    }

    public long UsedBytes => Volatile.Read(ref _usedBytes);

    public CachedBlock* Insert(nint* cell, CachedBlock* block, out bool isLoose)
    {
        lock (_gate)
        {
            isLoose = false;
            nint value = *cell;
            if (value != 0 && (value & 1) == 0)
            {
                _memory.Free(block);
                return (CachedBlock*)value;
            }

            isLoose = _closed || block->AllocatedBytes > _budgetBytes;
            if (isLoose)
                return block;
            bool wasHere = value != 0 && _evicted - (long)((nuint)value >> 1) < _main.Count + _small.Count;
            block->Cell = cell;
            LinkLocked(block, wasHere ? BlockQueue.Main : BlockQueue.Small);
            _usedBytes += block->AllocatedBytes;
            Volatile.Write(ref *cell, (nint)block);
            EvictLocked();
            return block;
        }
    }

    /// <summary>Takes a block out because its table goes.</summary>
    public void Remove(nint* cell)
    {
        lock (_gate)
        {
            nint value = *cell;
            if (!_closed && value != 0 && (value & 1) == 0)
                UnlinkLocked((CachedBlock*)value, mark: 0);
        }
    }

    public void SetBudget(long bytes)
    {
        lock (_gate)
        {
            _budgetBytes = bytes;
            EvictLocked();
        }
    }

    /// <summary>Frees what nobody holds; what is pinned goes with its last pin. No reader is left.</summary>
    /// <param name="clearsCells">False for a finalizer: then the cells' tables may be gone already.</param>
    public void Close(bool clearsCells)
    {
        lock (_gate)
        {
            _closed = true;
            CloseBatchLocked();
            foreach (nint head in (ReadOnlySpan<nint>)[(nint)_small.Head, (nint)_main.Head])
            {
                for (CachedBlock* block = (CachedBlock*)head; clearsCells && block != null; block = block->Next)
                    Volatile.Write(ref *block->Cell, 0);
                AbandonLocked((CachedBlock*)head);
            }

            while (_limbo.TryDequeue(out (long Stamp, nint First) batch))
                AbandonLocked((CachedBlock*)batch.First);
            _small = _main = default;
            _usedBytes = 0;
        }
    }

    private void EvictLocked()
    {
        // Every step takes a use away, moves on, or skips what is pinned: after so many all that is left is pinned, and the budget waits.
        long steps = (long)(CachedBlock.UsesMax + 2) * (_small.Count + _main.Count);
        for (; _usedBytes > _budgetBytes && steps > 0; steps--)
        {
            bool fromSmall = _small.Bytes > _budgetBytes / SmallShare || _main.Tail == null;
            CachedBlock* block = fromSmall ? _small.Tail : _main.Tail;
            if (block == null)
                return;
            if (block->Uses > 0 || block->IsPinned)
            {
                MoveLocked(block, fromSmall && block->Uses == 0 ? BlockQueue.Small : BlockQueue.Main);
                block->Uses = (byte)(fromSmall || block->Uses == 0 ? 0 : block->Uses - 1);
                continue;
            }

            _evicted++;
            UnlinkLocked(block, mark: fromSmall ? (nint)((_evicted << 1) | 1) : 0);
        }
    }

    private void UnlinkLocked(CachedBlock* block, nint mark)
    {
        Volatile.Write(ref *block->Cell, mark);
        block->Cell = null;
        Of(block->Queue).Remove(block);
        block->Queue = BlockQueue.None;
        _usedBytes -= block->AllocatedBytes;
        block->Next = _batch;
        _batch = block;
        if (++_batchCount >= BatchBlocks)
        {
            CloseBatchLocked();
            DrainLocked();
        }
    }

    private void CloseBatchLocked()
    {
        if (_batch == null)
            return;
        _limbo.Enqueue((ReadEpoch.Stamp(), (nint)_batch));
        _batch = null;
        _batchCount = 0;
    }

    private void DrainLocked()
    {
        // The batch before had the time that this one took to fill: mostly it is safe at the first look.
        if (_limbo.Count < 2)
            return;
        long safe = ReadEpoch.SafeStamp();
        while (_limbo.TryPeek(out (long Stamp, nint First) batch) && batch.Stamp <= safe)
        {
            _limbo.Dequeue();
            AbandonLocked((CachedBlock*)batch.First);
        }
    }

    /// <summary>Of a chain that no reader can reach: frees what is not pinned.</summary>
    private void AbandonLocked(CachedBlock* block)
    {
        while (block != null)
        {
            CachedBlock* next = block->Next;
            if (block->Abandon())
                _memory.Free(block);
            block = next;
        }
    }

    private void LinkLocked(CachedBlock* block, BlockQueue queue)
    {
        block->Queue = queue;
        Of(queue).AddFirst(block);
    }

    private void MoveLocked(CachedBlock* block, BlockQueue queue)
    {
        Of(block->Queue).Remove(block);
        LinkLocked(block, queue);
    }

    private ref List Of(BlockQueue queue) => ref queue == BlockQueue.Small ? ref _small : ref _main;

    /// <summary>A queue: in at the head, out at the tail.</summary>
    private struct List
    {
        public CachedBlock* Head, Tail;
        public long Bytes, Count;

        public void AddFirst(CachedBlock* block)
        {
            block->Previous = null;
            block->Next = Head;
            if (Head != null)
                Head->Previous = block;
            else
                Tail = block;
            Head = block;
            Bytes += block->AllocatedBytes;
            Count++;
        }

        public void Remove(CachedBlock* block)
        {
            if (block->Previous != null)
                block->Previous->Next = block->Next;
            else
                Head = block->Next;
            if (block->Next != null)
                block->Next->Previous = block->Previous;
            else
                Tail = block->Previous;
            Bytes -= block->AllocatedBytes;
            Count--;
        }
    }
}
