using System.Buffers;
using System.Buffers.Binary;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;
using ShardForge.Testing;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>Several writers at once: batches are whole, each writer's are in its order, and what was written survives the end of the process.</summary>
internal sealed class LsmWriterTests
{
    private static readonly LsmOptions s_options = TinyLsm.Options with { MemtableBytes = 64 * 1024, TableBytes = 64 * 1024, LevelBaseBytes = 256 * 1024 };

    [Test]
    public async Task Batches_of_several_writers_are_whole_and_in_order_for_readers_and_after_a_crash([Values(2, 5)] int writerCount)
    {
        FaultyFileSystem files = new();
        using StorageResources resources = new(new StorageResourceOptions { BackgroundJobs = 2, BlockCacheBytes = 1 << 20 });
        StorageEngineContext context = new() { Directory = "/db", FileSystem = files, Resources = resources };
        IStorageEngine engine = await StorageEngines.Lsm(s_options).OpenAsync(context);
        const int Rounds = 400;
        int running = writerCount;
        Task[] writers = [.. Enumerable.Range(0, writerCount).Select(writer => Task.Run(async () =>
        {
            StorageBatch batch = new();
            for (int round = 1; round <= Rounds; round++)
            {
                batch.Clear();

                // The writer's own pair, one that all writers fight for, and one new key.
                batch.Put([(byte)writer, 1], Value(round, writer));
                batch.Put([200, 1], Value(round, writer));
                batch.Put([200, 2], Value(round, writer));
                batch.Put([(byte)writer, 2], Value(round, writer));
                batch.Put([(byte)(100 + writer), (byte)(round >> 8), (byte)round], new byte[60]);
                await engine.WriteAsync(batch, round % 50 == 0 ? StorageDurability.Flushed : StorageDurability.Buffered);
            }

            Interlocked.Decrement(ref running);
        }))];

        int[] last = new int[writerCount];
        while (Volatile.Read(ref running) > 0)
            Check(engine, last);
        await Task.WhenAll(writers);
        Check(engine, last);
        Assert.That(last, Is.All.EqualTo(Rounds));

        // The threads of a process end with it: the engine is disposed of without reaching the disk.
        files.PowerOff();
        await engine.DisposeAsync();
        files.EndProcess();
        await using IStorageEngine reopened = await StorageEngines.Lsm(s_options).OpenAsync(context);
        Array.Clear(last);
        Check(reopened, last);
        Assert.That(last, Is.All.EqualTo(Rounds));
        for (int writer = 0; writer < writerCount; writer++)
        {
            using IStorageIterator iterator = reopened.Scan(KeyRange.Prefix(new byte[] { (byte)(100 + writer) }));
            int count = 0;
            while (iterator.MoveNext())
                count++;
            Assert.That(count, Is.EqualTo(Rounds));
        }
    }

    [Test]
    public async Task A_buffered_write_allocates_nothing_in_steady_state()
    {
        using StorageResources resources = new();
        await using IStorageEngine engine = await StorageEngines.Lsm().OpenAsync(new StorageEngineContext { FileSystem = new InMemoryFileSystem(), Directory = "/db", Resources = resources });
        StorageBatch batch = new();
        byte[] key = new byte[16], value = new byte[100];
        for (int number = 0; number < 2000; number++)
            Write(number);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int number = 0; number < 10_000; number++)
            Write(number * 7);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(10_000));

        void Write(int number)
        {
            BinaryPrimitives.WriteInt32BigEndian(key, number);
            batch.Clear();
            batch.Put(key, value);
            ValueTask written = engine.WriteAsync(batch, StorageDurability.Buffered);
            if (!written.IsCompletedSuccessfully)
                Assert.Fail("A buffered write into a memtable with room did not complete at once.");
        }
    }

    private static byte[] Value(int round, int writer)
    {
        byte[] value = new byte[40];
        BinaryPrimitives.WriteInt32LittleEndian(value, round);
        BinaryPrimitives.WriteInt32LittleEndian(value.AsSpan(4), writer);
        return value;
    }

    private static void Check(IStorageEngine engine, int[] last)
    {
        using IStorageSnapshot snapshot = engine.CreateSnapshot();
        for (int writer = 0; writer < last.Length; writer++)
        {
            (int round, _) = Read(engine, [(byte)writer, 1], snapshot);
            Assert.That(Read(engine, [(byte)writer, 2], snapshot).Round, Is.EqualTo(round), "half of a batch is seen");
            Assert.That(round, Is.GreaterThanOrEqualTo(last[writer]), "a writer's batches go back");
            last[writer] = round;
        }

        Assert.That(Read(engine, [200, 2], snapshot), Is.EqualTo(Read(engine, [200, 1], snapshot)), "two batches are mixed");
    }

    private static (int Round, int Writer) Read(IStorageEngine engine, byte[] key, IStorageSnapshot snapshot)
    {
        ArrayBufferWriter<byte> value = new();
        return engine.TryGet(key, value, snapshot)
            ? (BinaryPrimitives.ReadInt32LittleEndian(value.WrittenSpan), BinaryPrimitives.ReadInt32LittleEndian(value.WrittenSpan[4..]))
            : (0, 0);
    }
}
