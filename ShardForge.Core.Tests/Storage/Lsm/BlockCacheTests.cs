using System.Runtime.InteropServices;
using NUnit.Framework;
using ShardForge.Storage.Lsm;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>The cache over cells of the test's own.</summary>
[FixtureLifeCycle(LifeCycle.InstancePerTestCase)]
internal sealed unsafe class BlockCacheTests
{
    private const int Blocks = 4000, ContentBytes = 1000;

    // Not freed: a cache that is disposed clears its cells when no reader of the process is left, which may be after the test.
    private readonly nint* _cells = (nint*)NativeMemory.AllocZeroed(Blocks, (nuint)sizeof(nint));

    [Test]
    public void The_budget_holds_and_the_oldest_go()
    {
        using BlockCache cache = new(400_000);
        for (int number = 0; number < Blocks; number++)
            Insert(cache, number);
        Assert.That(cache.UsedBytes, Is.LessThanOrEqualTo(400_000));
        Assert.That(cache.UsedBytes, Is.GreaterThan(300_000));
        Assert.That(IsHere(Blocks - 1));
        Assert.That(IsHere(0), Is.False);
        cache.RemoveAll(_cells, Blocks);
        Assert.That(cache.UsedBytes, Is.Zero);
    }

    [Test]
    public void A_scan_leaves_what_is_used_again()
    {
        using BlockCache cache = new(400_000);
        for (int number = 0; number < 100; number++)
        {
            Insert(cache, number);
            BlockCache.Find(_cells + number);
        }

        for (int number = 100; number < Blocks; number++)
        {
            Insert(cache, number);
            BlockCache.Find(_cells + (number % 100));
        }

        int left = 0;
        for (int number = 0; number < 100; number++)
            left += IsHere(number) ? 1 : 0;
        Assert.That(left, Is.GreaterThan(95));
        cache.RemoveAll(_cells, Blocks);
    }

    [Test]
    public void What_comes_back_soon_after_its_eviction_stays_longer()
    {
        using BlockCache cache = new(400_000);
        int next = 0;
        while (next < Blocks && (next < 10 || IsHere(0)))
            Insert(cache, next++);
        Assert.That(IsHere(0), Is.False);
        Insert(cache, 0);
        using (ReadEpoch.Enter())
            Assert.That(((CachedBlock*)_cells[0])->Queue, Is.EqualTo(BlockQueue.Main));
        cache.RemoveAll(_cells, Blocks);
    }

    [Test]
    public void A_pinned_block_keeps_its_bytes_past_eviction_removal_and_dispose()
    {
        BlockCache cache = new(100_000);
        CachedBlock* first = Insert(cache, 0), second = Insert(cache, 1);
        first->Pin();
        second->Pin();
        cache.RemoveAll(_cells, 1);
        Assert.That(IsHere(0), Is.False);
        for (int number = 2; number < Blocks; number++)
            Insert(cache, number);
        AssertBytes(first, 0);
        AssertBytes(second, 1);
        cache.Dispose();
        AssertBytes(first, 0);
        AssertBytes(second, 1);
        cache.Unpin(first);
        cache.Unpin(second);
    }

    [Test]
    public void A_block_that_nothing_has_room_for_stays_the_callers()
    {
        using BlockCache cache = new(0);
        CachedBlock* block = Allocate(cache, 0);
        using ReadEpoch epoch = ReadEpoch.Enter();
        Assert.That((nint)cache.Insert(_cells, block, out bool isLoose), Is.EqualTo((nint)block));
        Assert.That(isLoose);
        Assert.That(IsHere(0), Is.False);
        cache.Free(block);
    }

    [Test]
    public void Readers_never_see_another_blocks_bytes()
    {
        using BlockCache cache = new(200_000);
        Exception? failure = null;
        Thread[] threads = new Thread[4];
        for (int at = 0; at < threads.Length; at++)
        {
            int seed = at + 1;
            threads[at] = new Thread(() =>
            {
                try
                {
                    uint random = (uint)seed * 0x9E3779B9;
                    for (int step = 0; step < 30_000; step++)
                    {
                        random = (random * 1664525) + 1013904223;
                        int number = (int)((random >> 8) % Blocks);
                        using ReadEpoch epoch = ReadEpoch.Enter();
                        CachedBlock* block = BlockCache.Find(_cells + number);
                        if (block == null)
                            block = Insert(cache, number);
                        AssertBytes(block, number);
                    }
                }
                catch (Exception error)
                {
                    failure = error;
                }
            });
            threads[at].Start();
        }

        foreach (Thread thread in threads)
            thread.Join();
        Assert.That(failure, Is.Null);
        cache.RemoveAll(_cells, Blocks);
    }

    private static CachedBlock* Allocate(BlockCache cache, int number)
    {
        CachedBlock* block = cache.Allocate(ContentBytes, tagRoom: 16);
        new Span<byte>(CachedBlock.Content(block), ContentBytes).Fill((byte)number);
        return block;
    }

    private static void AssertBytes(CachedBlock* block, int number)
    {
        ReadOnlySpan<byte> bytes = new(CachedBlock.Content(block), ContentBytes);
        if (bytes.ContainsAnyExcept((byte)number))
            throw new InvalidOperationException($"Block {number} has other bytes: {bytes[0]}.");
    }

    private CachedBlock* Insert(BlockCache cache, int number)
    {
        using ReadEpoch epoch = ReadEpoch.Enter();
        return cache.Insert(_cells + number, Allocate(cache, number), out _);
    }

    private bool IsHere(int number) => _cells[number] != 0 && (_cells[number] & 1) == 0;
}
