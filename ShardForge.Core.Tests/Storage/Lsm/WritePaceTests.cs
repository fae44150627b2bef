using NUnit.Framework;
using ShardForge.Storage.Lsm;

namespace ShardForge.Tests.Storage.Lsm;

internal sealed class WritePaceTests
{
    [Test]
    public void Writers_pause_more_often_the_closer_level_zero_is_to_the_stop()
    {
        int before = 0;
        for (int tables = 0; tables < 36; tables++)
        {
            WritePace pace = new(slowdownTables: 20, stopTables: 36);
            int pauses = 0;
            for (int write = 0; write < 10_000; write++)
            {
                if (pace.After(1000, tables, canRotate: true, 0, 1) > TimeSpan.Zero)
                    pauses++;
            }

            Assert.That(pauses, tables < 20 ? Is.Zero : Is.GreaterThanOrEqualTo(Math.Max(9, before)), $"{tables} tables");
            before = pauses;
        }

        Assert.That(before, Is.LessThan(400));
    }

    [Test]
    public void Writers_pause_twice_in_a_memtable_that_could_not_be_replaced_and_never_in_one_that_could([Values] bool canRotate)
    {
        WritePace pace = new(20, 36);
        for (int memtable = 0; memtable < 3; memtable++)
        {
            pace.StartMemtable();
            List<int> pausedAt = [];
            for (int bytes = 0; bytes < 1000; bytes++)
            {
                if (pace.After(1, 0, canRotate, bytes, 1000) > TimeSpan.Zero)
                    pausedAt.Add(bytes);
            }

            Assert.That(pausedAt, Is.EqualTo(canRotate ? Array.Empty<int>() : [500, 750]));
        }
    }
}
