using System.Runtime.CompilerServices;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>Blocks of all engines of a node, uncompressed, in native memory under one byte budget.</summary>
/// <remarks><code>
/// cell (8 bytes per block of an open table):  0 nothing │ pointer to a CachedBlock │ 2 × stamp + 1: was evicted when the shard had evicted so many
/// </code>
/// There is no table to look in: each open table has a cell per block, so a hit is one load. Replacement is S3-FIFO (Yang et al., "FIFO queues are all you
/// need for cache eviction", SOSP 2023): a block comes into the small queue, a tenth of the budget, and goes from there unless it was used meanwhile; one that
/// comes back soon after its eviction starts in the main queue. So a scan passes through the small queue and leaves the rest alone. Hits take no latch.
/// <para>Parts: <see cref="BlockCacheShard"/> (queues, latch), <see cref="CachedBlock"/>, <see cref="BlockMemory"/>. What is pinned is not freed, and while too much is pinned the budget is
/// exceeded by that much. Indexes and filters of open tables are counted too and leave less for blocks.</para></remarks>
internal sealed unsafe class BlockCache : IRetired, IDisposable
{
    private const long ShardBytesMin = 512 * 1024;
    private readonly BlockMemory _memory = new();
    private readonly BlockCacheShard[] _shards;
    private readonly int _shift;
    private readonly long _budgetBytes;
    private long _fixedBytes;

    public BlockCache(long budgetBytes)
    {
        _budgetBytes = budgetBytes;
        int bits = 0;
        while (bits < 4 && (ShardBytesMin << (bits + 1)) <= budgetBytes)
            bits++;
        _shift = 64 - bits;
        _shards = new BlockCacheShard[1 << bits];
        for (int index = 0; index < _shards.Length; index++)
            _shards[index] = new BlockCacheShard(_memory, budgetBytes / _shards.Length);
    }

    ~BlockCache() => Close(clearsCells: false);

    /// <summary>Bytes of blocks held now.</summary>
    public long UsedBytes
    {
        get
        {
            long bytes = 0;
            foreach (BlockCacheShard shard in _shards)
                bytes += shard.UsedBytes;
            return bytes;
        }
    }

    /// <summary>The block of a cell, if it is there. It stays until the end of the caller's epoch; longer with a pin.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static CachedBlock* Find(nint* cell)
    {
        nint value = Volatile.Read(ref *cell);
        if (value == 0 || (value & 1) != 0)
            return null;
        CachedBlock* block = (CachedBlock*)value;
        block->Touch();
        return block;
    }

    /// <summary>Memory for a block that is read in; recycled where possible. Content and the rest of the header are the caller's to fill.</summary>
    public CachedBlock* Allocate(int contentBytes, int tagRoom)
    {
        CachedBlock* block = _memory.Allocate(CachedBlock.BytesFor(contentBytes, tagRoom));
        block->ContentBytes = contentBytes;
        block->TagRoom = (ushort)tagRoom;
        return block;
    }

    /// <summary>Gives back a block that never came into a cell.</summary>
    public void Free(CachedBlock* block) => _memory.Free(block);

    /// <summary>Puts a block into its cell. Inside an epoch.</summary>
    /// <param name="cell">Of its table.</param>
    /// <param name="block">Taken over.</param>
    /// <param name="isLoose">The cache has no room for it at all: it stays the caller's.</param>
    /// <returns>The cell's block; another one if that came in meanwhile, and then this one is gone.</returns>
    public CachedBlock* Insert(nint* cell, CachedBlock* block, out bool isLoose) => Shard(cell).Insert(cell, block, out isLoose);

    /// <summary>Lets go of a pin, also after dispose.</summary>
    public void Unpin(CachedBlock* block)
    {
        if (block->Unpin())
            _memory.Free(block);
    }

    /// <summary>Takes the blocks of a table that is closed out of their cells.</summary>
    public void RemoveAll(nint* cells, int count)
    {
        for (int index = 0; index < count; index++)
        {
            if ((cells[index] & 1) == 0 && cells[index] != 0)
                Shard(cells + index).Remove(cells + index);
        }
    }

    /// <summary>Counts memory that stays while a table is open; negative when it is closed.</summary>
    public void AddFixed(long bytes)
    {
        long total = Interlocked.Add(ref _fixedBytes, bytes);
        long perShard = Math.Max(_budgetBytes / 8, _budgetBytes - total) / _shards.Length;
        foreach (BlockCacheShard shard in _shards)
            shard.SetBudget(perShard);
    }

    /// <summary>Frees what nobody holds as soon as no reader is left; what is pinned goes with its last pin.</summary>
    public void Dispose()
    {
        ReadEpoch.Retire(this);
        GC.SuppressFinalize(this);
    }

    void IRetired.OnUnreachable() => Close(clearsCells: true);

    private void Close(bool clearsCells)
    {
        foreach (BlockCacheShard shard in _shards)
            shard.Close(clearsCells);
        _memory.Close();
    }

    private BlockCacheShard Shard(nint* cell) => _shards.Length == 1 ? _shards[0] : _shards[((ulong)cell * 0x9E3779B97F4A7C15) >> _shift];
}
