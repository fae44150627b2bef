using NUnit.Framework;
using ShardForge.Metadata;

namespace ShardForge.Tests.Metadata;

[Parallelizable(ParallelScope.All)]
internal sealed class OracleClockTests
{
    private static readonly TimeSpan s_second = TimeSpan.FromSeconds(1);

    [Test]
    public void R01_a_new_cluster_starts_with_the_wall_clock_and_goes_with_it()
    {
        ScriptedTime time = new();
        OracleClock clock = Start(time, known: null);
        Assert.That(clock.Milliseconds(), Is.EqualTo(time.WallMilliseconds));
        time.Advance(s_second);
        Assert.That(clock.Milliseconds(), Is.EqualTo(time.WallMilliseconds));
    }

    [Test]
    public void R01_a_wall_clock_an_hour_ahead_is_approached_at_most_at_double_speed()
    {
        ScriptedTime time = new();
        OracleClock clock = Start(time, known: null);
        long before = clock.Milliseconds();
        time.Wall += TimeSpan.FromHours(1);
        time.Advance(s_second);
        Assert.That(clock.Milliseconds() - before, Is.EqualTo(2_000));
        time.Advance(TimeSpan.FromHours(2));
        Assert.That(clock.Milliseconds(), Is.EqualTo(time.WallMilliseconds));
    }

    [Test]
    public void R01_a_wall_clock_an_hour_behind_is_waited_for_at_half_speed()
    {
        ScriptedTime time = new();
        OracleClock clock = Start(time, known: null);
        long before = clock.Milliseconds();
        time.Wall -= TimeSpan.FromHours(1);
        time.Advance(s_second);
        Assert.That(clock.Milliseconds() - before, Is.EqualTo(500));
        time.Advance(TimeSpan.FromHours(2));
        Assert.That(clock.Milliseconds(), Is.EqualTo(time.WallMilliseconds));
    }

    [Test]
    public void R01_a_new_leader_with_another_wall_clock_goes_on_from_the_clusters_time()
    {
        ScriptedTime time = new();
        long known = time.WallMilliseconds - 3_600_000;
        OracleClock clock = Start(time, known);
        Assert.That(clock.Milliseconds(), Is.EqualTo(known));
        time.Advance(s_second);
        Assert.That(clock.Milliseconds(), Is.EqualTo(known + 2_000));
    }

    [Test]
    public void A_frozen_clock_stands_still_whatever_the_wall_clock_does()
    {
        ScriptedTime time = new();
        OracleClock clock = Start(time, known: null);
        long before = clock.Milliseconds();
        time.Wall += TimeSpan.FromDays(1);
        Assert.That(clock.Milliseconds(), Is.EqualTo(before));
    }

    [Test]
    public void Steps_shorter_than_a_millisecond_add_up()
    {
        ScriptedTime time = new();
        OracleClock clock = Start(time, known: null);
        long before = clock.Milliseconds();
        for (int i = 0; i < 10_000; i++)
        {
            time.Advance(TimeSpan.FromTicks(1_000));
            clock.Milliseconds();
        }

        Assert.That(clock.Milliseconds() - before, Is.EqualTo(1_000));
    }

    private static OracleClock Start(ScriptedTime time, long? known)
    {
        OracleClock clock = new(time);
        clock.Restart(known);
        return clock;
    }
}
