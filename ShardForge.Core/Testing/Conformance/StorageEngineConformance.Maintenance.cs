using ShardForge.Storage;

namespace ShardForge.Testing;

public static partial class StorageEngineConformance
{
    private static IEnumerable<StorageEngineConformanceCase> MaintenanceCases() =>
    [
        Case("Flush and compact, of everything, of a range and of nothing, change no answer", FlushAndCompactAsync),
        Case("Statistics count what was done", StatisticsAsync),
        DurableCase("What was written is there after the engine is opened again", ReopenAsync),
        DurableCase("Without a log of its own, what was flushed is there after the engine is opened again", ReopenWithoutLogAsync),
        DurableCase("A checkpoint opens on its own and shows nothing later", CheckpointAsync),
        DurableCase("A checkpoint wants an absent or empty directory", CheckpointDirectoryAsync),
        DurableCase("A directory in use is refused, and free again after dispose", DirectoryInUseAsync),
        DurableCase("A cancelled open leaves the directory free", CancelledOpenAsync),
    ];

    private static async Task FlushAndCompactAsync(ConformanceRun run)
    {
        const int Count = 300;
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
        await engine.CompactAsync(default, run.CancellationToken).ConfigureAwait(false);
        for (int round = 0; round < 6; round++)
        {
            StorageBatch batch = new();
            for (int number = round; number < Count; number += round + 1)
                batch.Put(K(number), [(byte)round]);
            await engine.WriteAsync(batch, StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
            switch (round)
            {
                case 1:
                    await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
                    break;
                case 2:
                    await engine.CompactAsync(KeyRange.Between(K(50), K(100)), run.CancellationToken).ConfigureAwait(false);
                    break;
                case 3:
                    await engine.CompactAsync(KeyRange.Between(K(100), K(50)), run.CancellationToken).ConfigureAwait(false);
                    break;
                case 4:
                    await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
                    await engine.CompactAsync(default, run.CancellationToken).ConfigureAwait(false);
                    break;
                default:
                    break;
            }

            for (int number = 0; number < Count; number++)
            {
                int last = Enumerable.Range(0, round + 1).Last(r => number >= r && (number - r) % (r + 1) == 0);
                await run.ReadsAsync(engine, K(number), [(byte)last], $"round {round}").ConfigureAwait(false);
            }
        }
    }

    private static async Task StatisticsAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        StorageStatistics before = engine.GetStatistics();
        await run.PutAsync(engine, "a", "b", "c").ConfigureAwait(false);
        _ = await engine.GetAsync(B("a"), run.CancellationToken).ConfigureAwait(false);
        await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
        StorageStatistics after = engine.GetStatistics();
        run.True(before.Engine.Length > 0, "Engine is empty");
        run.Equal(before.Engine, after.Engine, "Engine");
        run.True(after.Writes >= before.Writes + 3, $"Writes: {before.Writes} before and {after.Writes} after three puts");
        run.True(after.Reads > before.Reads, $"Reads: {before.Reads} before and {after.Reads} after a read");
        run.True(after.UserBytesWritten > before.UserBytesWritten, $"UserBytesWritten: {before.UserBytesWritten} before and {after.UserBytesWritten} after three puts");
        run.True(after is { DiskBytes: >= 0, DiskBytesWritten: >= 0, MemtableBytes: >= 0, KeyCountEstimate: >= 0, WriteAmplification: >= 0 }, $"something is negative: {after}");
    }

    private static async Task ReopenAsync(ConformanceRun run)
    {
        for (int round = 0; round < 4; round++)
        {
            IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
            for (int earlier = 0; earlier < round; earlier++)
            {
                await run.ReadsAsync(engine, K(earlier), [(byte)earlier], $"put in round {earlier}, read in round {round}").ConfigureAwait(false);
                await run.ReadsAsync(engine, B($"buffered {earlier}"), B($"value of buffered {earlier}"), $"buffered in round {earlier}, read in round {round}").ConfigureAwait(false);
            }

            await run.ReadsAsync(engine, B("gone"), round == 0 ? null : B($"value {round - 1}"), "overwritten each round").ConfigureAwait(false);
            await engine.PutAsync(K(round), new byte[] { (byte)round }, run.CancellationToken).ConfigureAwait(false);
            await run.PutAsync(engine, $"buffered {round}").ConfigureAwait(false);
            await engine.DeleteAsync(B("gone"), run.CancellationToken).ConfigureAwait(false);
            await engine.PutAsync(B("gone"), B($"value {round}"), run.CancellationToken).ConfigureAwait(false);
            if (round == 1)
                await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
            if (round == 2)
                await engine.CompactAsync(default, run.CancellationToken).ConfigureAwait(false);
            await engine.DisposeAsync().ConfigureAwait(false);
        }
    }

