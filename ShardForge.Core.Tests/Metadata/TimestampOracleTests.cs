using NUnit.Framework;
using ShardForge.Consensus;
using ShardForge.Metadata;

namespace ShardForge.Tests.Metadata;

[Parallelizable(ParallelScope.All)]
internal sealed class TimestampOracleTests
{
    [Test]
    public async Task R01_nothing_is_handed_out_before_its_window_is_applied()
    {
        using GroupZero group = new();
        group.Elect(1);
        TimestampOracle oracle = group[1].Oracle;
        await oracle.NextAsync(1, CancellationToken.None);
        group.Cluster.HoldsCommits = true;
        int taken = 0;
        while (oracle.TryNext(1 << 18, out Timestamp next))
        {
            Assert.That(next.Value + (1 << 18), Is.LessThanOrEqualTo(group[1].PersistedWindow.Value));
            taken++;
        }

        Assert.That(taken, Is.GreaterThan(0));
        Task<Timestamp?> waiting = oracle.NextAsync(1 << 18, CancellationToken.None).AsTask();
        Assert.That(waiting.IsCompleted, Is.False);
        group.Cluster.Commit();
        Timestamp first = (await waiting)!.Value;
        Assert.That(first.Value, Is.LessThan(group[1].PersistedWindow.Value));
    }

    [Test]
    public async Task R01_a_new_leader_starts_above_everything_any_leader_handed_out()
    {
        using GroupZero group = new();
        Timestamp last = Timestamp.Zero;
        for (int round = 0; round < 12; round++)
        {
            int leader = (round % 3) + 1;
            group.Elect(leader);
            foreach (int count in (int[])[1, 1, 100, 70_000])
            {
                Timestamp first = (await group[leader].Oracle.NextAsync(count, CancellationToken.None))!.Value;
                Assert.That(first, Is.GreaterThan(last));
                last = new(first.Value + (ulong)count - 1);
            }
        }
    }

    [Test]
    public async Task R01_a_frozen_clock_does_not_stop_the_oracle()
    {
        using GroupZero group = new();
        group.Elect(1);
        Timestamp last = Timestamp.Zero;
        // More than the window has room for: it is extended by the counter alone.
        for (int i = 0; i < 40; i++)
        {
            Timestamp first = (await group[1].Oracle.NextAsync(50_000_000, CancellationToken.None))!.Value;
            Assert.That(first, Is.GreaterThan(last));
            last = new(first.Value + 50_000_000 - 1);
        }
    }

    [Test]
    public async Task R01_a_clock_that_jumps_back_does_not_take_the_oracle_along()
    {
        ScriptedTime time = new();
        using GroupZero group = new(time);
        group.Elect(1);
        Timestamp before = (await group[1].Oracle.NextAsync(1, CancellationToken.None))!.Value;
        time.Wall -= TimeSpan.FromDays(1);
        time.Advance(TimeSpan.FromSeconds(1));
        Timestamp after = (await group[1].Oracle.NextAsync(1, CancellationToken.None))!.Value;
        Assert.That(after.Milliseconds - before.Milliseconds, Is.EqualTo(500));
        group.Elect(2);
        Timestamp over = (await group[2].Oracle.NextAsync(1, CancellationToken.None))!.Value;
        Assert.That(over, Is.GreaterThan(after));
        Assert.That(over.Milliseconds - after.Milliseconds, Is.LessThan(10_000));
    }

    [Test]
    public async Task R02_a_leader_that_was_replaced_without_knowing_it_hands_out_nothing()
    {
        using GroupZero group = new();
        group.Elect(1);
        await group[1].Oracle.NextAsync(1, CancellationToken.None);
        Assert.That(group[1].Oracle.TryNext(1, out Timestamp _));
        group.Elect(2, deposeOthers: false);
        Assert.That(group[1].Oracle.TryNext(1, out Timestamp _), Is.False);
        Assert.That(await group[1].Oracle.NextAsync(1, CancellationToken.None), Is.Null);
    }

    [Test]
    public async Task R02_without_a_lease_a_majority_is_asked()
    {
        using GroupZero group = new();
        group.Elect(1);
        group.Group(1).LeaseIsValid = false;
        Assert.That(group[1].Oracle.TryNext(1, out Timestamp _), Is.False);
        Assert.That(await group[1].Oracle.NextAsync(1, CancellationToken.None), Is.Not.Null);
    }

    [Test]
    public async Task R10_a_leader_serves_only_after_an_entry_of_its_term_is_applied()
    {
        using GroupZero group = new();
        group.Cluster.HoldsCommits = true;
        group.Elect(1);
        Assert.That(group[1].TryGetServingTerm(out Term _), Is.False);
        Assert.That(await group[1].Oracle.NextAsync(1, CancellationToken.None), Is.Null);
        group.Cluster.HoldsCommits = false;
        group.Cluster.Commit();
        Assert.That(await group[1].Oracle.NextAsync(1, CancellationToken.None), Is.Not.Null);
    }

    [Test]
    public async Task A_request_for_the_window_ends_with_the_leadership()
    {
        using GroupZero group = new();
        group.Elect(1);
        await group[1].Oracle.NextAsync(1, CancellationToken.None);
        group.Cluster.HoldsCommits = true;
        while (group[1].Oracle.TryNext(1 << 18, out Timestamp _))
        {
            // Until the window is used up.
        }

        Task<Timestamp?> waiting = group[1].Oracle.NextAsync(1 << 18, CancellationToken.None).AsTask();
        group.Elect(2);
        Assert.That(await waiting, Is.Null);
    }

    [Test]
    public void An_idle_leader_proposes_nothing()
    {
        ScriptedTime time = new();
        using GroupZero group = new(time);
        group.Elect(1);
        LogIndex before = group.Cluster.CommitIndex;
        time.Advance(TimeSpan.FromHours(1));
        Assert.That(group.Cluster.CommitIndex, Is.EqualTo(before));
    }

    [Test]
    public void R28_the_oldest_open_snapshot_is_known_once_every_node_reported()
    {
        using GroupZero group = new();
        group.Elect(1);
        TimestampOracle oracle = group[1].Oracle;
        oracle.TryNext(1, out Timestamp _);
        oracle.Report("n1", new(500));
        oracle.Report("n2", new(300));
        Assert.That(oracle.OldestOpenSnapshot(group.Formation.Nodes), Is.EqualTo(Timestamp.Zero));
        oracle.Report("n3", new(400));
        Assert.That(oracle.OldestOpenSnapshot(group.Formation.Nodes), Is.EqualTo(new Timestamp(300)));
        group.Elect(2);
        group.Elect(1);
        oracle.TryNext(1, out Timestamp _);
        Assert.That(oracle.OldestOpenSnapshot(group.Formation.Nodes), Is.EqualTo(Timestamp.Zero));
    }
}
