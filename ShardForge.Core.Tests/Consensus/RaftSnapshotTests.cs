using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Network;

namespace ShardForge.Tests.Consensus;

/// <summary>Followers whose entries are gone from the leader's log, and what of the log goes when.</summary>
[Parallelizable(ParallelScope.Children)]
[FixtureLifeCycle(LifeCycle.InstancePerTestCase)]
internal sealed class RaftSnapshotTests
{
    [Test]
    public async Task A_follower_behind_the_log_gets_a_snapshot_and_goes_on()
    {
        await using DotNextHarness group = await CreateAsync(logTailBytesMax: 256, snapshotChunkBytes: 100);
        int leader = await group.WaitForLeaderAsync();
        int away = (leader + 1) % 3;
        await group.KillAsync(away);
        LogIndex last = await WriteManyAsync(group, 50);
        await CompactAsync(group, leader, (leader + 2) % 3);
        Assert.That(group.Log(leader).CompactedIndex.Value, Is.GreaterThan(20));
        await group.RestartAsync(away);
        await group.WaitForAppliedAsync(last, away);
        Assert.That(group.Machine(away).SnapshotsInstalled, Is.EqualTo(1), group.Describe());
        Assert.That(group.Machine(away).Commands.Select(static command => command.Text), Is.EqualTo(Enumerable.Range(0, 50).Select(static i => $"entry {i}")));
        Assert.That(group.Log(away).Generation, Is.EqualTo(2));
        Assert.That(group.Log(away).CompactedTerm, Is.EqualTo(group.Group(leader).Status.Term).Or.LessThan(group.Group(leader).Status.Term));

        LogIndex more = await group.WriteAsync("more");
        await group.WaitForAppliedAsync(more);
        await group.WaitUntilAsync(() => group.Options.FileSystem.ListDirectories(group.Options.TemporaryDirectory).Count == 0, "the copy to be removed");
        // The generation counts after a crash too.
        await group.KillAsync(away);
        await group.RestartAsync(away);
        await group.WaitForAppliedAsync(more, away);
        Assert.That(group.Machine(away).Commands, Has.Count.EqualTo(51));
        Assert.That(group.Machine(away).SnapshotsInstalled, Is.EqualTo(1));
        group.AssertSameHistory();
    }

    [Test]
    public async Task Writes_go_on_while_a_snapshot_travels()
    {
        await using DotNextHarness group = await CreateAsync(logTailBytesMax: 256, snapshotChunkBytes: 64);
        int leader = await group.WaitForLeaderAsync();
        int away = (leader + 1) % 3;
        await group.KillAsync(away);
        await WriteManyAsync(group, 50);
        await CompactAsync(group, leader, (leader + 2) % 3);
        TaskCompletionSource go = new();
        int chunks = 0;
        group.Hub.Before = (_, _, message) =>
            RaftMessage.TryReadHeader(message.Span, out RaftHeader header) && header.Kind == RaftMessageKind.SnapshotChunk && Interlocked.Increment(ref chunks) == 2
                ? new(go.Task)
                : default;
        await group.RestartAsync(away);
        await group.WaitUntilAsync(() => Volatile.Read(ref chunks) >= 2, "the snapshot to be on its way");
        Term term = group.Group(leader).Status.Term;
        LogIndex last = await WriteManyAsync(group, 50);
        // What the follower will need next stays, although the state machine let go of it.
        foreach (int replica in (int[])[leader, (leader + 2) % 3])
        {
            await group.WaitForAppliedAsync(last, replica);
            group.Group(replica).ReleaseLog(group.Machine(replica).MakeDurable());
        }

        await group.WaitElectionAsync();
        Assert.That(group.Group(leader).Status.Term, Is.EqualTo(term), "nobody was elected meanwhile");
        go.SetResult();
        await group.WaitForAppliedAsync(last, away);
        Assert.That(group.Machine(leader).SnapshotsWritten, Is.EqualTo(1));
        Assert.That(group.Machine(away).Commands, Has.Count.EqualTo(100));
    }

    [Test]
    public async Task A_snapshot_goes_on_where_a_broken_link_left_it()
    {
        await using DotNextHarness group = await CreateAsync(logTailBytesMax: 256, snapshotChunkBytes: 64);
        int leader = await group.WaitForLeaderAsync();
        int away = (leader + 1) % 3;
        await group.KillAsync(away);
        LogIndex last = await WriteManyAsync(group, 50);
        await CompactAsync(group, leader, (leader + 2) % 3);
        int sent = 0, answered = 0;
        group.Hub.Before = (_, _, message) => IsChunk(message) && Interlocked.Increment(ref sent) == 3
            ? throw new PeerUnavailableException(PeerFailure.LinkLost, mayHaveLeft: false, "lost on its way")
            : default;
        group.Hub.After = (_, _, message, answer) =>
        {
            if (!IsChunk(message) || Interlocked.Increment(ref answered) != 5)
                return new(answer);
            answer.Dispose();
            throw new PeerUnavailableException(PeerFailure.LinkLost, mayHaveLeft: true, "the answer is lost");
        };
        await group.RestartAsync(away);
        await group.WaitForAppliedAsync(last, away);
        Assert.That(sent, Is.EqualTo(answered + 1).And.GreaterThan(6), "one was lost, and none was sent twice but the one whose answer was");
        Assert.That(group.Machine(leader).SnapshotsWritten, Is.EqualTo(1), group.Describe());
        Assert.That(group.Machine(away).SnapshotsInstalled, Is.EqualTo(1));
        Assert.That(group.Machine(away).Commands, Has.Count.EqualTo(50));

        static bool IsChunk(ReadOnlyMemory<byte> message) => RaftMessage.TryReadHeader(message.Span, out RaftHeader header) && header.Kind == RaftMessageKind.SnapshotChunk;
    }