    private static async Task ReopenWithoutLogAsync(ConformanceRun run)
    {
        StorageEngineContext context = new() { Directory = Path.Combine(run.Root!, "node-engine"), WriteAheadLog = false, VersionSuffixBytes = 2, Name = "conformance" };
        for (int round = 0; round < 3; round++)
        {
            IStorageEngine engine = await run.OpenAsync(context).ConfigureAwait(false);
            for (int earlier = 0; earlier < round; earlier++)
                await run.ReadsAsync(engine, K(earlier), [(byte)earlier], $"flushed in round {earlier}, read in round {round}").ConfigureAwait(false);

            // Written and not flushed: there or not, but a prefix. So the later of two is never there alone.
            bool early = await engine.GetAsync(B("x1"), run.CancellationToken).ConfigureAwait(false) is not null;
            bool late = await engine.GetAsync(B("x2"), run.CancellationToken).ConfigureAwait(false) is not null;
            run.True(early || !late, "an unflushed write came back without the one before it");
            StorageBatch clear = new();
            clear.DeleteRange(B("x1"), B("x3"));
            await engine.WriteAsync(clear, StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
            await engine.WriteAsync(Put(K(round), [(byte)round]), StorageDurability.Flushed, run.CancellationToken).ConfigureAwait(false);
            await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
            await run.PutAsync(engine, "x1").ConfigureAwait(false);
            await run.PutAsync(engine, "x2").ConfigureAwait(false);
            await engine.DisposeAsync().ConfigureAwait(false);
        }
    }

    private static async Task CheckpointAsync(ConformanceRun run)
    {
        string copyDirectory = Path.Combine(run.Root!, "copies", "one");
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a", "b", "c").ConfigureAwait(false);
        await engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
        await engine.DeleteAsync(B("b"), run.CancellationToken).ConfigureAwait(false);
        await run.PutAsync(engine, "d").ConfigureAwait(false);
        await engine.CheckpointAsync(copyDirectory, run.CancellationToken).ConfigureAwait(false);
        await run.PutAsync(engine, "e").ConfigureAwait(false);
        await engine.DeleteAsync(B("a"), run.CancellationToken).ConfigureAwait(false);
        await engine.CompactAsync(default, run.CancellationToken).ConfigureAwait(false);
        IStorageEngine copy = await run.OpenAsync(copyDirectory).ConfigureAwait(false);
        run.Scans(copy, KeyRange.All, null, "the copy", B("a"), B("c"), B("d"));
        await run.ReadsAsync(copy, B("a"), B("value of a"), "the copy").ConfigureAwait(false);
        await run.PutAsync(copy, "x").ConfigureAwait(false);
        run.Scans(copy, KeyRange.All, null, "the copy after a write to it", B("a"), B("c"), B("d"), B("x"));
        run.Scans(engine, KeyRange.All, null, "the original", B("c"), B("d"), B("e"));
        await engine.DisposeAsync().ConfigureAwait(false);
        await copy.DisposeAsync().ConfigureAwait(false);
        copy = await run.OpenAsync(copyDirectory).ConfigureAwait(false);
        run.Scans(copy, KeyRange.All, null, "the copy opened again", B("a"), B("c"), B("d"), B("x"));
        string empty = Path.Combine(run.Root!, "empty");
        Directory.CreateDirectory(empty);
        await copy.CheckpointAsync(empty, run.CancellationToken).ConfigureAwait(false);
        IStorageEngine second = await run.OpenAsync(empty).ConfigureAwait(false);
        run.Scans(second, KeyRange.All, null, "a copy of the copy", B("a"), B("c"), B("d"), B("x"));
    }

    private static async Task CheckpointDirectoryAsync(ConformanceRun run)
    {
        string full = Path.Combine(run.Root!, "full");
        Directory.CreateDirectory(full);
        string letter = Path.Combine(full, "letter.txt");
        await File.WriteAllTextAsync(letter, "keep", run.CancellationToken).ConfigureAwait(false);
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a").ConfigureAwait(false);
        await run.ThrowsAsync<ArgumentException>(() => engine.CheckpointAsync(full, run.CancellationToken), "a checkpoint into a directory with a file").ConfigureAwait(false);
        run.Equal(1, Directory.GetFileSystemEntries(full).Length, "entries in that directory");
        run.Equal("keep", await File.ReadAllTextAsync(letter, run.CancellationToken).ConfigureAwait(false), "content of that file");
        await run.ThrowsAsync<OperationCanceledException>(() => engine.CheckpointAsync(Path.Combine(run.Root!, "never"), new CancellationToken(canceled: true)), "a cancelled checkpoint").ConfigureAwait(false);
        run.True(!Directory.Exists(Path.Combine(run.Root!, "never")), "a cancelled checkpoint left its directory behind");
        await run.PutAsync(engine, "b").ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "the engine afterwards", B("a"), B("b"));
    }

    private static async Task DirectoryInUseAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a").ConfigureAwait(false);
        ConfigurationException error = await run.ThrowsAsync<ConfigurationException>(async () => await run.OpenAsync().ConfigureAwait(false), "a second open").ConfigureAwait(false);
        run.Equal("DataDirectory", error.Setting, "Setting of the error");
        await run.ReadsAsync(engine, B("a"), B("value of a"), "after the refused open").ConfigureAwait(false);
        await engine.DisposeAsync().ConfigureAwait(false);
        engine = await run.OpenAsync().ConfigureAwait(false);
        await run.ReadsAsync(engine, B("a"), B("value of a"), "after the third open").ConfigureAwait(false);
    }

    private static async Task CancelledOpenAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await engine.PutAsync(B("a"), B("1"), run.CancellationToken).ConfigureAwait(false);
        await engine.DisposeAsync().ConfigureAwait(false);
        await run.ThrowsAsync<OperationCanceledException>(() => run.OpenCancelledAsync(), "a cancelled open").ConfigureAwait(false);
        engine = await run.OpenAsync().ConfigureAwait(false);
        await run.ReadsAsync(engine, B("a"), B("1"), "after the cancelled open").ConfigureAwait(false);
    }
}
