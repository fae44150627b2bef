using System.Buffers.Binary;
using NUnit.Framework;
using ShardForge.Consensus;
using ShardForge.Network;

namespace ShardForge.Tests.Consensus;

/// <summary>Whole groups on DotNext, where the conformance suite cannot look: disks, single messages, snapshots.</summary>
[Parallelizable(ParallelScope.Children)]
[FixtureLifeCycle(LifeCycle.InstancePerTestCase)]
internal sealed class RaftClusterTests
{
    [Test]
    public async Task Rule04_A_leader_commits_only_what_is_on_its_own_disk()
    {
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, preferredLeader: 0);
        await group.WriteAsync("one");
        int leader = await group.WaitForLeaderAsync();
        group.Log(leader).HoldFlushes();
        (LogIndex index, Term term) = await group.ProposeAsync("two");
        await group.WaitUntilAsync(() => Enumerable.Range(0, 3).All(replica => group.Log(replica).LastIndex >= index), "the entry everywhere");
        await group.Group(leader).ConfirmLeadershipAsync(term, new CancellationTokenSource(50).Token).AsTask().ContinueWith(static _ => { }, TaskScheduler.Default);
        Assert.That(group.Group(leader).CommitIndex, Is.LessThan(index));
        Assert.That(Enumerable.Range(0, 3).Where(replica => replica != leader).All(replica => group.Group(replica).CommitIndex < index), Is.True);
        group.Log(leader).ReleaseFlushes();
        await group.WaitForAppliedAsync(index);
    }

    [Test]
    public async Task Rule05_A_batch_that_was_cut_short_does_not_commit_on_two_of_five()
    {
        RaftNodeOptions options = DotNextHarness.CreateOptions() with { AppendBytesMax = 8, ElectionTimeoutLower = TimeSpan.FromSeconds(1), ElectionTimeoutUpper = TimeSpan.FromSeconds(2) };
        await using DotNextHarness group = await DotNextHarness.CreateAsync(5, preferredLeader: 0, options);
        Assert.That(await group.WaitForLeaderAsync(), Is.Zero);
        // n1 falls behind, while n2 and n3 follow.
        group.Isolate(1);
        LogIndex last = default;
        for (int i = 0; i < 20; i++)
            last = await group.WriteAsync($"entry {i}");
        await group.WaitForAppliedAsync(last, 0, 2, 3);

        // Now only n1 and n2 are there. n1 gets one batch of the many that it lacks, and then no more.
        group.Heal();
        foreach (int gone in (int[])[3, 4])
            group.Isolate(gone);
        TaskCompletionSource caughtUp = new();
        int batches = 0;
        group.Hub.Before = (_, to, message) => to == "n1" && RaftMessage.TryReadHeader(message.Span, out RaftHeader header) && header.Kind == RaftMessageKind.Append
            && BinaryPrimitives.ReadUInt32LittleEndian(message.Span[(RaftMessage.HeaderBytes + 32)..]) > 0 && Interlocked.Increment(ref batches) > 1
            ? new(caughtUp.Task) : default;
        Assert.That(group.Group(0).TryPropose(group.Group(0).Status.Term, new byte[4], out LogIndex next), Is.True);
        await group.WaitUntilAsync(() => group.Log(2).LastIndex >= next && Volatile.Read(ref batches) > 1, "n2 to have the entry, and n1 a part of the log");
        bool isHeldByMajority = Enumerable.Range(0, 5).Count(replica => group.Log(replica).LastIndex >= next) >= 3;
        Assert.That(isHeldByMajority, Is.False);
        Assert.That(group.Group(0).CommitIndex, Is.LessThan(next), group.Describe());
        caughtUp.SetResult();
        group.Heal();
        await group.WaitForAppliedAsync(next);
    }

    [Test]
    public async Task Rule06_A_follower_far_behind_is_caught_up_in_batches_without_waiting_for_heartbeats()
    {
        RaftNodeOptions options = DotNextHarness.CreateOptions() with { AppendBytesMax = 64, ElectionTimeoutLower = TimeSpan.FromSeconds(20), ElectionTimeoutUpper = TimeSpan.FromSeconds(60) };
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, preferredLeader: 0, options);
        Assert.That(await group.WaitForLeaderAsync(), Is.Zero);
        group.Isolate(1);
        LogIndex last = default;
        for (int i = 0; i < 200; i++)
            (last, _) = await group.ProposeAsync($"entry {i}");
        await group.WaitForAppliedAsync(last, 0, 2);
        group.Heal();
        // A heartbeat takes 6 s here: about a hundred batches, each started by the one before, are done long before the next.
        (last, _) = await group.ProposeAsync("last");
        await group.WaitForAppliedAsync(last, 1);
    }

    [Test]
    public async Task Rule07_Whatever_a_link_throws_the_replicas_go_on()
    {
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, start: false);
        Exception[] errors =
        [
            new IOException("a"), new TimeoutException("b"), new ObjectDisposedException("c"), new OperationCanceledException("d"), new InvalidOperationException("e"),
            new OverloadedException("f"), new PeerUnavailableException(PeerFailure.HandlerFailed, mayHaveLeft: true, "g"),
        ];
        int thrown = 0;
        group.Hub.Before = (_, _, message) =>
            RaftMessage.TryReadHeader(message.Span, out RaftHeader header) && header.Kind is RaftMessageKind.Vote or RaftMessageKind.PreVote
                ? ValueTask.FromException(errors[Interlocked.Increment(ref thrown) % errors.Length])
                : default;
        for (int replica = 0; replica < 3; replica++)
            await group.OpenAsync(replica, new RaftGroupOptions { IsNew = true });
        await group.WaitUntilAsync(() => Volatile.Read(ref thrown) > 3 * errors.Length, "elections that fail");
        Assert.That(Enumerable.Range(0, 3).Any(replica => group.Group(replica).Status.IsLeader), Is.False);
        // Votes fail the same way once pre-votes pass.
        group.Hub.Before = (_, _, message) =>
            RaftMessage.TryReadHeader(message.Span, out RaftHeader header) && header.Kind is RaftMessageKind.Vote
                ? ValueTask.FromException(errors[Interlocked.Increment(ref thrown) % errors.Length])
                : default;
        thrown = 0;
        await group.WaitUntilAsync(() => Volatile.Read(ref thrown) > errors.Length, "votes that fail");
        group.Hub.Before = null;
        LogIndex last = await group.WriteAsync("well");
        await group.WaitForAppliedAsync(last);
    }

    [Test]
    public async Task Rule07_A_member_that_hangs_delays_neither_elections_nor_writes()
    {
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, start: false);
        for (int replica = 0; replica < 2; replica++)
        {
            group.Hub.Set(DotNextHarness.NodeOf(replica), "n2", LinkFault.Hanging);
            group.Hub.Set("n2", DotNextHarness.NodeOf(replica), LinkFault.Hanging);
        }

        for (int replica = 0; replica < 3; replica++)
            await group.OpenAsync(replica, new RaftGroupOptions { IsNew = true, IsPreferredFirstLeader = replica == 0 });
        LogIndex last = await group.WriteAsync("one");
        Term term = group.Group(await group.WaitForLeaderAsync()).Status.Term;
        for (int i = 0; i < 20; i++)
            last = await group.WriteAsync($"entry {i}");
        await group.WaitForAppliedAsync(last, 0, 1);
        Assert.That(group.Group(await group.WaitForLeaderAsync()).Status.Term, Is.EqualTo(term));
    }

    [Test]
    public async Task Rule07_A_leader_whose_majority_hangs_steps_down()
    {
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, preferredLeader: 0);
        int leader = await group.WaitForLeaderAsync();
        string node = DotNextHarness.NodeOf(leader);
        for (int other = 0; other < 3; other++)
            group.Hub.Set(node, DotNextHarness.NodeOf(other), LinkFault.Hanging);
        await group.WaitUntilAsync(() => !group.Group(leader).Status.IsLeader, "the leader to step down");
        Assert.That(await group.WaitForLeaderAsync(except: leader), Is.Not.EqualTo(leader));
    }

    [Test]
    public async Task Rule09_A_follower_confirms_nothing()
    {
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, preferredLeader: 0);
        int leader = await group.WaitForLeaderAsync();
        Term term = group.Group(leader).Status.Term;
        for (int replica = 0; replica < 3; replica++)
        {
            LogIndex? confirmed = await group.Group(replica).ConfirmLeadershipAsync(term, CancellationToken.None);
            Assert.That(confirmed is not null, Is.EqualTo(replica == leader));
        }
    }

    [Test]
    public async Task A_read_barrier_is_not_given_by_a_round_that_began_before()
    {
        RaftNodeOptions options = DotNextHarness.CreateOptions() with { ElectionTimeoutLower = TimeSpan.FromSeconds(20), ElectionTimeoutUpper = TimeSpan.FromSeconds(60) };
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, preferredLeader: 0, options);
        Assert.That(await group.WaitForLeaderAsync(), Is.Zero);
        Term term = group.Group(0).Status.Term;
        await group.Group(0).ConfirmLeadershipAsync(term, CancellationToken.None);
        TaskCompletionSource firstRound = new();
        int appends = 0;
        group.Hub.After = async (_, _, _, answer) =>
        {
            if (Interlocked.Increment(ref appends) <= 2)
                await firstRound.Task;
            return answer;
        };
        Task<LogIndex?> first = group.Group(0).ConfirmLeadershipAsync(term, CancellationToken.None).AsTask();
        await group.WaitUntilAsync(() => Volatile.Read(ref appends) == 2, "the first round to be on its way");
        Task<LogIndex?> second = group.Group(0).ConfirmLeadershipAsync(term, CancellationToken.None).AsTask();
        group.Hub.After = null;
        firstRound.SetResult();
        Assert.That(await first, Is.Not.Null);
        Assert.That(await second, Is.Not.Null);
        Assert.That(appends, Is.EqualTo(2), "the second asked anew, unseen by the hook");
    }

    [Test]
    public async Task Leaders_of_many_groups_are_where_they_should_be_first()
    {
        const int GroupCount = 5;
        RaftLinkHub hub = new();
        RaftNodeOptions options = DotNextHarness.CreateOptions() with { ElectionTimeoutLower = TimeSpan.FromSeconds(5), ElectionTimeoutUpper = TimeSpan.FromSeconds(10) };
        RaftNode[] nodes = [.. Enumerable.Range(0, 3).Select(node => new RaftNode(hub.CreateLink($"n{node}"), options))];
        List<(IRaftGroup Group, int Preferred, int Node)> groups = [];
        for (int shard = 0; shard < GroupCount; shard++)
        {
            RaftConfiguration members = new([.. Enumerable.Range(0, 3).Select(node => new RaftMember(new ReplicaId((ulong)((shard * 3) + node + 1)), $"n{node}"))]);
            for (int node = 0; node < 3; node++)
            {
                MemoryReplicaLog log = new(members.Members[node].Replica, members);
                RecordingStateMachine machine = new(options.FileSystem, $"/shards/{log.Replica}");
                RaftGroupOptions groupOptions = new() { IsNew = true, IsPreferredFirstLeader = shard % 3 == node };
                groups.Add((await nodes[node].OpenGroupAsync(new ShardId(shard), log, machine, groupOptions), shard % 3, node));
            }
        }

        using CancellationTokenSource deadline = new(TimeSpan.FromSeconds(20));
        foreach ((IRaftGroup group, int preferred, int node) in groups)
        {
            while (group.AppliedIndex.Value == 0 || (node == preferred) != group.Status.IsLeader)
                await Task.Delay(1, deadline.Token);
        }

        foreach (RaftNode node in nodes)
            await node.DisposeAsync();
        Assert.That(groups.Select(static it => it.Group.Status.Role), Is.All.EqualTo(RaftRole.Stopped));
    }

    [Test]
    public async Task R35_A_leader_whose_log_fails_stops_and_another_one_leads()
    {
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, preferredLeader: 0);
        await group.WriteAsync("one");
        int leader = await group.WaitForLeaderAsync();
        group.Log(leader).HoldFlushes();
        Assert.That(group.Group(leader).TryPropose(group.Group(leader).Status.Term, new byte[3], out _), Is.True);
        group.Log(leader).Fail(new IOException("the disk is gone"));
        await group.WaitUntilAsync(() => group.Group(leader).Status.Role == RaftRole.Stopped, "the leader to stop");
        Assert.That(group.Group(leader).Status.Fault, Is.InstanceOf<IOException>());
        Assert.That(group.Group(leader).TryPropose(group.Group(leader).Status.Term, new byte[3], out _), Is.False);
        LogIndex last = await group.WriteAsync("two");
        await group.WaitForAppliedAsync(last, [.. Enumerable.Range(0, 3).Where(replica => replica != leader)]);
        await group.KillAsync(leader);
        await group.RestartAsync(leader);
        await group.WaitForAppliedAsync(last);
        group.AssertSameHistory();
    }

    [Test]
    public async Task A_replica_that_the_library_gave_up_is_found_and_says_why()
    {
        // An error while a candidate raises its term leaves it in a state that votes, never stands, and has no event.
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, preferredLeader: 0);
        int leader = await group.WaitForLeaderAsync();
        int dead = (leader + 1) % 3;
        group.Log(dead).RefuseHardState = new OverloadedException("the disk is full to the last byte");
        await group.KillAsync(leader);
        group.Hub.Before = (from, _, message) => from != DotNextHarness.NodeOf(dead) && RaftMessage.TryReadHeader(message.Span, out RaftHeader header) && header.Kind is RaftMessageKind.PreVote
            ? ValueTask.FromException(new IOException("only one may stand"))
            : default;
        await group.WaitUntilAsync(() => group.Group(dead).Status.Role == RaftRole.Stopped, "the dead replica to be found");
        Assert.That(group.Group(dead).Status.Fault, Is.Not.Null);
        group.Hub.Before = null;
        await group.RestartAsync(leader);
        LogIndex last = await group.WriteAsync("goes on");
        await group.WaitForAppliedAsync(last, leader, 3 - leader - dead);
    }

    [Test]
    public async Task A_state_machine_that_fails_stops_its_replica_only()
    {
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, preferredLeader: 0);
        await group.WriteAsync("one");
        int failing = (await group.WaitForLeaderAsync() + 1) % 3;
        group.Machine(failing).OnApply = static _ => throw new InvalidDataException("no such table");
        LogIndex last = await group.WriteAsync("two");
        await group.WaitUntilAsync(() => group.Group(failing).Status.Role == RaftRole.Stopped, "the replica to stop");
        Assert.That(group.Group(failing).Status.Fault, Is.InstanceOf<InvalidDataException>());
        await group.WaitForAppliedAsync(last, [.. Enumerable.Range(0, 3).Where(replica => replica != failing)]);
    }

    [Test]
    public async Task R32_Only_what_is_durable_and_committed_is_applied_and_in_bounded_batches()
    {
        RaftNodeOptions options = DotNextHarness.CreateOptions() with { ApplyBytesMax = 64 };
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, preferredLeader: 0, options);
        int leader = await group.WaitForLeaderAsync();
        long bytesMax = 0;
        group.Machine(leader).OnApply = entries =>
        {
            long bytes = 0;
            foreach (CommittedEntry entry in entries.Span)
            {
                bytes += entry.Payload.Length;
                Assert.That(entry.Index, Is.LessThanOrEqualTo(group.Log(leader).DurableIndex));
            }

            bytesMax = Math.Max(bytesMax, bytes);
            return default;
        };
        LogIndex last = default;
        for (int i = 0; i < 100; i++)
            (last, _) = await group.ProposeAsync($"entry number {i:D6}");
        await group.WaitForAppliedAsync(last);
        Assert.That(bytesMax, Is.InRange(19, 64));
    }

    [Test]
    public async Task A_restarted_replica_goes_on_behind_its_durable_state()
    {
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, preferredLeader: 0);
        for (int i = 0; i < 10; i++)
            await group.WriteAsync($"entry {i}");
        int leader = await group.WaitForLeaderAsync();
        int follower = (leader + 1) % 3;
        await group.WaitForAppliedAsync(group.Group(leader).CommitIndex);
        LogIndex durable = group.Machine(follower).MakeDurable();
        LogIndex last = await group.WriteAsync("after");
        await group.KillAsync(follower);
        Assert.That(group.Machine(follower).RecoveredIndex, Is.EqualTo(durable));
        await group.RestartAsync(follower);
        await group.WaitForAppliedAsync(last, follower);
        Assert.That(group.Machine(follower).Commands.Select(static command => command.Text), Is.EqualTo(Enumerable.Range(0, 10).Select(static i => $"entry {i}").Append("after")));
    }

    [Test]
    public async Task A_state_that_does_not_fit_its_log_is_refused()
    {
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, start: false);
        group.Log(0).TryAppend(new Term(1), RaftEntryKind.NoOp, default, out _);
        group.Log(0).Compact(new LogIndex(1));
        Assert.That(async () => await group.OpenAsync(0, new RaftGroupOptions()), Throws.InstanceOf<CorruptionException>());
    }

    [Test]
    public async Task R39_A_replica_alone_leads_only_after_its_new_term_is_on_disk()
    {
        await using DotNextHarness group = await DotNextHarness.CreateAsync(1, start: false);
        group.Log(0).HoldFlushes();
        Task open = group.OpenAsync(0, new RaftGroupOptions { IsNew = true });
        await group.WaitUntilAsync(() => group.Log(0).Term == new Term(2), "the new term");
        Assert.That(group.TryGroup(0), Is.Null);
        Assert.That(group.Log(0).LastIndex, Is.EqualTo(new LogIndex(0)));
        group.Log(0).Flush();
        await open;
        Assert.That(group.Log(0).VotedFor, Is.EqualTo(RaftGroupHarness.IdOf(0)));
        await group.WaitUntilAsync(() => group.Log(0).LastIndex == new LogIndex(1), "the no-op");
        Assert.That(group.Group(0).CommitIndex, Is.EqualTo(new LogIndex(0)), "not on disk yet");
        group.Log(0).ReleaseFlushes();
        await group.WaitForAppliedAsync(new LogIndex(1));
        Assert.That(group.Machine(0).EntryAt(new LogIndex(1))!.Value, Is.EqualTo(new CommittedEntry(new LogIndex(1), new Term(2), RaftEntryKind.NoOp, group.Machine(0).EntryAt(new LogIndex(1))!.Value.Payload)));
    }

    [Test]
    public async Task A_transfer_of_leadership_without_the_target_fails_and_leaves_a_leader()
    {
        await using DotNextHarness group = await DotNextHarness.CreateAsync(3, preferredLeader: 0);
        int leader = await group.WaitForLeaderAsync();
        int target = (leader + 1) % 3;
        await group.KillAsync(target);
        await group.ProposeAsync("one");
        Assert.That(await group.Group(leader).TransferLeadershipAsync(RaftGroupHarness.IdOf(target), CancellationToken.None), Is.False);
        Assert.That(await group.Group(leader).TransferLeadershipAsync(new ReplicaId(77), CancellationToken.None), Is.False);
        LogIndex last = await group.WriteAsync("two");
        await group.WaitForAppliedAsync(last);
    }
}
