using ShardForge.Storage;

namespace ShardForge.Testing;

public static partial class StorageEngineConformance
{
    private static IEnumerable<StorageEngineConformanceCase> TransactionCases() =>
    [
        Case("A transaction reads its snapshot and its own writes", TransactionReadsAsync),
        Case("A transaction's scan shows its own writes, forwards and backwards", TransactionScanAsync),
        Case("Nothing of a transaction is seen before its commit, and all of it after", TransactionCommitAsync),
        Case("A rolled back or disposed transaction leaves nothing", TransactionRollbackAsync),
        Case("The first committer wins", FirstCommitterWinsAsync),
        Case("Writes outside transactions conflict too: puts, deletes of absent keys, range deletes", TransactionConflictsAsync),
        Case("A write before the begin, or of another key, is no conflict", NoConflictAsync),
        Case("An ended transaction refuses everything but rollback and dispose", TransactionEndedAsync),
        Case("Counters that are raised in transactions lose no update", TransactionCountersAsync),
    ];

    private static async Task TransactionReadsAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a", "b").ConfigureAwait(false);
        IStorageTransaction transaction = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await using (transaction.ConfigureAwait(false))
        {
            await run.PutAsync(engine, "c").ConfigureAwait(false);
            await engine.WriteAsync(Put(B("b"), B("changed")), StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
            run.SameOrAbsent(null, await transaction.GetAsync(B("c"), run.CancellationToken).ConfigureAwait(false), "a key put after the begin");
            run.SameOrAbsent(B("value of b"), await transaction.GetAsync(B("b"), run.CancellationToken).ConfigureAwait(false), "a key changed after the begin");
            await transaction.PutAsync(B("d"), B("own"), run.CancellationToken).ConfigureAwait(false);
            await transaction.DeleteAsync(B("a"), run.CancellationToken).ConfigureAwait(false);
            run.SameOrAbsent(B("own"), await transaction.GetAsync(B("d"), run.CancellationToken).ConfigureAwait(false), "an own put");
            run.SameOrAbsent(null, await transaction.GetAsync(B("a"), run.CancellationToken).ConfigureAwait(false), "an own delete");
            await transaction.PutAsync(B("a"), B(""), run.CancellationToken).ConfigureAwait(false);
            run.SameOrAbsent(B(""), await transaction.GetAsync(B("a"), run.CancellationToken).ConfigureAwait(false), "an own put behind an own delete");
        }
    }

