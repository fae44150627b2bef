using ShardForge.Testing;

namespace ShardForge.Tests.Cluster;

/// <summary>The check itself: what is wrong is found, what is right passes.</summary>
public sealed class RegisterHistoryTests
{
    [Test]
    public void A_stale_read_is_found()
    {
        RegisterHistory history = new();
        history.Put("k", "1", history.Now(), isKnown: true);
        history.Put("k", "2", history.Now(), isKnown: true);
        history.Get("k", "1", history.Now());

        Assert.That(history.FindViolation(), Is.Not.Null);
    }

    [Test]
    public void A_lost_write_is_found()
    {
        RegisterHistory history = new();
        history.Put("k", "1", history.Now(), isKnown: true);
        history.Get("k", null, history.Now());

        Assert.That(history.FindViolation(), Is.Not.Null);
    }

    [Test]
    public void Two_winners_of_one_value_are_found()
    {
        RegisterHistory history = new();
        history.Put("k", "1", history.Now(), isKnown: true);
        history.CompareAndSet("k", "1", "2", history.Now(), succeeded: true);
        history.CompareAndSet("k", "1", "3", history.Now(), succeeded: true);

        Assert.That(history.FindViolation(), Is.Not.Null);
    }

    [Test]
    public void An_unknown_write_may_take_effect_late_or_never_but_only_once()
    {
        RegisterHistory late = new(), twice = new();
        late.Put("k", "1", late.Now(), isKnown: true);
        late.Put("k", "2", late.Now(), isKnown: false);
        late.Get("k", "1", late.Now());
        late.Get("k", "2", late.Now());
        twice.Put("k", "2", twice.Now(), isKnown: false);
        twice.Put("k", "1", twice.Now(), isKnown: true);
        twice.Get("k", "2", twice.Now());
        twice.Put("k", "3", twice.Now(), isKnown: true);
        twice.Get("k", "2", twice.Now());

        Assert.That(late.FindViolation(), Is.Null);
        Assert.That(twice.FindViolation(), Is.Not.Null);
    }

    [Test]
    public void Overlapping_operations_may_come_in_either_order()
    {
        RegisterHistory history = new();
        long first = history.Now(), second = history.Now();
        history.Get("k", null, second);
        history.Put("k", "1", first, isKnown: true);
        history.Get("k", "1", history.Now());

        Assert.That(history.FindViolation(), Is.Null);
    }
}
