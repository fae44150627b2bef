using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>Transactions within one shard, over the public surface.</summary>
[Parallelizable(ParallelScope.All)]
public sealed class TransactionTests
{
    private static Task<ShardForgeCluster> OpenAsync() => ShardForgeCluster.OpenAsync(new ShardForgeConfig { ShardCount = 4, PartitionRule = PartitionRule.UpTo((byte)'/') });

    [Test]
    public async Task Reads_see_the_snapshot_and_the_own_writes()
    {
        await using ShardForgeCluster node = await OpenAsync();
        await node.PutAsync(Bytes("a/1"), Bytes("old"));
        await node.PutAsync(Bytes("a/2"), Bytes("old"));
        await using ShardForgeTransaction transaction = await node.BeginTransactionAsync();
        await node.PutAsync(Bytes("a/1"), Bytes("new"));

        await transaction.PutAsync(Bytes("a/0"), Bytes("own"));
        await transaction.DeleteAsync(Bytes("a/2"));

        Assert.That(Text(await transaction.GetAsync(Bytes("a/1"))), Is.EqualTo("old"));
        Assert.That(Text(await transaction.GetAsync(Bytes("a/0"))), Is.EqualTo("own"));
        Assert.That(await transaction.GetAsync(Bytes("a/2")), Is.Null);
        Assert.That(await ScanAsync(transaction, KeyRange.Prefix(Bytes("a/"))), Is.EqualTo(new[] { "a/0=own", "a/1=old" }));
        Assert.That(await ScanAsync(transaction, KeyRange.Prefix(Bytes("a/")), new ScanOptions { Reverse = true }), Is.EqualTo(new[] { "a/1=old", "a/0=own" }));
        Assert.That(await ScanAsync(transaction, KeyRange.All, new ScanOptions { Limit = 1 }), Is.EqualTo(new[] { "a/0=own" }));
        Assert.That(await node.GetAsync(Bytes("a/0")), Is.Null, "nothing is written before the commit");
    }

    [Test]
    public async Task The_first_committer_of_a_key_wins()
    {
        await using ShardForgeCluster node = await OpenAsync();
        await using ShardForgeTransaction first = await node.BeginTransactionAsync();
        await using ShardForgeTransaction second = await node.BeginTransactionAsync();
        await first.PutAsync(Bytes("a/1"), Bytes("first"));
        await second.PutAsync(Bytes("a/1"), Bytes("second"));
        await second.PutAsync(Bytes("a/2"), Bytes("second"));

        await first.CommitAsync();
        TransactionConflictException? error = Assert.ThrowsAsync<TransactionConflictException>(async () => await second.CommitAsync());

        Assert.That(error!.IsTransient, Is.True);
        Assert.That(await ScanAsync(node, KeyRange.All), Is.EqualTo(new[] { "a/1=first" }));
    }

    [Test]
    public async Task Write_skew_is_possible_under_snapshot_isolation_and_a_conflict_under_serializable([Values] IsolationLevel isolation)
    {
        await using ShardForgeCluster node = await OpenAsync();
        TransactionOptions options = new() { Isolation = isolation };
        await using ShardForgeTransaction first = await node.BeginTransactionAsync(options);
        await using ShardForgeTransaction second = await node.BeginTransactionAsync(options);
        Assert.That(await first.GetAsync(Bytes("a/2")), Is.Null);
        Assert.That(await second.GetAsync(Bytes("a/1")), Is.Null);
        await first.PutAsync(Bytes("a/1"), Bytes("x"));
        await second.PutAsync(Bytes("a/2"), Bytes("x"));
        await first.CommitAsync();

        if (isolation == IsolationLevel.Serializable)
            Assert.ThrowsAsync<TransactionConflictException>(async () => await second.CommitAsync());
        else
            await second.CommitAsync();
    }

    [Test]
    public async Task A_phantom_is_a_conflict_for_a_serializable_scan()
    {
        await using ShardForgeCluster node = await OpenAsync();
        await using ShardForgeTransaction transaction = await node.BeginTransactionAsync(new TransactionOptions { Isolation = IsolationLevel.Serializable });
        Assert.That(await ScanAsync(transaction, KeyRange.Prefix(Bytes("a/"))), Is.Empty);
        await node.PutAsync(Bytes("a/9"), Bytes("phantom"));
        await transaction.PutAsync(Bytes("a/1"), Bytes("count=0"));

        Assert.ThrowsAsync<TransactionConflictException>(async () => await transaction.CommitAsync());
    }

