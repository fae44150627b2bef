namespace ShardForge.Storage.Lsm.Table;

/// <summary>Blocks of all engines of a node, uncompressed, in native memory under one byte budget.</summary>
/// <remarks>
/// Shards (by hash of table and offset) each have a latch, a table and a clock hand (<see cref="BlockCacheShard"/>). A block that is pinned is never
/// freed, so that readers use it without a copy; while too much is pinned the budget is exceeded by that much. What cannot go (indexes and filters of open
/// tables) is counted too and leaves less for blocks. After dispose, pins stay good and free their block when they go.
/// </remarks>
internal sealed unsafe class BlockCache : IDisposable
{
    private const long ShardBytesMin = 512 * 1024;
    private readonly BlockCacheShard[] _shards;
    private readonly int _shift;
    private readonly long _budgetBytes;
    private long _fixedBytes;
    private long _nextTableId;

    public BlockCache(long budgetBytes)
    {
        _budgetBytes = budgetBytes;
        int bits = 0;
        while (bits < 4 && (ShardBytesMin << (bits + 1)) <= budgetBytes)
            bits++;
        _shift = 64 - bits;
        _shards = new BlockCacheShard[1 << bits];
        for (int index = 0; index < _shards.Length; index++)
            _shards[index] = new BlockCacheShard(budgetBytes / _shards.Length);
    }

    ~BlockCache() => Free();

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

    /// <summary>A number that no other table of this cache has.</summary>
    public ulong NewTableId() => (ulong)Interlocked.Increment(ref _nextTableId);

    /// <summary>Pins a block that is there.</summary>
    public bool TryPin(ulong tableId, long offset, out BlockPin pin) => Shard(tableId, offset, out ulong hash).TryPin(hash, tableId, offset, out pin);

    /// <summary>Takes over a block (from <see cref="System.Runtime.InteropServices.NativeMemory"/>) and pins it; one that came in meanwhile is kept instead.</summary>
    public BlockPin Insert(ulong tableId, long offset, byte* block, int bytes) => Shard(tableId, offset, out ulong hash).Insert(hash, tableId, offset, block, bytes);

    /// <summary>Counts memory that stays while a table is open; negative when it is closed.</summary>
    public void AddFixed(long bytes)
    {
        long total = Interlocked.Add(ref _fixedBytes, bytes);
        long perShard = Math.Max(_budgetBytes / 8, _budgetBytes - total) / _shards.Length;
        foreach (BlockCacheShard shard in _shards)
            shard.SetBudget(perShard);
    }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        foreach (BlockCacheShard shard in _shards)
            shard.Close();
    }

    private BlockCacheShard Shard(ulong tableId, long offset, out ulong hash)
    {
        hash = ((tableId * 0x9E3779B97F4A7C15) ^ (ulong)offset) * 0xD6E8FEB86659FD93;
        hash ^= hash >> 32;
        hash *= 0xD6E8FEB86659FD93;
        return _shards.Length == 1 ? _shards[0] : _shards[hash >> _shift];
    }
}
