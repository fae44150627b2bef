using NUnit.Framework;
using ShardForge.Consensus;

namespace ShardForge.Tests.Consensus;

/// <summary>The lease's arithmetic, with the clock in hand.</summary>
internal sealed class RaftLeadershipTests
{
    private const long LeaseTicks = 80;

    [Test]
    public void Rule08_The_lease_runs_from_the_send_that_a_majority_answered()
    {
        RaftLeadership leadership = Create(remoteCount: 2);
        Assert.That(leadership.HasLease(now: 1, LeaseTicks), Is.False, "nobody answered yet");
        leadership.Acknowledge(0, sentAt: 100);
        Assert.That(leadership.HasLease(now: 179, LeaseTicks), Is.True);
        Assert.That(leadership.HasLease(now: 180, LeaseTicks), Is.False);
        leadership.Acknowledge(1, sentAt: 150);
        Assert.That(leadership.HasLease(now: 229, LeaseTicks), Is.True);
        Assert.That(leadership.HasLease(now: 230, LeaseTicks), Is.False);
    }

    [Test]
    public void Rule08_Of_five_members_the_second_latest_answer_counts()
    {
        RaftLeadership leadership = Create(remoteCount: 4);
        leadership.Acknowledge(3, sentAt: 500);
        Assert.That(leadership.HasLease(now: 500, LeaseTicks), Is.False, "two of five");
        leadership.Acknowledge(1, sentAt: 300);
        Assert.That(leadership.HasLease(now: 379, LeaseTicks), Is.True);
        Assert.That(leadership.HasLease(now: 380, LeaseTicks), Is.False);
        leadership.Acknowledge(0, sentAt: 400);
        Assert.That(leadership.HasLease(now: 479, LeaseTicks), Is.True);
        Assert.That(leadership.HasLease(now: 480, LeaseTicks), Is.False);
    }

    [TestCase(1, 1)]
    [TestCase(2, 1)]
    [TestCase(3, 2)]
    [TestCase(4, 2)]
    [TestCase(6, 3)]
    public void Rule08_A_lease_needs_a_majority_with_the_leader(int remoteCount, int needed)
    {
        RaftLeadership leadership = Create(remoteCount);
        for (int member = 0; member < needed; member++)
        {
            Assert.That(leadership.HasLease(now: 100, LeaseTicks), Is.False, $"{member} of {remoteCount} answered");
            leadership.Acknowledge(member, sentAt: 100);
        }

        Assert.That(leadership.HasLease(now: 100, LeaseTicks), Is.True);
    }

    [Test]
    public void A_late_answer_to_an_early_send_does_not_shorten_the_lease()
    {
        RaftLeadership leadership = Create(remoteCount: 2);
        leadership.Acknowledge(0, sentAt: 200);
        leadership.Acknowledge(0, sentAt: 100);
        Assert.That(leadership.HasLease(now: 279, LeaseTicks), Is.True);
    }

    [Test]
    public void R04_A_lease_that_was_given_up_does_not_come_back_in_that_term()
    {
        RaftLeadership leadership = Create(remoteCount: 2);
        leadership.Acknowledge(0, sentAt: 100);
        leadership.GiveUpLease();
        Assert.That(leadership.HasLease(now: 101, LeaseTicks), Is.False);
        leadership.Acknowledge(0, sentAt: 200);
        Assert.That(leadership.HasLease(now: 201, LeaseTicks), Is.False);
    }

    [Test]
    public void A_lease_ends_with_the_leadership_also_alone()
    {
        using CancellationTokenSource over = new();
        RaftLeadership alone = new(new Term(2), new LogIndex(1), remoteCount: 0, over.Token);
        Assert.That(alone.HasLease(now: 1, LeaseTicks), Is.True);
        over.Cancel();
        Assert.That(alone.HasLease(now: 1, LeaseTicks), Is.False);
        Assert.That(alone.TakesProposals, Is.False);
    }

    private static RaftLeadership Create(int remoteCount) => new(new Term(2), new LogIndex(1), remoteCount, CancellationToken.None);
}
