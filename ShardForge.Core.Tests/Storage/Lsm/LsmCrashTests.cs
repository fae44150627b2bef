using NUnit.Framework;
using ShardForge.Storage;
using ShardForge.Testing;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>What is left of a short run when the power goes, or a file operation fails, at each place of it.</summary>
/// <remarks>SHARDFORGE_LONG=1 tries every operation with several seeds; else a part of them.</remarks>
[Parallelizable(ParallelScope.Children)]
internal sealed class LsmCrashTests
{
    private static bool IsLong => Environment.GetEnvironmentVariable("SHARDFORGE_LONG") == "1";

    [Test]
    public async Task After_a_power_cut_a_prefix_is_there_with_all_that_was_flushed([Values] bool log, [Values] LsmCompactionStyle style)
    {
        using StorageResources resources = new(new StorageResourceOptions { BackgroundJobs = 1, BlockCacheBytes = 1 << 20 });
        long operations = await CountAsync(resources, log, style);
        for (long at = IsLong ? 1 : 1 + (int)style; at <= operations; at += IsLong ? 1 : 5)
        {
            for (int seed = 0; seed < (IsLong ? 4 : 1); seed++)
            {
                FaultyFileSystem files = new();
                files.FailAt(at, FileFault.PowerOff);
                LsmScript script = new(files, resources, log, style);
                await script.RunAsync();
                files.PowerOn(seed + (int)at);
                await CheckAsync(script, $"log={log} style={style} at={at} seed={seed + at}");
            }
        }
    }

    [Test]
    public async Task After_a_failed_operation_and_a_power_cut_a_prefix_is_there([Values] bool log, [Values(FileFault.Error, FileFault.DiskFull)] FileFault fault)
    {
        using StorageResources resources = new(new StorageResourceOptions { BackgroundJobs = 1, BlockCacheBytes = 1 << 20 });
        long operations = await CountAsync(resources, log, LsmCompactionStyle.Leveled);
        for (long at = 1; at <= operations; at += IsLong ? 1 : 5)
        {
            FaultyFileSystem files = new();
            files.FailAt(at, fault);
            LsmScript script = new(files, resources, log);
            await script.RunAsync();
            if (at % 2 == 0)
                files.PowerCut((int)at);
            files.FailNothing();
            await CheckAsync(script, $"log={log} fault={fault} at={at}");
        }
    }

    [Test]
    public async Task A_full_disk_refuses_writes_reads_go_on_and_room_lets_it_go_on([Values] bool log)
    {
        FaultyFileSystem files = new();
        using StorageResources resources = new(new StorageResourceOptions { BackgroundJobs = 1, BlockCacheBytes = 1 << 20 });
        await using IStorageEngine engine = await TinyLsm.Factory.OpenAsync(new StorageEngineContext { Directory = "/db", FileSystem = files, Resources = resources, WriteAheadLog = log });
        await engine.PutAsync("first"u8.ToArray(), new byte[100]);
        await engine.FlushAsync();
        files.CapacityBytes = 20_000;
        Assert.That(await WriteUntilRefusedAsync(engine, 0), Is.True, "a full disk never refused a write");
        Assert.That(await engine.GetAsync("first"u8.ToArray()), Is.Not.Null);
        files.CapacityBytes = long.MaxValue;
        using CancellationTokenSource deadline = new(TimeSpan.FromSeconds(30));
        for (byte round = 1; await WriteUntilRefusedAsync(engine, round); round++)
            deadline.Token.ThrowIfCancellationRequested();
        await engine.FlushAsync(deadline.Token);
    }

    [Test]
    public async Task After_a_failed_flush_the_engine_takes_no_writes_says_why_and_reads_go_on()
    {
        FaultyFileSystem files = new();
        await using IStorageEngine engine = await TinyLsm.Factory.OpenAsync(new StorageEngineContext { Directory = "/db", FileSystem = files });
        await engine.PutAsync("a"u8.ToArray(), "1"u8.ToArray());
        files.FailWhen(static operation => operation.Kind == FileOperationKind.Flush);
        Assert.ThrowsAsync<OutcomeUnknownException>(async () => await engine.PutAsync("b"u8.ToArray(), "2"u8.ToArray()));
        ShardForgeException? refused = Assert.ThrowsAsync<ShardForgeException>(async () => await engine.PutAsync("c"u8.ToArray(), "3"u8.ToArray()));
        Assert.That(refused!.IsTransient, Is.False);
        Assert.That(refused.Message, Does.Contain("fails (planned)"));
        Assert.That(await engine.GetAsync("a"u8.ToArray()), Is.EqualTo("1"u8.ToArray()));
    }

    private static async Task<bool> WriteUntilRefusedAsync(IStorageEngine engine, byte round, int count = 200)
    {
        StorageBatch batch = new();
        byte[] value = new byte[500];
        for (int number = 0; number < count; number++)
        {
            batch.Clear();
            for (int at = 0; at < value.Length; at++)
                value[at] = (byte)((at * at * 31) + (at * number) + (at >> 3));
            batch.Put([round, (byte)number], value);
            try
            {
                await engine.WriteAsync(batch, StorageDurability.Buffered);
            }
            catch (OverloadedException)
            {
                return true;
            }
        }

        return false;
    }

    private static async Task<long> CountAsync(StorageResources resources, bool log, LsmCompactionStyle style)
    {
        FaultyFileSystem files = new();
        LsmScript script = new(files, resources, log, style);
        await script.RunAsync();
        long operations = files.OperationCount;
        await CheckAsync(script, "without a fault");
        return operations;
    }

    private static async Task CheckAsync(LsmScript script, string where)
    {
        try
        {
            await script.CheckAsync(where).WaitAsync(TimeSpan.FromSeconds(60));
        }
        catch (Exception error)
        {
            Assert.Fail($"{where}: {error}");
        }
    }
}
