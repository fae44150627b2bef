using NUnit.Framework;
using ShardForge.Testing;

namespace ShardForge.Tests.Testing;

/// <summary>The check itself: each anomaly is found under the levels that forbid it, and allowed under the others.</summary>
internal sealed class HistoryTests
{
    private const bool Both = true, OnlySerializable = false;

    [TestCase("dirty read of an aborted transaction", Both, "Aborted read")]
    [TestCase("read in the middle of a transaction", Both, "Intermediate read")]
    [TestCase("two orders of one list", Both, "Incompatible orders")]
    [TestCase("one element twice", Both, "Effect twice")]
    [TestCase("lost update", Both, "Cycle (G-single")]
    [TestCase("half of a transaction", Both, "Cycle (G-single")]
    [TestCase("each reads the other", Both, "Cycle (G0 or G1c")]
    [TestCase("long fork", Both, "Cycle (G2")]
    [TestCase("acknowledged write lost", Both, "Cycle (G-single, with real time")]
    [TestCase("stale read", Both, "Cycle (G-single, with real time")]
    [TestCase("write skew", OnlySerializable, "Cycle (G2")]
    public void An_anomaly_is_found(string anomaly, bool isForbiddenInSnapshots, string name)
    {
        History history = new();
        Record(history, anomaly);
        Assert.That(history.FindViolation(IsolationLevel.Serializable), Does.StartWith(name));
        Assert.That(history.FindViolation(IsolationLevel.Snapshot), isForbiddenInSnapshots ? Does.StartWith(name) : Is.Null);
        Assert.That(history.AssertSerializable, Throws.InstanceOf<HistoryException>());
    }

    [Test]
    public void What_is_right_passes_also_with_outcomes_that_are_not_known()
    {
        History history = new();
        HistoryTransaction first = Run(history, [("x", "")], [("x", "1"), ("y", "1")]);
        HistoryTransaction lost = history.Begin(), seen = history.Begin();
        lost.Append("x", "never");
        lost.Unknown();
        seen.Append("y", "2");
        seen.Unknown();
        Run(history, [("x", "1"), ("y", "12")], []);
        HistoryTransaction own = history.Begin();
        own.Append("x", "3");
        own.Read("x", ["1", "3"]);
        own.Committed();
        Run(history, [("x", "13"), ("y", "12")], []);
        Assert.That(first.Number, Is.EqualTo(1));
        history.AssertSerializable();
        history.AssertSnapshotIsolated();
    }

    private static void Record(History history, string anomaly)
    {
        HistoryTransaction a, b, c, d;
        switch (anomaly)
        {
            case "dirty read of an aborted transaction":
                a = history.Begin();
                a.Append("x", "1");
                a.Aborted();
                Run(history, [("x", "1")], []);
                break;
            case "read in the middle of a transaction":
                Run(history, [], [("x", "1"), ("x", "2")]);
                Run(history, [("x", "1")], []);
                break;
            case "two orders of one list":
                Run(history, [], [("x", "1")]);
                Run(history, [], [("x", "2")]);
                Run(history, [("x", "12")], []);
                Run(history, [("x", "21")], []);
                break;
            case "one element twice":
                Run(history, [], [("x", "1")]);
                Run(history, [("x", "11")], []);
                break;
            case "lost update":
                (a, b) = (history.Begin(), history.Begin());
                Do(a, [("x", "")], [("x", "1")]);
                Do(b, [("x", "")], [("x", "2")]);
                Run(history, [("x", "12")], []);
                break;
            case "half of a transaction":
                (a, b) = (history.Begin(), history.Begin());
                Do(a, [], [("x", "1"), ("y", "1")]);
                Do(b, [("x", "1"), ("y", "")], []);
                Run(history, [("x", "1"), ("y", "1")], []);
                break;
            case "each reads the other":
                (a, b) = (history.Begin(), history.Begin());
                Do(a, [("y", "1")], [("x", "1")]);
                Do(b, [("x", "1")], [("y", "1")]);
                break;
            case "long fork":
                (a, b, c, d) = (history.Begin(), history.Begin(), history.Begin(), history.Begin());
                Do(a, [], [("x", "1")]);
                Do(b, [], [("y", "1")]);
                Do(c, [("x", "1"), ("y", "")], []);
                Do(d, [("x", ""), ("y", "1")], []);
                Run(history, [("x", "1"), ("y", "1")], []);
                break;
            case "acknowledged write lost":
                Run(history, [], [("x", "1")]);
                Run(history, [("x", "")], []);
                break;
            case "stale read":
                Run(history, [], [("x", "1")]);
                Run(history, [("x", "1")], [("x", "2")]);
                Run(history, [("x", "1")], []);
                Run(history, [("x", "12")], []);
                break;
            case "write skew":
                (a, b) = (history.Begin(), history.Begin());
                Do(a, [("x", ""), ("y", "")], [("x", "1")]);
                Do(b, [("x", ""), ("y", "")], [("y", "1")]);
                Run(history, [("x", "1"), ("y", "1")], []);
                break;
            default:
                throw new ArgumentException(anomaly);
        }
    }

    private static HistoryTransaction Run(History history, (string Key, string List)[] reads, (string Key, string Element)[] appends) => Do(history.Begin(), reads, appends);

    private static HistoryTransaction Do(HistoryTransaction transaction, (string Key, string List)[] reads, (string Key, string Element)[] appends)
    {
        foreach ((string key, string list) in reads)
            transaction.Read(key, [.. list.Select(static element => element.ToString())]);
        foreach ((string key, string element) in appends)
            transaction.Append(key, element);
        transaction.Committed();
        return transaction;
    }
}
