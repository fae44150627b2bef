using System.Text;
using NUnit.Framework;
using ShardForge.Consensus;

namespace ShardForge.Tests.Consensus;

/// <summary>What every implementation of <see cref="IRaftGroup"/> does. Derive, and say how replicas are made.</summary>
internal abstract class RaftGroupConformance
{
    /// <summary>Opens a new group of so many replicas.</summary>
    protected abstract ValueTask<RaftGroupHarness> CreateAsync(int count);

    [Test]
    public async Task Three_replicas_elect_one_leader()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        int leader = await group.WaitForLeaderAsync();
        RaftStatus status = group.Group(leader).Status;
        await group.WaitUntilAsync(() => Enumerable.Range(0, 3).All(replica => group.Group(replica).Status is { } seen && seen.Term == status.Term && seen.Leader == status.Leader), "all to know the leader");
        Assert.That(Enumerable.Range(0, 3).Count(replica => group.Group(replica).Status.IsLeader), Is.EqualTo(1));
        Assert.That(status.Members, Has.Count.EqualTo(3));
        Assert.That(status.Leader, Is.EqualTo(RaftGroupHarness.IdOf(leader)));
    }

    [Test]
    public async Task Proposals_are_applied_by_all_in_one_order()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        LogIndex last = default;
        for (int i = 0; i < 50; i++)
            (last, _) = await group.ProposeAsync($"c{i}");
        await group.WaitForAppliedAsync(last);
        for (int replica = 0; replica < 3; replica++)
            Assert.That(group.Machine(replica).Commands.Select(static command => command.Text), Is.EqualTo(Enumerable.Range(0, 50).Select(static i => $"c{i}")));
        group.AssertSameHistory();
    }

    [Test]
    public async Task The_first_entry_of_a_term_is_a_no_op_and_indexes_have_no_gaps()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        int leader = await group.WaitForLeaderAsync();
        IReadOnlyList<CommittedEntry> applied = group.Machine(leader).Applied;
        Assert.That(applied[0].Index, Is.EqualTo(new LogIndex(1)));
        Assert.That(applied[0].Kind, Is.EqualTo(RaftEntryKind.NoOp));
    }

    [Test]
    public async Task R11_A_proposal_of_another_term_is_refused()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        int leader = await group.WaitForLeaderAsync();
        Term term = group.Group(leader).Status.Term;
        byte[] entry = [1];
        Assert.That(group.Group(leader).TryPropose(new Term(term.Value - 1), entry, out _), Is.False);
        Assert.That(group.Group(leader).TryPropose(new Term(term.Value + 1), entry, out _), Is.False);
        for (int replica = 0; replica < 3; replica++)
        {
            if (replica != leader)
                Assert.That(group.Group(replica).TryPropose(term, entry, out _), Is.False);
        }
    }

    [Test]
    public async Task After_the_leader_is_killed_another_one_leads_and_nothing_is_lost()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        await group.WriteAsync("before");
        int old = await group.WaitForLeaderAsync();
        await group.KillAsync(old);
        LogIndex last = await group.WriteAsync("after");
        await group.RestartAsync(old);
        await group.WaitForAppliedAsync(last);
        for (int replica = 0; replica < 3; replica++)
            Assert.That(group.Machine(replica).Commands.Select(static command => command.Text), Is.EqualTo(new[] { "before", "after" }));
        group.AssertSameHistory();
    }

    [Test]
    public async Task A_cluster_that_is_killed_at_once_comes_back_with_all_that_was_committed()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        LogIndex last = default;
        for (int i = 0; i < 10; i++)
            last = await group.WriteAsync($"c{i}");
        for (int replica = 0; replica < 3; replica++)
            await group.KillAsync(replica);
        for (int replica = 0; replica < 3; replica++)
            await group.RestartAsync(replica);
        LogIndex after = await group.WriteAsync("after");
        await group.WaitForAppliedAsync(after);
        Assert.That(after, Is.GreaterThan(last));
        for (int replica = 0; replica < 3; replica++)
            Assert.That(group.Machine(replica).Commands, Has.Count.EqualTo(11));
        group.AssertSameHistory();
    }

    [Test]
    public async Task An_isolated_leader_commits_nothing_and_its_proposal_is_replaced()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        await group.WriteAsync("before");
        int old = await group.WaitForLeaderAsync();
        Term term = group.Group(old).Status.Term;
        group.Isolate(old);
        Assert.That(group.Group(old).TryPropose(term, Encoding.UTF8.GetBytes("lost"), out LogIndex lost), Is.True);
        int next = await group.WaitForLeaderAsync(except: old);
        LogIndex last = await group.WriteAsync("after");
        Assert.That(group.Group(old).CommitIndex, Is.LessThan(lost));
        group.Heal();
        await group.WaitForAppliedAsync(last);
        // By index and term its fate is known: there is another entry.
        Assert.That(group.Machine(old).EntryAt(lost)!.Value.Term, Is.GreaterThan(term));
        Assert.That(group.Group(next).Status.Term, Is.GreaterThan(term));
        Assert.That(group.Machine(old).Commands.Select(static command => command.Text), Is.EqualTo(new[] { "before", "after" }));
        group.AssertSameHistory();
    }

    [Test]
    public async Task A_minority_does_not_elect()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        int leader = await group.WaitForLeaderAsync();
        for (int replica = 0; replica < 3; replica++)
        {
            if (replica != leader)
                await group.KillAsync(replica);
        }

        await group.WaitUntilAsync(() => !group.Group(leader).Status.IsLeader, "the leader to step down");
        await group.WaitElectionAsync();
        Assert.That(group.Group(leader).Status.IsLeader, Is.False);
        int other = (leader + 1) % 3;
        await group.RestartAsync(other);
        LogIndex last = await group.WriteAsync("again");
        await group.WaitForAppliedAsync(last, leader, other);
    }

    [Test]
    public async Task A_follower_that_was_away_catches_up()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        int leader = await group.WaitForLeaderAsync();
        int away = (leader + 1) % 3;
        group.Isolate(away);
        LogIndex last = default;
        for (int i = 0; i < 20; i++)
            last = await group.WriteAsync($"c{i}");
        group.Heal();
        await group.WaitForAppliedAsync(last);
        Assert.That(group.Machine(away).Commands, Has.Count.EqualTo(20));
        group.AssertSameHistory();
    }

    [Test]
    public async Task R04_A_leader_has_its_lease_and_an_isolated_one_loses_it_before_another_is_elected()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        int leader = await group.WaitForLeaderAsync();
        Term term = group.Group(leader).Status.Term;
        await group.WaitUntilAsync(() => group.Group(leader).HasLease(term), "the lease");
        Assert.That(group.Group(leader).HasLease(new Term(term.Value - 1)), Is.False);
        Assert.That(Enumerable.Range(0, 3).Where(replica => replica != leader).Any(replica => group.Group(replica).HasLease(term)), Is.False);
        group.Isolate(leader);
        bool overlapped = false;
        await group.WaitUntilAsync(
            () =>
            {
                // Looked at in this order: a lease that was over before another one leads is never seen with it.
                bool isOtherElected = Enumerable.Range(0, 3).Any(replica => replica != leader && group.Group(replica).Status.IsLeader);
                overlapped |= isOtherElected && group.Group(leader).HasLease(term);
                return isOtherElected;
            },
            "another leader");
        Assert.That(overlapped, Is.False);
        Assert.That(group.Group(leader).HasLease(term), Is.False);
    }

    [Test]
    public async Task A_read_barrier_is_confirmed_for_the_leader_of_the_term_only()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        LogIndex written = await group.WriteAsync("one");
        int leader = await group.WaitForLeaderAsync();
        Term term = group.Group(leader).Status.Term;
        ValueTask<LogIndex?> barrier = group.Group(leader).ConfirmLeadershipAsync(term, CancellationToken.None);
        Task<LogIndex?> confirmed = barrier.AsTask();
        await group.WaitUntilAsync(() => confirmed.IsCompleted, "the barrier");
        Assert.That(await confirmed, Is.GreaterThanOrEqualTo((LogIndex?)written));
        Assert.That(await group.Group(leader).ConfirmLeadershipAsync(new Term(term.Value - 1), CancellationToken.None), Is.Null);
        Assert.That(await group.Group((leader + 1) % 3).ConfirmLeadershipAsync(term, CancellationToken.None), Is.Null);
    }

    [Test]
    public async Task An_isolated_leader_gets_no_read_barrier()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        int leader = await group.WaitForLeaderAsync();
        Term term = group.Group(leader).Status.Term;
        group.Isolate(leader);
        Task<LogIndex?> barrier = group.Group(leader).ConfirmLeadershipAsync(term, CancellationToken.None).AsTask();
        await group.WaitUntilAsync(() => barrier.IsCompleted, "the barrier to fail");
        Assert.That(await barrier, Is.Null);
    }

    [Test]
    public async Task Leadership_is_handed_to_the_chosen_replica()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        await group.WriteAsync("before");
        int leader = await group.WaitForLeaderAsync();
        Term term = group.Group(leader).Status.Term;
        int target = (leader + 2) % 3;
        await group.WaitForAppliedAsync(group.Group(leader).CommitIndex);
        Task<bool> handed = group.Group(leader).TransferLeadershipAsync(RaftGroupHarness.IdOf(target), CancellationToken.None).AsTask();
        await group.WaitUntilAsync(() => handed.IsCompleted, "the hand-over");
        Assert.That(await handed, Is.True);
        Assert.That(group.Group(leader).HasLease(term), Is.False);
        Assert.That(await group.WaitForLeaderAsync(), Is.EqualTo(target));
        LogIndex last = await group.WriteAsync("after");
        await group.WaitForAppliedAsync(last);
        group.AssertSameHistory();
    }

    [Test]
    public async Task A_single_replica_leads_commits_and_comes_back()
    {
        await using RaftGroupHarness group = await CreateAsync(1);
        LogIndex first = await group.WriteAsync("one");
        IRaftGroup alone = group.Group(0);
        Term term = alone.Status.Term;
        Assert.That(alone.HasLease(term), Is.True);
        Assert.That(await alone.ConfirmLeadershipAsync(term, CancellationToken.None), Is.GreaterThanOrEqualTo((LogIndex?)first));
        await group.KillAsync(0);
        await group.RestartAsync(0);
        LogIndex second = await group.WriteAsync("two");
        Assert.That(second, Is.GreaterThan(first));
        Assert.That(group.Group(0).Status.Term, Is.GreaterThan(term));
        Assert.That(group.Machine(0).Commands.Select(static command => command.Text), Is.EqualTo(new[] { "one", "two" }));
    }

    [Test]
    public async Task Five_replicas_stand_the_loss_of_two()
    {
        await using RaftGroupHarness group = await CreateAsync(5);
        await group.WriteAsync("before");
        int leader = await group.WaitForLeaderAsync();
        await group.KillAsync(leader);
        await group.KillAsync((leader + 1) % 5);
        LogIndex last = await group.WriteAsync("after");
        await group.RestartAsync(leader);
        await group.WaitForAppliedAsync(last);
        group.AssertSameHistory();
    }

    [Test]
    public async Task A_closed_group_takes_nothing()
    {
        await using RaftGroupHarness group = await CreateAsync(3);
        int leader = await group.WaitForLeaderAsync();
        IRaftGroup closed = group.Group(leader);
        Term term = closed.Status.Term;
        await closed.DisposeAsync();
        await closed.DisposeAsync();
        Assert.That(closed.TryPropose(term, new byte[1], out _), Is.False);
        Assert.That(closed.HasLease(term), Is.False);
        Assert.That(closed.Status.Role, Is.EqualTo(RaftRole.Stopped));
    }
}
