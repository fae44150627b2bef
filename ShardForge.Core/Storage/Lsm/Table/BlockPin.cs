namespace ShardForge.Storage.Lsm.Table;

/// <summary>A hold on a block that outlasts an epoch. Released exactly once by whoever got it.</summary>
internal readonly unsafe struct BlockPin(BlockCache cache, CachedBlock* block)
{
    public CachedBlock* Block => block;

    public bool IsNone => block == null;

    public void Release()
    {
        if (block != null)
            cache.Unpin(block);
    }
}