    private static async Task TransactionScanAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "b", "d", "f", "h").ConfigureAwait(false);
        IStorageTransaction transaction = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await using (transaction.ConfigureAwait(false))
        {
            await transaction.PutAsync(B("a"), B("own a"), run.CancellationToken).ConfigureAwait(false);
            await transaction.PutAsync(B("d"), B("own d"), run.CancellationToken).ConfigureAwait(false);
            await transaction.DeleteAsync(B("f"), run.CancellationToken).ConfigureAwait(false);
            await transaction.DeleteAsync(B("g"), run.CancellationToken).ConfigureAwait(false);
            await transaction.PutAsync(B("i"), B("own i"), run.CancellationToken).ConfigureAwait(false);
            using IStorageIterator iterator = transaction.Scan(KeyRange.All);
            await transaction.PutAsync(B("z"), B("later"), run.CancellationToken).ConfigureAwait(false);
            await run.PutAsync(engine, "c").ConfigureAwait(false);
            run.Walks(iterator, "own writes over the snapshot", B("a"), B("b"), B("d"), B("h"), B("i"));
            run.True(iterator.Seek(B("c")), "Seek c");
            run.Same(B("own d"), iterator.Value, "value of an own put over a stored one");
            run.True(iterator.MovePrevious(), "back to b");
            run.Same(B("value of b"), iterator.Value, "a stored value");
            run.True(iterator.MoveNext(), "forth to d");
            run.Same(B("d"), iterator.Key, "key after turning round twice");
            run.True(iterator.MoveNext(), "forth to h");
            run.Same(B("h"), iterator.Key, "key behind the own delete");
            run.True(iterator.SeekForPrevious(B("g")), "SeekForPrevious g");
            run.Same(B("d"), iterator.Key, "last key at or before an own delete");
            using IStorageIterator part = transaction.Scan(KeyRange.Between(B("b"), B("h")));
            run.Walks(part, "part of it", B("b"), B("d"));
            run.True(iterator.SeekFirst(), "SeekFirst");
            await transaction.RollbackAsync(run.CancellationToken).ConfigureAwait(false);
            await run.ThrowsAsync<InvalidOperationException>(() => iterator.MoveNext(), "an iterator whose transaction has ended").ConfigureAwait(false);
        }
    }

    private static async Task TransactionCommitAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a", "b").ConfigureAwait(false);
        IStorageTransaction transaction = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await using (transaction.ConfigureAwait(false))
        {
            await transaction.PutAsync(B("c"), B("3"), run.CancellationToken).ConfigureAwait(false);
            await transaction.PutAsync(B("a"), B("1"), run.CancellationToken).ConfigureAwait(false);
            await transaction.DeleteAsync(B("b"), run.CancellationToken).ConfigureAwait(false);
            run.Scans(engine, KeyRange.All, null, "before the commit", B("a"), B("b"));
            await run.ReadsAsync(engine, B("a"), B("value of a"), "before the commit").ConfigureAwait(false);
            await transaction.CommitAsync(run.CancellationToken).ConfigureAwait(false);
        }

        run.Scans(engine, KeyRange.All, null, "after the commit", B("a"), B("c"));
        await run.ReadsAsync(engine, B("a"), B("1"), "after the commit").ConfigureAwait(false);
        IStorageTransaction readOnly = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await using (readOnly.ConfigureAwait(false))
        {
            _ = await readOnly.GetAsync(B("a"), run.CancellationToken).ConfigureAwait(false);
            await engine.PutAsync(B("a"), B("2"), run.CancellationToken).ConfigureAwait(false);
            await readOnly.CommitAsync(run.CancellationToken).ConfigureAwait(false);
        }
    }

    private static async Task TransactionRollbackAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        IStorageTransaction rolledBack = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await rolledBack.PutAsync(B("a"), B("1"), run.CancellationToken).ConfigureAwait(false);
        await rolledBack.RollbackAsync(run.CancellationToken).ConfigureAwait(false);
        await rolledBack.RollbackAsync(run.CancellationToken).ConfigureAwait(false);
        await rolledBack.DisposeAsync().ConfigureAwait(false);
        IStorageTransaction disposed = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await disposed.PutAsync(B("b"), B("1"), run.CancellationToken).ConfigureAwait(false);
        await disposed.DisposeAsync().ConfigureAwait(false);
        await disposed.DisposeAsync().ConfigureAwait(false);
        run.Scans(engine, KeyRange.All, null, "scan");
    }

    private static async Task FirstCommitterWinsAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a").ConfigureAwait(false);
        IStorageTransaction first = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        IStorageTransaction second = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await first.PutAsync(B("a"), B("first"), run.CancellationToken).ConfigureAwait(false);
        await second.PutAsync(B("a"), B("second"), run.CancellationToken).ConfigureAwait(false);
        await second.PutAsync(B("b"), B("second"), run.CancellationToken).ConfigureAwait(false);
        await second.CommitAsync(run.CancellationToken).ConfigureAwait(false);
        TransactionConflictException error =
            await run.ThrowsAsync<TransactionConflictException>(() => first.CommitAsync(run.CancellationToken), "commit of the second committer").ConfigureAwait(false);
        run.True(error.IsTransient, "the conflict is not transient");
        await first.DisposeAsync().ConfigureAwait(false);
        await second.DisposeAsync().ConfigureAwait(false);
        await run.ReadsAsync(engine, B("a"), B("second"), "after both commits").ConfigureAwait(false);
    }

    private static async Task TransactionConflictsAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "k1", "k2").ConfigureAwait(false);
        StorageBatch put = Puts("x"), delete = new(), range = new(), other = new();
        delete.Delete(B("x"));
        range.DeleteRange(B("w"), B("y"));
        other.Put(B("a"), B("1"));
        other.Delete(B("x"));
        foreach ((string what, StorageBatch batch) in new[] { ("a put", put), ("a delete", delete), ("a delete of an absent key", delete), ("a range delete", range), ("a batch", other) })
        {
            foreach (bool deletes in new[] { false, true })
            {
                IStorageTransaction transaction = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
                await using (transaction.ConfigureAwait(false))
                {
                    await transaction.PutAsync(B("k1"), B("never"), run.CancellationToken).ConfigureAwait(false);
                    if (deletes)
                        await transaction.DeleteAsync(B("x"), run.CancellationToken).ConfigureAwait(false);
                    else
                        await transaction.PutAsync(B("x"), B("never"), run.CancellationToken).ConfigureAwait(false);
                    await engine.WriteAsync(batch, StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
                    await run.ThrowsAsync<TransactionConflictException>(() => transaction.CommitAsync(run.CancellationToken),
                        $"commit of a {(deletes ? "delete" : "put")} after {what} of the same key").ConfigureAwait(false);
                }

                await run.ReadsAsync(engine, B("k1"), B("value of k1"), "another key of the refused transaction").ConfigureAwait(false);
            }
        }
    }

    private static async Task NoConflictAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await run.PutAsync(engine, "a").ConfigureAwait(false);
        for (int round = 0; round < 20; round++)
        {
            await engine.PutAsync(B("a"), new byte[] { (byte)round }, run.CancellationToken).ConfigureAwait(false);
            IStorageTransaction transaction = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
            await using (transaction.ConfigureAwait(false))
            {
                _ = await transaction.GetAsync(B("b"), run.CancellationToken).ConfigureAwait(false);
                await transaction.PutAsync(B("a"), B("own"), run.CancellationToken).ConfigureAwait(false);
                StorageBatch others = Puts("b", "aa");
                others.DeleteRange(B("b"), B("c"));
                others.DeleteRange(B(""), B("a"));
                await engine.WriteAsync(others, StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
                await transaction.CommitAsync(run.CancellationToken).ConfigureAwait(false);
            }
        }

        await run.ReadsAsync(engine, B("a"), B("own"), "after the commits").ConfigureAwait(false);
    }

    private static async Task TransactionEndedAsync(ConformanceRun run)
    {
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        IStorageTransaction committed = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await committed.PutAsync(B("a"), B("1"), run.CancellationToken).ConfigureAwait(false);
        await committed.CommitAsync(run.CancellationToken).ConfigureAwait(false);
        IStorageTransaction rolledBack = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await rolledBack.RollbackAsync(run.CancellationToken).ConfigureAwait(false);
        IStorageTransaction cancelled = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await cancelled.PutAsync(B("b"), B("1"), run.CancellationToken).ConfigureAwait(false);
        await run.ThrowsAsync<OperationCanceledException>(() => cancelled.CommitAsync(new CancellationToken(canceled: true)), "a cancelled commit").ConfigureAwait(false);
        foreach (IStorageTransaction ended in new[] { committed, rolledBack, cancelled })
        {
            await run.ThrowsAsync<InvalidOperationException>(async () => await ended.GetAsync(B("a"), run.CancellationToken).ConfigureAwait(false), "get").ConfigureAwait(false);
            await run.ThrowsAsync<InvalidOperationException>(() => ended.PutAsync(B("a"), B("2"), run.CancellationToken), "put").ConfigureAwait(false);
            await run.ThrowsAsync<InvalidOperationException>(() => ended.DeleteAsync(B("a"), run.CancellationToken), "delete").ConfigureAwait(false);
            await run.ThrowsAsync<InvalidOperationException>(() => ended.Scan(default).Dispose(), "scan").ConfigureAwait(false);
            await run.ThrowsAsync<InvalidOperationException>(() => ended.CommitAsync(run.CancellationToken), "commit").ConfigureAwait(false);
            await ended.RollbackAsync(run.CancellationToken).ConfigureAwait(false);
            await ended.DisposeAsync().ConfigureAwait(false);
        }

        run.Scans(engine, KeyRange.All, null, "scan", B("a"));
    }

    private static async Task TransactionCountersAsync(ConformanceRun run)
    {
        const int Tasks = 4, Rounds = 15;
        IStorageEngine engine = await run.OpenAsync().ConfigureAwait(false);
        await Task.WhenAll(Enumerable.Range(0, Tasks).Select(_ => ConformanceRun.OnThread(() => RaiseAsync().GetAwaiter().GetResult()))).ConfigureAwait(false);
        await run.ReadsAsync(engine, B("counter"), BitConverter.GetBytes(Tasks * Rounds), "after all commits").ConfigureAwait(false);

        async Task RaiseAsync()
        {
            for (int round = 0; round < Rounds;)
            {
                IStorageTransaction transaction = await engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
                await using (transaction.ConfigureAwait(false))
                {
                    byte[]? read = await transaction.GetAsync(B("counter"), run.CancellationToken).ConfigureAwait(false);
                    await transaction.PutAsync(B("counter"), BitConverter.GetBytes((read is null ? 0 : BitConverter.ToInt32(read)) + 1), run.CancellationToken).ConfigureAwait(false);
                    try
                    {
                        await transaction.CommitAsync(run.CancellationToken).ConfigureAwait(false);
                        round++;
                    }
                    catch (TransactionConflictException)
                    {
                        run.CancellationToken.ThrowIfCancellationRequested();
                    }
                }
            }
        }
    }
}
