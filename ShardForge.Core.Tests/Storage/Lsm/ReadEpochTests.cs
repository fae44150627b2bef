using NUnit.Framework;
using ShardForge.Storage.Lsm;

namespace ShardForge.Tests.Storage.Lsm;

internal sealed class ReadEpochTests
{
    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(30);

    [Test]
    public void What_is_retired_goes_when_no_reader_is_left()
    {
        Retired item = new();
        ReadEpoch.Retire(item);

        // Tests beside this one may be reading: then the last of them gives it back.
        Assert.That(item.Gone.Wait(s_deadline));
    }

    [Test]
    public void What_is_retired_stays_while_a_reader_that_came_before_is_inside()
    {
        Retired item = new();
        using ManualResetEventSlim entered = new(), leave = new();
        Thread reader = new(() =>
        {
            using ReadEpoch outer = ReadEpoch.Enter();
            using (ReadEpoch.Enter())
                entered.Set();
            leave.Wait(s_deadline);
        });
        reader.Start();
        Assert.That(entered.Wait(s_deadline));
        ReadEpoch.Retire(item);
        using (ReadEpoch.Enter())
            Assert.That(item.Gone.IsSet, Is.False, "the end of the inner scope must not count");
        Assert.That(item.Gone.IsSet, Is.False);
        leave.Set();
        reader.Join();
        Assert.That(item.Gone.Wait(s_deadline));
    }

    [Test]
    public void A_reader_that_came_after_does_not_hold_it_back()
    {
        Retired first = new(), second = new();
        using ManualResetEventSlim entered = new(), leave = new();
        ReadEpoch.Retire(first);
        Thread reader = new(() =>
        {
            using ReadEpoch epoch = ReadEpoch.Enter();
            entered.Set();
            leave.Wait(s_deadline);
        });
        reader.Start();
        Assert.That(entered.Wait(s_deadline));
        Assert.That(first.Gone.Wait(s_deadline));
        ReadEpoch.Retire(second);
        Assert.That(second.Gone.IsSet, Is.False);
        leave.Set();
        reader.Join();
        Assert.That(second.Gone.Wait(s_deadline));
    }

    [Test]
    public void Threads_that_come_and_go_share_few_slots()
    {
        int largest = 0;
        for (int round = 0; round < 200; round++)
        {
            Thread thread = new(() => largest = Math.Max(largest, ReadEpoch.ThreadNumber));
            thread.Start();
            thread.Join();
            if (round % 20 == 19)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
        }

        Assert.That(largest, Is.LessThan(180));
    }

    private sealed class Retired : IRetired
    {
        public ManualResetEventSlim Gone { get; } = new();

        public void OnUnreachable() => Gone.Set();
    }
}
