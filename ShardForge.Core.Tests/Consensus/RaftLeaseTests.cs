using System.Diagnostics;
using NUnit.Framework;
using ShardForge.Consensus;

namespace ShardForge.Tests.Consensus;

/// <summary>Leases over whole runs: nobody leads in a later term at a moment at which an earlier leader still says that it has its lease.</summary>
internal sealed class RaftLeaseTests
{
    [TestCase(1)]
    [TestCase(2)]
    [TestCase(3)]
    public async Task R04_No_lease_is_left_when_another_leader_is_elected(int seed)
    {
        Random random = new(seed);
        await using DotNextHarness group = await DotNextHarness.CreateAsync(
            3, preferredLeader: 0, DotNextHarness.CreateOptions() with { ElectionTimeoutLower = TimeSpan.FromMilliseconds(60), ElectionTimeoutUpper = TimeSpan.FromMilliseconds(120), Seed = seed });
        using CancellationTokenSource end = new();
        LeaseWatch watch = new(group);
        Thread watching = new(() => watch.Run(end.Token)) { Name = "lease watch" };
        watching.Start();
        List<string> events = [];
        try
        {
            for (int round = 0; round < 8; round++)
            {
                int leader = await group.WaitForLeaderAsync();
                int other = (leader + 1 + random.Next(2)) % 3;
                string what = random.Next(5) switch
                {
                    0 => "isolate",
                    1 => "kill",
                    2 => "hang",
                    3 => "hand over",
                    _ => "one way",
                };
                events.Add($"{round}: {what} n{leader} (n{other}) in term {group.Group(leader).Status.Term}");
                switch (what)
                {
                    case "isolate":
                        group.Isolate(leader);
                        break;
                    case "kill":
                        await group.KillAsync(leader);
                        break;
                    case "hang":
                        for (int peer = 0; peer < 3; peer++)
                            group.Hub.Set($"n{leader}", $"n{peer}", LinkFault.Hanging);
                        break;
                    case "hand over":
                        await group.Group(leader).TransferLeadershipAsync(RaftGroupHarness.IdOf(other), CancellationToken.None);
                        break;
                    default:
                        group.Hub.Set($"n{leader}", $"n{other}", LinkFault.Hanging);
                        group.Hub.Set($"n{leader}", $"n{3 - leader - other}", LinkFault.Broken);
                        break;
                }

                if (what != "hand over")
                    await group.WaitForLeaderAsync(except: leader);
                group.Heal();
                if (group.TryGroup(leader) is null)
                    await group.RestartAsync(leader);
                await group.WriteAsync($"round {round}");
            }
        }
        finally
        {
            await end.CancelAsync();
            watching.Join();
        }

        Assert.That(watch.FindOverlap(), Is.Null, $"seed {seed}\n{string.Join('\n', events)}");
        Assert.That(watch.LeasesSeen, Is.GreaterThan(3));
        group.AssertSameHistory();
    }

    /// <summary>Looks all the time who says what, and writes down when the question was asked and when a leadership was seen.</summary>
    private sealed class LeaseWatch(DotNextHarness group)
    {
        private readonly Dictionary<Term, long> _leaseAskedLast = [];        // latest start of a question that was answered "yes"
        private readonly Dictionary<Term, long> _ledSince = [];              // first moment at which somebody was seen to lead in the term

        public int LeasesSeen => _leaseAskedLast.Count;

        public void Run(CancellationToken cancellationToken)
        {
            while (!cancellationToken.IsCancellationRequested)
            {
                for (int replica = 0; replica < group.Count; replica++)
                {
                    if (group.TryGroup(replica) is not { } it)
                        continue;
                    RaftStatus status = it.Status;
                    if (status.IsLeader)
                        _ledSince.TryAdd(status.Term, Stopwatch.GetTimestamp());
                    long asked = Stopwatch.GetTimestamp();
                    if (it.HasLease(status.Term))
                        _leaseAskedLast[status.Term] = asked;
                }

                Thread.Yield();
            }
        }

        public string? FindOverlap()
        {
            foreach ((Term term, long asked) in _leaseAskedLast)
            {
                foreach ((Term later, long seen) in _ledSince)
                {
                    if (later > term && seen < asked)
                        return $"term {term} had its lease {Stopwatch.GetElapsedTime(seen, asked).TotalMilliseconds:F1} ms after term {later} was led";
                }
            }

            return null;
        }
    }
}