    [Test]
    public async Task A_read_only_transaction_never_conflicts([Values] IsolationLevel isolation)
    {
        await using ShardForgeCluster node = await OpenAsync();
        await node.PutAsync(Bytes("a/1"), Bytes("1"));
        await node.PutAsync(Bytes("b/1"), Bytes("1"));
        await using ShardForgeTransaction transaction = await node.BeginTransactionAsync(new TransactionOptions { Isolation = isolation });
        await transaction.GetAsync(Bytes("a/1"));
        await node.PutAsync(Bytes("a/1"), Bytes("2"));
        await node.PutAsync(Bytes("b/1"), Bytes("2"));

        Assert.That(await ScanAsync(transaction, KeyRange.All), Is.EqualTo(new[] { "a/1=1", "b/1=1" }));
        await transaction.CommitAsync();
    }

    [Test]
    public async Task After_its_commit_only_rollback_and_dispose_are_allowed()
    {
        await using ShardForgeCluster node = await OpenAsync();
        ShardForgeTransaction transaction = await node.BeginTransactionAsync();
        await transaction.CommitAsync();

        Assert.ThrowsAsync<InvalidOperationException>(async () => await transaction.GetAsync(Bytes("a")));
        Assert.ThrowsAsync<InvalidOperationException>(async () => await transaction.PutAsync(Bytes("a"), Bytes("b")));
        Assert.ThrowsAsync<InvalidOperationException>(async () => await transaction.CommitAsync());
        await transaction.RollbackAsync();
        await transaction.DisposeAsync();
        await transaction.RollbackAsync();
    }

    [Test]
    public async Task Work_that_meets_conflicts_is_run_again_until_it_commits()
    {
        await using ShardForgeCluster node = await OpenAsync();
        const int Workers = 8, Rounds = 10;

        await Task.WhenAll(Enumerable.Range(0, Workers).Select(async _ =>
        {
            for (int i = 0; i < Rounds; i++)
            {
                await node.RunInTransactionAsync(
                    static async (transaction, token) =>
                    {
                        byte[]? was = await transaction.GetAsync(Bytes("a/sum"), null, token);
                        int next = (was is null ? 0 : BitConverter.ToInt32(was)) + 1;
                        await transaction.PutAsync(Bytes("a/sum"), BitConverter.GetBytes(next), null, token);
                        return next;
                    },
                    new TransactionOptions { MaxAttempts = 1000 });
            }
        }));

        Assert.That(BitConverter.ToInt32((await node.GetAsync(Bytes("a/sum")))!), Is.EqualTo(Workers * Rounds));
    }

    [Test]
    public async Task When_attempts_run_out_the_last_error_comes_out()
    {
        await using ShardForgeCluster node = await OpenAsync();
        int attempts = 0;

        Assert.ThrowsAsync<TransactionConflictException>(async () => await node.RunInTransactionAsync(
            async (transaction, token) =>
            {
                attempts++;
                await transaction.PutAsync(Bytes("a/1"), Bytes("x"), null, token);
                await node.PutAsync(Bytes("a/1"), Bytes("y"), null, token);
                return 0;
            },
            new TransactionOptions { MaxAttempts = 3 }));

        Assert.That(attempts, Is.EqualTo(3));
    }

    [Test]
    public async Task An_error_that_is_not_transient_is_not_tried_again()
    {
        await using ShardForgeCluster node = await OpenAsync();
        int attempts = 0;

        Assert.ThrowsAsync<InvalidTimeZoneException>(async () => await node.RunInTransactionAsync<int>((_, _) =>
        {
            attempts++;
            throw new InvalidTimeZoneException();
        }));

        Assert.That(attempts, Is.EqualTo(1));
    }

    [Test]
    public async Task Impossible_options_are_refused()
    {
        await using ShardForgeCluster node = await OpenAsync();

        Assert.ThrowsAsync<ArgumentOutOfRangeException>(async () => await node.BeginTransactionAsync(new TransactionOptions { MaxAttempts = 0 }));
        Assert.ThrowsAsync<ArgumentOutOfRangeException>(async () => await node.RunInTransactionAsync(static (_, _) => Task.FromResult(0), new TransactionOptions { Timeout = TimeSpan.Zero }));
    }

    [Test]
    public async Task A_commit_after_the_timeout_writes_nothing_and_says_so()
    {
        Microsoft.Extensions.Time.Testing.FakeTimeProvider time = new(DateTimeOffset.UnixEpoch.AddYears(55)) { AutoAdvanceAmount = TimeSpan.FromMilliseconds(1) };
        await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(new ShardForgeConfig { TimeProvider = time });
        await using ShardForgeTransaction transaction = await node.BeginTransactionAsync(new TransactionOptions { Timeout = TimeSpan.FromSeconds(1) });
        await transaction.PutAsync(Bytes("k"), Bytes("v"));
        time.Advance(TimeSpan.FromSeconds(2));

        TransactionTimeoutException? error = Assert.ThrowsAsync<TransactionTimeoutException>(async () => await transaction.CommitAsync());

        Assert.That(error!.IsTransient, Is.False);
        Assert.That(await node.GetAsync(Bytes("k")), Is.Null);
    }
}