    [Test]
    public async Task A_snapshot_whose_answer_was_lost_is_not_sent_for_ever()
    {
        await using DotNextHarness group = await CreateAsync(logTailBytesMax: 256, snapshotChunkBytes: 4096);
        int leader = await group.WaitForLeaderAsync();
        int away = (leader + 1) % 3;
        await group.KillAsync(away);
        LogIndex last = await WriteManyAsync(group, 50);
        await CompactAsync(group, leader, (leader + 2) % 3);
        int installs = 0;
        group.Hub.After = (_, _, message, answer) =>
        {
            if (RaftMessage.TryReadHeader(message.Span, out RaftHeader header) && header.Kind == RaftMessageKind.SnapshotInstall && Interlocked.Increment(ref installs) == 1)
            {
                answer.Dispose();
                throw new IOException("the answer is lost");
            }

            return new(answer);
        };
        Term before = group.Group(leader).Status.Term;
        await group.RestartAsync(away);
        await group.WaitForAppliedAsync(last, away);
        LogIndex more = await group.WriteAsync("more");
        await group.WaitForAppliedAsync(more, away);

        // One; but on a machine that is late, others may have been elected meanwhile, and a new leader's copy covers more than the one before.
        long elections = group.Group(away).Status.Term.Value - before.Value;
        Assert.That(group.Machine(away).SnapshotsInstalled, Is.InRange(1, 1 + elections), group.Describe());
        int sent = Volatile.Read(ref installs);
        for (int i = 0; i < 3; i++)
            await group.WaitForAppliedAsync(await group.WriteAsync($"after {i}"), away);
        if (group.Group(away).Status.Term.Value == before.Value + elections)
            Assert.That(Volatile.Read(ref installs), Is.EqualTo(sent), "entries follow, not the same copy again");
    }

    [Test]
    public async Task A_follower_that_is_close_is_served_from_the_log()
    {
        await using DotNextHarness group = await CreateAsync(logTailBytesMax: 1024 * 1024, snapshotChunkBytes: 4096);
        int leader = await group.WaitForLeaderAsync();
        int away = (leader + 1) % 3;
        await group.KillAsync(away);
        LogIndex last = await WriteManyAsync(group, 50);
        await CompactAsync(group, leader, (leader + 2) % 3, mustDrop: false);
        await group.RestartAsync(away);
        await group.WaitForAppliedAsync(last, away);
        Assert.That(group.Machine(leader).SnapshotsWritten, Is.Zero);
        Assert.That(group.Machine(away).Commands, Has.Count.EqualTo(50));
        // Now that all have it, it goes.
        foreach (int replica in (int[])[leader, (leader + 2) % 3])
            await group.WaitUntilAsync(() => group.Log(replica).CompactedIndex.Value > 40, $"replica {replica} to drop what all have");
    }

    [Test]
    public async Task A_copy_that_cannot_be_written_is_tried_again()
    {
        await using DotNextHarness group = await CreateAsync(logTailBytesMax: 256, snapshotChunkBytes: 4096);
        int leader = await group.WaitForLeaderAsync();
        int away = (leader + 1) % 3;
        await group.KillAsync(away);
        LogIndex last = await WriteManyAsync(group, 50);
        await CompactAsync(group, leader, (leader + 2) % 3);
        InMemoryFileSystem disk = (InMemoryFileSystem)group.Options.FileSystem;
        long capacity = disk.CapacityBytes;
        disk.CapacityBytes = 0;
        await group.RestartAsync(away);
        await group.WaitUntilAsync(() => group.Machine(leader).SnapshotsWritten > 0, "a try");
        Assert.That(group.Group(leader).Status.Fault, Is.Null);
        disk.CapacityBytes = capacity;
        await group.WaitForAppliedAsync(last, away);
    }

    private static async Task<DotNextHarness> CreateAsync(long logTailBytesMax, int snapshotChunkBytes) => await DotNextHarness.CreateAsync(
        3, preferredLeader: 0, DotNextHarness.CreateOptions() with { LogTailBytesMax = logTailBytesMax, SnapshotChunkBytes = snapshotChunkBytes });

    private static async Task<LogIndex> WriteManyAsync(DotNextHarness group, int count)
    {
        int before = group.Machine(await group.WaitForLeaderAsync()).Commands.Count;
        LogIndex last = default;
        for (int i = before; i < before + count; i++)
            last = await group.WriteAsync($"entry {i}");
        return last;
    }

    private static async Task CompactAsync(DotNextHarness group, int leader, int follower, bool mustDrop = true)
    {
        foreach (int replica in (int[])[leader, follower])
        {
            await group.WaitForAppliedAsync(group.Group(leader).CommitIndex, replica);
            group.Group(replica).ReleaseLog(group.Machine(replica).MakeDurable());
            if (mustDrop)
                Assert.That(group.Log(replica).CompactedIndex.Value, Is.GreaterThan(0), $"replica {replica}");
        }
    }
}
