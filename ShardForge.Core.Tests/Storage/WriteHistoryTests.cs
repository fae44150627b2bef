using NUnit.Framework;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage;

internal sealed class WriteHistoryTests
{
    [Test]
    public void Only_what_was_written_after_the_begin_conflicts()
    {
        WriteHistory history = new();
        history.Begin(0);
        history.Record(Put("a"), 1);
        history.Begin(1);
        history.Record(Put("b"), 2);
        Assert.That(Conflicts(history, "a", 0), Is.True);
        Assert.That(Conflicts(history, "a", 1), Is.False);
        Assert.That(Conflicts(history, "b", 1), Is.True);
        Assert.That(Conflicts(history, "c", 0), Is.False);
    }

    [Test]
    public void A_range_delete_conflicts_with_its_keys_and_not_with_its_end()
    {
        WriteHistory history = new();
        history.Begin(0);
        StorageBatch batch = new();
        batch.DeleteRange("b"u8, "d"u8);
        history.Record(batch.Encoded, 1);
        Assert.That(Conflicts(history, "a", 0), Is.False);
        Assert.That(Conflicts(history, "b", 0), Is.True);
        Assert.That(Conflicts(history, "cz", 0), Is.True);
        Assert.That(Conflicts(history, "d", 0), Is.False);
    }

    [Test]
    public void What_the_oldest_open_transaction_does_not_need_is_forgotten()
    {
        WriteHistory history = new(entriesMax: 10);
        history.Begin(0);
        for (int round = 1; round <= 100; round++)
        {
            history.Record(Put("a"), round);
            history.Begin(round);
            history.End(round - 1);
            Assert.That(Conflicts(history, "b", round), Is.False, $"round {round}");
        }
    }

    [Test]
    public void A_transaction_that_is_older_than_what_is_remembered_conflicts()
    {
        WriteHistory history = new(entriesMax: 10);
        history.Begin(0);
        for (int sequence = 1; sequence <= 10; sequence++)
            history.Record(Put($"k{sequence}"), sequence);
        Assert.That(Conflicts(history, "other", 0), Is.False);
        history.Record(Put("k11"), 11);
        Assert.That(Conflicts(history, "other", 0), Is.True);
        Assert.That(Conflicts(history, "other", 1), Is.False);
    }

    [Test]
    public void A_commit_that_comes_after_its_transaction_ended_conflicts_if_anything_may_have_been_written()
    {
        WriteHistory history = new();
        history.Begin(5);
        history.End(5);
        Assert.That(Conflicts(history, "a", 5), Is.True);
        history.Record(Put("a"), 6);
        history.Begin(6);
        Assert.That(Conflicts(history, "a", 5), Is.True);
        Assert.That(Conflicts(history, "a", 6), Is.False);
    }

    private static ReadOnlySpan<byte> Put(string key)
    {
        StorageBatch batch = new();
        batch.Put(System.Text.Encoding.UTF8.GetBytes(key), []);
        return batch.Encoded;
    }

    private static bool Conflicts(WriteHistory history, string key, long startSequence) => history.TryFindConflict(Put(key), startSequence, out _);
}
