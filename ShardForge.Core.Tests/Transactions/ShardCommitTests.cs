using ShardForge.Mvcc;
using ShardForge.Replication;
using ShardForge.Routing;
using ShardForge.Transactions;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Transactions;

/// <summary>The coordinator's and the resolver's rules, each with what goes wrong without it.</summary>
internal sealed class ShardCommitTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(20);

    [Test]
    public async Task R15_The_caller_goes_on_after_one_round_of_consensus()
    {
        await using TwoShards world = await TwoShards.OpenAsync();
        foreach (Replication.ScriptedShard shard in world.Shards)
            shard.Group.HoldsCommits = true;
        Task<Timestamp> commit = world.Commit(new(100), (world.Key(1), "a"), (world.Key(2), "b")).RunAsync(s_limit, CancellationToken.None).AsTask();
        await UntilAsync(() => world.Shards.All(static shard => shard.Group.UncommittedCount == 1), "both prewrites are proposed");
        Assert.That(commit.IsCompleted, Is.False);
        long[] before = [.. world.Shards.Select(static shard => shard.Group.CommitIndex.Value)];
        foreach (Replication.ScriptedShard shard in world.Shards)
            shard.Group.Commit(1);
        Timestamp committed = await commit;
        Assert.That(world.Shards.Select(static shard => shard.Group.CommitIndex.Value), Is.EqualTo(before.Select(static index => index + 1)), "one entry a shard, side by side, and the caller goes on");
        foreach (Replication.ScriptedShard shard in world.Shards)
        {
            shard.Group.HoldsCommits = false;
            shard.Group.Commit();
        }

        await UntilAsync(() => world.Locks(1).Count + world.Locks(2).Count == 0, "decision and resolution follow");
        Assert.That(await world.GetAsync(world.Context, world.Key(1), committed), Is.EqualTo("a"));
        Assert.That(await world.GetAsync(world.Context, world.Key(2), committed), Is.EqualTo("b"));
    }

    [Test]
    public async Task R23_A_transaction_that_only_reads_proposes_nothing()
    {
        await using TwoShards world = await TwoShards.OpenAsync();
        await world.Commit(new(100), (world.Key(1), "a"), (world.Key(2), "b")).RunAsync(s_limit, CancellationToken.None);
        await UntilAsync(() => world.Locks(1).Count + world.Locks(2).Count == 0, "it is resolved");
        long[] before = [.. world.Shards.Select(static shard => shard.Group.CommitIndex.Value)];
        ClientTransaction reader = new(world.Context, new TransactionOptions { Isolation = IsolationLevel.Serializable }, world.Oracle.Take(), world.Oracle.Last, TimeProvider.System.GetTimestamp(), world.Context.Snapshots.Open(default, isBounded: true));
        Assert.That(await reader.GetAsync(world.Key(1), CancellationToken.None), Is.EqualTo(Bytes("a")));
        Assert.That(await reader.GetAsync(world.Key(2), CancellationToken.None), Is.EqualTo(Bytes("b")));
        await reader.CommitAsync(CancellationToken.None);
        Assert.That(world.Shards.Select(static shard => shard.Group.CommitIndex.Value), Is.EqualTo(before));
    }

    // The coordinator dies after its prewrites: its decision never leaves.
    [Test]
    public async Task R17_A_commit_whose_coordinator_died_is_found_out_by_who_meets_its_locks([Values] bool resolvesLargestM)
    {
        await using TwoShards world = await TwoShards.OpenAsync();
        await world.GetAsync(world.Context, world.Key(2));
        world.OnRequest = static request => request is WriteRequest { Step: WriteStep.Decide or WriteStep.Resolve } or TransactionRequest { Question: TransactionQuestion.Hint }
            ? Task.FromException(new ShardLinkException("the coordinator is dead", mayHaveLeft: false))
            : Task.CompletedTask;
        Timestamp committed = await world.Commit(new(100), (world.Key(1), "a"), (world.Key(2), "b"), (world.Key(2, 1), "c")).RunAsync(s_limit, CancellationToken.None);
        world.OnRequest = null;
        TransactionContext other = world.CreateContext(new TransactionRules { R14LargestM = resolvesLargestM });
        world.Oracle.AdvanceTo(new(committed.Value + 50));
        Task<string?> read = world.GetAsync(other, world.Key(2), world.Oracle.Take());
        await ExpireAsync(world, read);
        Assert.That(await read, Is.EqualTo("b"), "acknowledged, so it is there");
        Assert.That(await world.GetAsync(other, world.Key(1)), Is.EqualTo("a"));
        await UntilAsync(() => world.Locks(1).Count == 0, "it is decided");
        Timestamp found = MvccReader.Read(world.Shards[0].Leader.Engine, world.Key(1), Timestamp.Max).Timestamp;
        if (resolvesLargestM)
            Assert.That(found, Is.EqualTo(committed));
    }

    [Test]
    public async Task R17_A_prewrite_that_never_came_is_marked_and_its_transaction_rolled_back()
    {
        await using TwoShards world = await TwoShards.OpenAsync();
        TaskCompletionSource late = new();
        world.OnRequest = request => request is WriteRequest { Step: WriteStep.Prewrite, Shard.Value: 2 } ? late.Task : Task.CompletedTask;
        Task<Timestamp> commit = world.Commit(new(100), (world.Key(1), "a"), (world.Key(2), "b")).RunAsync(s_limit, CancellationToken.None).AsTask();
        await UntilAsync(() => world.Locks(1).Count == 1, "the first lock is there");
        TransactionContext other = world.CreateContext(TransactionRules.All);
        Task<string?> read = world.GetAsync(other, world.Key(1));
        await ExpireAsync(world, read);
        Assert.That(await read, Is.Null);
        late.SetResult();
        Assert.ThrowsAsync<TransactionConflictException>(async () => await commit);
        Assert.That(await world.GetAsync(other, world.Key(2)), Is.Null);
        await UntilAsync(() => world.Locks(1).Count + world.Locks(2).Count == 0, "nothing is left");
    }

    [Test]
    public async Task R16_Locks_of_a_transaction_with_reads_are_never_inferred_as_committed([Values] bool keepsTheRule)
    {
        await using TwoShards world = await TwoShards.OpenAsync();
        TaskCompletionSource validation = new();
        world.OnRequest = request => request is ValidateRequest ? validation.Task : Task.CompletedTask;
        CommitSpec spec = world.Spec(new(100), (world.Key(1), "a"), (world.Key(2), "b")) with { ReadKeys = [world.Key(1, 5)] };
        Task<Timestamp> commit = new ShardCommit(world.Context, spec).RunAsync(s_limit, CancellationToken.None).AsTask();
        await UntilAsync(() => world.Locks(1).Count + world.Locks(2).Count == 2, "both locks are there");
        // What it read changes before its validation, so it must not commit.
        await world.Shards[0].Leader.ExecuteAsync(Replication.Requests.Put(Text(world.Key(1, 5))!, "changed"), CancellationToken.None);
        TransactionContext other = world.CreateContext(new TransactionRules { R16RollsBackExplicit = keepsTheRule });
        Task<string?> read = world.GetAsync(other, world.Key(1));
        await ExpireAsync(world, read);
        Assert.That(await read, keepsTheRule ? Is.Null : Is.EqualTo("a"), keepsTheRule ? "rolled back" : "the anomaly: committed although its read had changed");
        validation.SetResult();
        if (keepsTheRule)
            Assert.ThrowsAsync<TransactionConflictException>(async () => await commit);
        else
            await commit.ContinueWith(static ended => _ = ended.Exception, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
    }

    [Test]
    public async Task R16_A_read_that_changed_up_to_C_is_a_conflict([Values] bool keepsTheRule)
    {
        await using TwoShards world = await TwoShards.OpenAsync(new TransactionRules { R16Validates = keepsTheRule });
        await world.Shards[0].Leader.ExecuteAsync(Replication.Requests.Put(Text(world.Key(1, 5))!, "changed"), CancellationToken.None);
        CommitSpec spec = world.Spec(new(100), (world.Key(1), "a"), (world.Key(2), "b")) with { ReadKeys = [world.Key(1, 5)] };
        Task<Timestamp> commit = new ShardCommit(world.Context, spec).RunAsync(s_limit, CancellationToken.None).AsTask();
        if (keepsTheRule)
            Assert.ThrowsAsync<TransactionConflictException>(async () => await commit);
        else
            Assert.That((await commit).IsZero, Is.False, "the anomaly: write skew is possible");
    }

    [Test]
    public async Task R20_A_younger_transaction_does_not_wait_for_the_lock_of_an_older_one()
    {
        await using TwoShards world = await TwoShards.OpenAsync();
        TaskCompletionSource late = new();
        OperationId held = default;
        world.OnRequest = request => request is WriteRequest { Step: WriteStep.Prewrite, Shard.Value: 2 } prewrite && prewrite.Id == held ? late.Task : Task.CompletedTask;
        CommitSpec first = world.Spec(new(50), (world.Key(1), "first"), (world.Key(2), "first"));
        held = first.Id;
        Task<Timestamp> older = new ShardCommit(world.Context, first).RunAsync(s_limit, CancellationToken.None).AsTask();
        await UntilAsync(() => world.Locks(1).Count == 1, "the older one holds a key");
        Assert.ThrowsAsync<TransactionConflictException>(async () => await world.Commit(world.Oracle.Take(), (world.Key(1), "younger"), (world.Key(2, 1), "younger")).RunAsync(s_limit, CancellationToken.None));

        // One that is older still waits until the key is free.
        CommitSpec oldest = world.Spec(world.Oracle.Take(), (world.Key(1), "oldest"), (world.Key(2, 2), "oldest")) with { Age = new(10), Start = null };
        Task<Timestamp> waiting = new ShardCommit(world.Context, oldest).RunAsync(s_limit, CancellationToken.None).AsTask();
        await UntilAsync(() => world.Locks(2).Any(it => it.Lock.Transaction == oldest.Id), "the oldest one has its other key");
        Assert.That(waiting.IsCompleted, Is.False);
        late.SetResult();
        await older;
        await waiting;
        Assert.That(await world.GetAsync(world.Context, world.Key(1)), Is.EqualTo("oldest"));
    }

    [Test]
    public async Task R21_Once_an_answer_is_lost_only_the_primary_says_what_became_of_it()
    {
        await using TwoShards world = await TwoShards.OpenAsync();
        using CancellationTokenSource stop = new();
        // Shard 2 gets every prewrite, and no answer to one comes back.
        world.OnRequest = async request =>
        {
            if (request is WriteRequest { Step: WriteStep.Prewrite, Shard.Value: 2 })
            {
                await world.Shards[1].Leader.ExecuteAsync(request, CancellationToken.None);
                throw new ShardLinkException("the answer is lost", mayHaveLeft: true);
            }
        };
        ShardForgeException? error = Assert.CatchAsync<ShardForgeException>(async () =>
            await world.Commit(new(100), (world.Key(1), "a"), (world.Key(2), "b")).RunAsync(TimeSpan.FromMilliseconds(200), CancellationToken.None));
        world.OnRequest = null;
        string? first = await world.GetAsync(world.Context, world.Key(1)), second = await world.GetAsync(world.Context, world.Key(2));
        Assert.That(error, Is.InstanceOf<ShardUnavailableException>(), "the primary was reached, so it is known");
        Assert.That((first, second), Is.EqualTo(((string?)null, (string?)null)), "nothing was written after all");
    }

    [Test]
    public async Task R21_Without_the_primary_the_outcome_is_unknown_until_it_is_asked_later()
    {
        await using TwoShards world = await TwoShards.OpenAsync();
        bool isCut = false;
        world.OnRequest = async request =>
        {
            if (request is WriteRequest { Step: WriteStep.Prewrite, Shard.Value: 2 })
                await world.Shards[1].Leader.ExecuteAsync(request, CancellationToken.None);
            if (Volatile.Read(ref isCut) || request is WriteRequest { Step: WriteStep.Prewrite, Shard.Value: 2 } or WriteRequest { Step: WriteStep.Decide })
                throw new ShardLinkException("the answer is lost", mayHaveLeft: true);
        };
        OutcomeUnknownException? unknown = Assert.ThrowsAsync<OutcomeUnknownException>(async () =>
            await world.Commit(new(100), (world.Key(1), "a"), (world.Key(2), "b")).RunAsync(TimeSpan.FromMilliseconds(200), CancellationToken.None));
        world.OnRequest = null;
        bool happened = await unknown!.ResolveAsync();
        Assert.That(await world.GetAsync(world.Context, world.Key(1)), Is.EqualTo(happened ? "a" : null));
        Assert.That(await world.GetAsync(world.Context, world.Key(2)), Is.EqualTo(happened ? "b" : null));
    }

    // Virtual time passes for the owner's silence until whoever waits is done.
    private static Task ExpireAsync(TwoShards world, Task until) => UntilAsync(
        () =>
        {
            world.Time.Advance(TimeSpan.FromMilliseconds(500));
            return until.IsCompleted;
        },
        "the owner's silence is noticed");
}
