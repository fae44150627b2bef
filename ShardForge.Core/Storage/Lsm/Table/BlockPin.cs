using System.Runtime.InteropServices;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>A hold on a block in memory: of the cache, or on its own. Released exactly once by whoever got it.</summary>
internal readonly unsafe struct BlockPin(BlockCacheShard? shard, int slot, byte* block, int bytes)
{
    public byte* Block => block;

    public int Bytes => bytes;

    public bool IsNone => block == null;

    public void Release()
    {
        if (shard is not null)
            shard.Unpin(slot);
        else
            NativeMemory.Free(block);
    }
}
