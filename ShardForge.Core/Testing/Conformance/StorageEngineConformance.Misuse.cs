using System.Buffers;
using ShardForge.Storage;

namespace ShardForge.Testing;

public static partial class StorageEngineConformance
{
    private static IEnumerable<StorageEngineConformanceCase> MisuseCases() =>
    [
        Case("After dispose every call throws ObjectDisposedException", DisposedAsync),
        Case("Iterators, snapshots and transactions of a disposed engine refuse, and can be disposed", DisposedOwnerAsync),
        Case("A call that was cancelled before writes nothing", CancelledAsync),
        Case("Null arguments are refused", NullsAsync),
    ];

    private static async Task DisposedAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a").ConfigureAwait(false);
        await engine.DisposeAsync().ConfigureAwait(false);
        await engine.DisposeAsync().ConfigureAwait(false);
        CancellationToken token = run.CancellationToken;
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.TryGet(B("a"), new ArrayBufferWriter<byte>()), "TryGet").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.TryGetVersion(B("a"), 0, [], new ArrayBufferWriter<byte>()), "TryGetVersion").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(async () => await engine.GetAsync(B("a"), token).ConfigureAwait(false), "GetAsync").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.PutAsync(B("a"), B("1"), token), "PutAsync").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.DeleteAsync(B("a"), token), "DeleteAsync").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.WriteAsync(Puts("a"), StorageDurability.Buffered, token), "WriteAsync").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.Scan(default).Dispose(), "Scan").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.CreateSnapshot().Dispose(), "CreateSnapshot").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(async () => await engine.BeginTransactionAsync(token).ConfigureAwait(false), "BeginTransactionAsync").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.FlushAsync(token), "FlushAsync").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.CompactAsync(default, token), "CompactAsync").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.CheckpointAsync(Path.Combine(Path.GetTempPath(), "never-written"), token), "CheckpointAsync").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(() => engine.GetStatistics(), "GetStatistics").ConfigureAwait(false);
    }

    private static async Task DisposedOwnerAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a", "b", "c").ConfigureAwait(false);
        IStorageSnapshot snapshot = engine.CreateSnapshot();
        IStorageIterator untouched = engine.Scan(KeyRange.All), moved = engine.Scan(KeyRange.All, new StorageScanOptions { Snapshot = snapshot });
        IStorageTransaction transaction = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await transaction.PutAsync(B("x"), B("1"), run.CancellationToken).ConfigureAwait(false);
        IStorageIterator own = transaction.Scan(KeyRange.All);
        run.True(moved.MoveNext() && own.MoveNext(), "a first entry is missing");
        await engine.DisposeAsync().ConfigureAwait(false);
        foreach (IStorageIterator iterator in new[] { untouched, moved, own })
        {
            await run.ThrowsAsync<ObjectDisposedException>(() => iterator.MoveNext(), "MoveNext of an iterator").ConfigureAwait(false);
            await run.ThrowsAsync<ObjectDisposedException>(() => iterator.SeekFirst(), "SeekFirst of an iterator").ConfigureAwait(false);
            await run.ThrowsAsync<ObjectDisposedException>(() => _ = iterator.Key.Length, "Key of an iterator").ConfigureAwait(false);
        }

        await run.ThrowsAsync<ObjectDisposedException>(() => engine.TryGet(B("a"), new ArrayBufferWriter<byte>(), snapshot), "TryGet at a snapshot").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(async () => await transaction.GetAsync(B("a"), run.CancellationToken).ConfigureAwait(false), "GetAsync of a transaction").ConfigureAwait(false);
        await run.ThrowsAsync<ObjectDisposedException>(() => transaction.CommitAsync(run.CancellationToken), "CommitAsync of a transaction").ConfigureAwait(false);
        untouched.Dispose();
        moved.Dispose();
        own.Dispose();
        snapshot.Dispose();
        await transaction.DisposeAsync().ConfigureAwait(false);
    }

    private static async Task CancelledAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        CancellationToken cancelled = new(canceled: true);
        await run.ThrowsAsync<OperationCanceledException>(() => engine.PutAsync(B("a"), B("1"), cancelled), "PutAsync").ConfigureAwait(false);
        await run.ThrowsAsync<OperationCanceledException>(() => engine.DeleteAsync(B("a"), cancelled), "DeleteAsync").ConfigureAwait(false);
        await run.ThrowsAsync<OperationCanceledException>(() => engine.WriteAsync(Puts("b"), StorageDurability.Flushed, cancelled), "WriteAsync, flushed").ConfigureAwait(false);
        await run.ThrowsAsync<OperationCanceledException>(() => engine.WriteAsync(Puts("c"), StorageDurability.Buffered, cancelled), "WriteAsync, buffered").ConfigureAwait(false);
        await run.ThrowsAsync<OperationCanceledException>(async () => await engine.GetAsync(B("a"), cancelled).ConfigureAwait(false), "GetAsync").ConfigureAwait(false);
        await run.ThrowsAsync<OperationCanceledException>(async () => await engine.BeginTransactionAsync(cancelled).ConfigureAwait(false), "BeginTransactionAsync").ConfigureAwait(false);
        await run.ThrowsAsync<OperationCanceledException>(() => engine.FlushAsync(cancelled), "FlushAsync").ConfigureAwait(false);
        await run.ThrowsAsync<OperationCanceledException>(() => engine.CompactAsync(default, cancelled), "CompactAsync").ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "scan after cancelled writes");
        using CancellationTokenSource live = new();
        await engine.PutAsync(B("a"), B("1"), live.Token).ConfigureAwait(false);
        await run.ReadsAsync(engine, B("a"), B("1"), "written with a token that was not cancelled").ConfigureAwait(false);
    }

    private static async Task NullsAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.ThrowsAsync<ArgumentNullException>(() => engine.WriteAsync(null!, StorageDurability.Flushed, run.CancellationToken), "WriteAsync of null").ConfigureAwait(false);
        await run.ThrowsAsync<ArgumentException>(() => engine.CheckpointAsync(null!, run.CancellationToken), "CheckpointAsync into null").ConfigureAwait(false);
        await run.ThrowsAsync<ArgumentException>(() => engine.CheckpointAsync("", run.CancellationToken), "CheckpointAsync into nowhere").ConfigureAwait(false);
    }
}
