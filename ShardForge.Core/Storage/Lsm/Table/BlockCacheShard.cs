using System.Runtime.InteropServices;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>One part of the block cache: a hash table of slots with a clock hand (second chance) over them.</summary>
/// <remarks>
/// Threads: the latch guards all of it; it is held for a lookup or an eviction, never over I/O. A slot is free (no block), kept (block, no pins) or
/// pinned. Slots are recycled, so that a miss allocates nothing managed once the cache is full.
/// </remarks>
internal sealed unsafe class BlockCacheShard
{
    private readonly Lock _gate = new();
    private Slot[] _slots = new Slot[64];
    private int[] _buckets = NewBuckets(128);
    private int _slotCount, _freeSlot = -1, _hand;
    private long _budgetBytes, _usedBytes;
    private bool _closed;

    public BlockCacheShard(long budgetBytes) => _budgetBytes = budgetBytes;

    public long UsedBytes => Volatile.Read(ref _usedBytes);

    public bool TryPin(ulong hash, ulong tableId, long offset, out BlockPin pin)
    {
        lock (_gate)
        {
            int index = FindLocked(hash, tableId, offset);
            if (index < 0)
            {
                pin = default;
                return false;
            }

            pin = PinLocked(index);
            return true;
        }
    }

    public BlockPin Insert(ulong hash, ulong tableId, long offset, byte* block, int bytes)
    {
        lock (_gate)
        {
            int index = FindLocked(hash, tableId, offset);
            if (index >= 0)
            {
                NativeMemory.Free(block);
                return PinLocked(index);
            }

            if (_closed || bytes > _budgetBytes)
                return new BlockPin(null, 0, block, bytes);
            EvictLocked(bytes);
            index = TakeSlotLocked();
            int bucket = (int)(hash & (uint)(_buckets.Length - 1));
            _slots[index] = new Slot { TableId = tableId, Offset = offset, Hash = hash, Block = (nint)block, Bytes = bytes, Next = _buckets[bucket], Pins = 1 };
            _buckets[bucket] = index;
            _usedBytes += bytes;
            return new BlockPin(this, index, block, bytes);
        }
    }

    public void Unpin(int index)
    {
        lock (_gate)
        {
            ref Slot slot = ref _slots[index];
            Invariant.Require(slot.Pins > 0);
            slot.Pins--;
            if (_closed && slot.Pins == 0)
                RemoveLocked(index);
        }
    }

    public void SetBudget(long bytes)
    {
        lock (_gate)
        {
            _budgetBytes = bytes;
            EvictLocked(0);
        }
    }

    /// <summary>Frees what nobody holds; the rest goes with its last pin.</summary>
    public void Close()
    {
        lock (_gate)
        {
            _closed = true;
            for (int index = 0; index < _slotCount; index++)
            {
                if (_slots[index].Block != 0 && _slots[index].Pins == 0)
                    RemoveLocked(index);
            }
        }
    }

    private static int[] NewBuckets(int count)
    {
        int[] buckets = new int[count];
        buckets.AsSpan().Fill(-1);
        return buckets;
    }

    private int FindLocked(ulong hash, ulong tableId, long offset)
    {
        for (int index = _buckets[hash & (uint)(_buckets.Length - 1)]; index >= 0; index = _slots[index].Next)
        {
            ref Slot slot = ref _slots[index];
            if (slot.TableId == tableId && slot.Offset == offset)
                return index;
        }

        return -1;
    }

    private BlockPin PinLocked(int index)
    {
        ref Slot slot = ref _slots[index];
        slot.Pins++;
        slot.Referenced = true;
        return new BlockPin(this, index, (byte*)slot.Block, slot.Bytes);
    }

    private void EvictLocked(int bytes)
    {
        // Two rounds: the first may only take away second chances. Then everything is pinned, and the budget waits.
        for (int steps = 2 * _slotCount; steps > 0 && _usedBytes + bytes > _budgetBytes; steps--)
        {
            _hand = _hand + 1 >= _slotCount ? 0 : _hand + 1;
            ref Slot slot = ref _slots[_hand];
            if (slot.Block == 0 || slot.Pins > 0)
                continue;
            if (slot.Referenced)
                slot.Referenced = false;
            else
                RemoveLocked(_hand);
        }
    }

    private void RemoveLocked(int index)
    {
        ref Slot slot = ref _slots[index];
        ref int link = ref _buckets[slot.Hash & (uint)(_buckets.Length - 1)];
        while (link != index)
            link = ref _slots[link].Next;
        link = slot.Next;
        _usedBytes -= slot.Bytes;
        NativeMemory.Free((void*)slot.Block);
        slot = default;
        slot.Next = _freeSlot;
        _freeSlot = index;
    }

    private int TakeSlotLocked()
    {
        if (_freeSlot >= 0)
        {
            int free = _freeSlot;
            _freeSlot = _slots[free].Next;
            return free;
        }

        if (_slotCount == _slots.Length)
        {
            Array.Resize(ref _slots, 2 * _slots.Length);
            _buckets = NewBuckets(2 * _slots.Length);
            for (int index = 0; index < _slotCount; index++)
            {
                int bucket = (int)(_slots[index].Hash & (uint)(_buckets.Length - 1));
                _slots[index].Next = _buckets[bucket];
                _buckets[bucket] = index;
            }
        }

        return _slotCount++;
    }

    private struct Slot
    {
        public ulong TableId, Hash;
        public long Offset;
        public nint Block;
        public int Bytes, Next, Pins;
        public bool Referenced;
    }
}
