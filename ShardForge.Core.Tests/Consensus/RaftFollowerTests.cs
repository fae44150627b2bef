using NUnit.Framework;
using ShardForge.Consensus;
using ShardForge.Network;

namespace ShardForge.Tests.Consensus;

/// <summary>What a follower answers to messages in the orders that networks make of them.</summary>
internal sealed class RaftFollowerTests
{
    [Test]
    public async Task Entries_are_taken_committed_and_applied()
    {
        await using HandMadeLeader leader = await HandMadeLeader.CreateAsync();
        (Term term, RaftAppendResult result, LogIndex last) = await leader.AppendAsync(term: 2, previous: 0, previousTerm: 0, commit: 1, [2, 2]);
        Assert.That((result, last), Is.EqualTo((RaftAppendResult.ReplicatedWithLeaderTerm, new LogIndex(2))));
        Assert.That(term, Is.LessThanOrEqualTo(new Term(2)));
        await leader.Harness.WaitForAppliedAsync(new LogIndex(1), 1);
        Assert.That(leader.Group.CommitIndex, Is.EqualTo(new LogIndex(1)));
        Assert.That(leader.Group.Status, Is.EqualTo(leader.Group.Status with { Term = new Term(2), Leader = RaftGroupHarness.IdOf(0), Role = RaftRole.Follower }));
        // What was committed later than it came is told by an append without entries.
        (_, result, _) = await leader.AppendAsync(term: 2, previous: 2, previousTerm: 2, commit: 2, []);
        Assert.That(result, Is.EqualTo(RaftAppendResult.ReplicatedWithLeaderTerm));
        await leader.Harness.WaitForAppliedAsync(new LogIndex(2), 1);
    }

    [Test]
    public async Task Rule03_A_late_append_does_not_shorten_the_log()
    {
        await using HandMadeLeader leader = await HandMadeLeader.CreateAsync();
        await leader.AppendAsync(term: 2, previous: 0, previousTerm: 0, commit: 0, [2, 2]);
        await leader.AppendAsync(term: 2, previous: 2, previousTerm: 2, commit: 0, [2, 2]);
        (_, RaftAppendResult result, LogIndex last) = await leader.AppendAsync(term: 2, previous: 0, previousTerm: 0, commit: 0, [2, 2]);
        Assert.That((result, last), Is.EqualTo((RaftAppendResult.ReplicatedWithLeaderTerm, new LogIndex(2))));
        Assert.That(leader.Log.LastIndex, Is.EqualTo(new LogIndex(4)));
    }

    [Test]
    public async Task Rule03_A_conflict_of_terms_shortens_the_log()
    {
        await using HandMadeLeader leader = await HandMadeLeader.CreateAsync();
        await leader.AppendAsync(term: 2, previous: 0, previousTerm: 0, commit: 1, [2, 2, 2]);
        await leader.AppendAsync(term: 3, previous: 1, previousTerm: 2, commit: 1, [3], sender: 2);
        Assert.That(leader.Log.LastIndex, Is.EqualTo(new LogIndex(2)));
        Assert.That(leader.Log.LastTerm, Is.EqualTo(new Term(3)));
    }

    [Test]
    public async Task Rule04_An_append_is_answered_after_its_flush()
    {
        await using HandMadeLeader leader = await HandMadeLeader.CreateAsync();
        await leader.AppendAsync(term: 2, previous: 0, previousTerm: 0, commit: 0, [2]);
        leader.Log.HoldFlushes();
        Task<(Term, RaftAppendResult, LogIndex)> append = leader.AppendAsync(term: 2, previous: 1, previousTerm: 2, commit: 0, [2]);
        await leader.Harness.WaitUntilAsync(() => leader.Log.LastIndex == new LogIndex(2), "the entry in the log");
        Assert.That(append.IsCompleted, Is.False);
        leader.Log.Flush();
        Assert.That((await append).Item2, Is.EqualTo(RaftAppendResult.ReplicatedWithLeaderTerm));
    }

    [Test]
    public async Task A_vote_is_answered_after_its_flush()
    {
        await using HandMadeLeader candidate = await HandMadeLeader.CreateAsync();
        candidate.Log.HoldFlushes();
        Task<(Term, bool IsGranted)> vote = candidate.AskVoteAsync(term: 2, lastIndex: 0, lastTerm: 0);
        await candidate.Harness.WaitUntilAsync(() => candidate.Log.Term == new Term(2), "the term in the log");
        Assert.That(vote.IsCompleted, Is.False);
        candidate.Log.ReleaseFlushes();
        Assert.That((await vote).IsGranted, Is.True);
        Assert.That(candidate.Log.VotedFor, Is.EqualTo(RaftGroupHarness.IdOf(2)));
        Assert.That((await candidate.AskVoteAsync(term: 2, lastIndex: 0, lastTerm: 0, sender: 0)).IsGranted, Is.False, "one vote a term");
        Assert.That((await candidate.AskVoteAsync(term: 2, lastIndex: 0, lastTerm: 0)).IsGranted, Is.True, "the same again");
    }

    [Test]
    public async Task Rule06_A_rejected_append_is_told_the_commit_index()
    {
        await using HandMadeLeader leader = await HandMadeLeader.CreateAsync();
        await leader.AppendAsync(term: 2, previous: 0, previousTerm: 0, commit: 3, [2, 2, 2, 2, 2]);
        (_, RaftAppendResult result, LogIndex last) = await leader.AppendAsync(term: 3, previous: 9, previousTerm: 3, commit: 3, [], sender: 2);
        Assert.That((result, last), Is.EqualTo((RaftAppendResult.Rejected, new LogIndex(3))));
    }

    [Test]
    public async Task Rule10_A_replica_that_was_started_again_keeps_still_for_one_lease()
    {
        await using HandMadeLeader candidate = await HandMadeLeader.CreateAsync(new RaftGroupOptions { IsNew = false });
        Assert.That((await candidate.AskVoteAsync(term: 5, lastIndex: 9, lastTerm: 4)).IsGranted, Is.False);
        Assert.That((await candidate.AskVoteAsync(term: 5, lastIndex: 9, lastTerm: 4, kind: RaftMessageKind.PreVote)).IsGranted, Is.False);
        Assert.That(candidate.Log.Term, Is.EqualTo(new Term(1)));
    }

    [Test]
    public async Task Rule10_It_votes_when_the_lease_is_over()
    {
        await using HandMadeLeader candidate = await HandMadeLeader.CreateAsync(
            new RaftGroupOptions { IsNew = false },
            DotNextHarness.CreateOptions() with { ElectionTimeoutLower = TimeSpan.FromMilliseconds(60), ElectionTimeoutUpper = TimeSpan.FromMinutes(5) });
        bool isGranted = false;
        long term = 2;
        while (!isGranted)
            isGranted = (await candidate.AskVoteAsync(term++, lastIndex: 9, lastTerm: 1)).IsGranted;
        Assert.That(candidate.Log.VotedFor, Is.EqualTo(RaftGroupHarness.IdOf(2)));
    }

    [Test]
    public async Task A_new_replica_votes_at_once_and_one_that_hears_a_leader_does_not()
    {
        await using HandMadeLeader peer = await HandMadeLeader.CreateAsync();
        Assert.That((await peer.AskVoteAsync(term: 2, lastIndex: 0, lastTerm: 0)).IsGranted, Is.True);
        await peer.AppendAsync(term: 2, previous: 0, previousTerm: 0, commit: 0, [2], sender: 2);
        Assert.That((await peer.AskVoteAsync(term: 3, lastIndex: 9, lastTerm: 2, sender: 0)).IsGranted, Is.False);
        Assert.That((await peer.AskVoteAsync(term: 2, lastIndex: 9, lastTerm: 2, sender: 0, kind: RaftMessageKind.PreVote)).IsGranted, Is.False);
    }

    [Test]
    public async Task R04_A_vote_that_waited_behind_an_append_is_not_given_after_it()
    {
        // The library looks whether a leader was heard before it queues for its lock: with an append ahead in the queue it would grant a vote right after it promised the leader its lease.
        await using HandMadeLeader peer = await HandMadeLeader.CreateAsync(
            nodeOptions: DotNextHarness.CreateOptions() with { ElectionTimeoutLower = TimeSpan.FromMilliseconds(20), ElectionTimeoutUpper = TimeSpan.FromMilliseconds(60) });
        peer.Log.HoldFlushes();
        Task<(Term, RaftAppendResult Result, LogIndex)> first = peer.AppendAsync(term: 2, previous: 0, previousTerm: 0, commit: 0, [2]);
        while (!first.IsCompleted && peer.Log.LastIndex.Value == 0)
        {
            peer.Log.Flush();           // the term's flush comes before the entry's
            await Task.Yield();
        }

        await peer.Harness.WaitElectionAsync();
        Task<(Term, RaftAppendResult Result, LogIndex)> second = peer.AppendAsync(term: 2, previous: 1, previousTerm: 2, commit: 0, [2]);
        Task<(Term, bool IsGranted)> vote = peer.AskVoteAsync(term: 9, lastIndex: 9, lastTerm: 2);
        peer.Log.ReleaseFlushes();
        await first;
        bool isPromised = (await second).Result != RaftAppendResult.Rejected;
        bool isGranted = (await vote).IsGranted;
        Assert.That(isPromised && isGranted, Is.False);
    }

    [Test]
    public async Task R04_A_hand_over_of_another_term_or_of_somebody_else_is_ignored()
    {
        await using HandMadeLeader peer = await HandMadeLeader.CreateAsync();
        await peer.AppendAsync(term: 3, previous: 0, previousTerm: 0, commit: 0, [3]);
        await peer.HandOverAsync(term: 2, heir: 2);
        await peer.HandOverAsync(term: 4, heir: 2);
        await peer.HandOverAsync(term: 3, heir: 2, sender: 2);
        Assert.That((await peer.AskVoteAsync(term: 4, lastIndex: 1, lastTerm: 3)).IsGranted, Is.False);
        await peer.HandOverAsync(term: 3, heir: 2);
        Assert.That((await peer.AskVoteAsync(term: 4, lastIndex: 1, lastTerm: 3)).IsGranted, Is.True);
    }

    [Test]
    public async Task A_snapshot_that_is_not_needed_is_answered_so()
    {
        await using HandMadeLeader leader = await HandMadeLeader.CreateAsync();
        await leader.AppendAsync(term: 2, previous: 0, previousTerm: 0, commit: 3, [2, 2, 2]);
        Assert.That(await leader.BeginSnapshotAsync(term: 2, transfer: 1, index: 3, indexTerm: 2), Is.EqualTo(SnapshotResult.NotNeeded));
        Assert.That(await leader.BeginSnapshotAsync(term: 1, transfer: 1, index: 9, indexTerm: 1), Is.EqualTo(SnapshotResult.Rejected));
        Assert.That(await leader.BeginSnapshotAsync(term: 2, transfer: 2, index: 4, indexTerm: 2), Is.EqualTo(SnapshotResult.Accepted));
    }

    [Test]
    public async Task A_snapshot_is_installed_as_a_new_generation()
    {
        await using HandMadeLeader leader = await HandMadeLeader.CreateAsync();
        await leader.AppendAsync(term: 2, previous: 0, previousTerm: 0, commit: 0, [2]);
        Assert.That(await leader.BeginSnapshotAsync(term: 2, transfer: 1, index: 10, indexTerm: 2), Is.EqualTo(SnapshotResult.Accepted));
        await SendStateAsync(leader, transfer: 1);
        RaftAnswer installed = await leader.InstallSnapshotAsync(term: 2, transfer: 1, index: 10, indexTerm: 2, "10", "4 d\n7 g", "");
        Assert.That((SnapshotResult)installed.Body.Span[0], Is.EqualTo(SnapshotResult.Accepted));
        await leader.Harness.WaitForAppliedAsync(new LogIndex(10), 1);
        Assert.That(leader.Machine.Commands, Is.EqualTo(new[] { (4L, "d"), (7L, "g") }));
        Assert.That(leader.Log.Generation, Is.EqualTo(2));
        Assert.That((leader.Log.CompactedIndex, leader.Log.LastIndex), Is.EqualTo((new LogIndex(10), new LogIndex(10))));
        (_, RaftAppendResult result, _) = await leader.AppendAsync(term: 2, previous: 10, previousTerm: 2, commit: 11, [2]);
        Assert.That(result, Is.EqualTo(RaftAppendResult.ReplicatedWithLeaderTerm));
        await leader.Harness.WaitForAppliedAsync(new LogIndex(11), 1);
    }

    [Test]
    public async Task A_damaged_or_disordered_chunk_is_refused_and_nothing_is_installed()
    {
        await using HandMadeLeader leader = await HandMadeLeader.CreateAsync();
        await leader.BeginSnapshotAsync(term: 2, transfer: 1, index: 10, indexTerm: 2);
        Assert.That((await leader.SendChunkAsync(2, 1, "index", 0, "10", crcFlip: 4)).Code, Is.EqualTo(RaftAnswerCode.NotUnderstood));
        Assert.That((await leader.SendChunkAsync(2, 1, "index", 5, "10")).Code, Is.EqualTo(RaftAnswerCode.NotUnderstood));
        Assert.That((await leader.SendChunkAsync(2, 1, "../index", 0, "10")).Code, Is.EqualTo(RaftAnswerCode.NotUnderstood));
        Assert.That((await leader.SendChunkAsync(2, 1, "/index", 0, "10")).Code, Is.EqualTo(RaftAnswerCode.NotUnderstood));
        RaftAnswer other = await leader.SendChunkAsync(2, 99, "index", 0, "10");
        Assert.That((SnapshotResult)other.Body.Span[0], Is.EqualTo(SnapshotResult.Rejected));

        await leader.BeginSnapshotAsync(term: 2, transfer: 2, index: 10, indexTerm: 2);
        await SendStateAsync(leader, transfer: 2);
        Assert.That((await leader.InstallSnapshotAsync(2, 2, 10, 2, "10", "4 d\n7 h", "")).Code, Is.EqualTo(RaftAnswerCode.NotUnderstood));
        Assert.That(leader.Log.Generation, Is.EqualTo(1));
        Assert.That(leader.Machine.SnapshotsInstalled, Is.Zero);
    }

    [Test]
    public async Task R42_What_is_not_for_this_replica_or_not_known_is_answered_so()
    {
        await using HandMadeLeader peer = await HandMadeLeader.CreateAsync();
        RaftHeader header = peer.Header(RaftMessageKind.HandOver, 2, sender: 0);
        async Task<RaftAnswerCode> CodeAsync(PeerBuffer message, int sender = 0, RaftMessageKind kind = RaftMessageKind.HandOver) => (await peer.TryAskAsync(sender, message, kind)).Code;

        Assert.That(await CodeAsync(RaftMessage.Create(header with { Target = new ReplicaId(99) }, 0)), Is.EqualTo(RaftAnswerCode.UnknownReplica));
        Assert.That(await CodeAsync(RaftMessage.Create(header with { Shard = new ShardId(8) }, 0)), Is.EqualTo(RaftAnswerCode.UnknownReplica));
        Assert.That(await CodeAsync(RaftMessage.Create(header with { Sender = new ReplicaId(99) }, 0)), Is.EqualTo(RaftAnswerCode.UnknownReplica));
        Assert.That(await CodeAsync(RaftMessage.Create(header, 0), sender: 2), Is.EqualTo(RaftAnswerCode.UnknownReplica), "a member, but from another node");
        Assert.That(await CodeAsync(RaftMessage.Create(header, 0)), Is.EqualTo(RaftAnswerCode.NotUnderstood), "no body");
        Assert.That(await CodeAsync(RaftMessage.Create(header with { Kind = (RaftMessageKind)77 }, 0), kind: (RaftMessageKind)77), Is.EqualTo(RaftAnswerCode.NotUnderstood));
        byte[] ofAnotherVersion = RaftMessage.Create(header, 0).Memory.ToArray();
        ofAnotherVersion[0] = 2;
        Assert.That(await CodeAsync(PeerBuffer.Copy(ofAnotherVersion)), Is.EqualTo(RaftAnswerCode.NotUnderstood));
        Assert.That(peer.Group.Status.Role, Is.EqualTo(RaftRole.Follower));
    }

    [Test]
    public async Task An_append_that_is_cut_anywhere_is_refused()
    {
        await using HandMadeLeader peer = await HandMadeLeader.CreateAsync();
        RaftHeader header = peer.Header(RaftMessageKind.Append, 2, sender: 0);
        using PeerBuffer whole = RaftMessage.Append(header, default, [new(new Term(2), RaftEntryKind.Command, new byte[5]), new(new Term(2), RaftEntryKind.Command, new byte[3])]);
        for (int length = RaftMessage.HeaderBytes; length < whole.Length; length++)
        {
            RaftAnswer answer = await peer.TryAskAsync(0, PeerBuffer.Copy(whole.Span[..length]), RaftMessageKind.Append);
            Assert.That(answer.Code, Is.EqualTo(RaftAnswerCode.NotUnderstood), $"{length} of {whole.Length} bytes");
        }

        Assert.That(peer.Log.LastIndex, Is.EqualTo(new LogIndex(0)));
    }

    [Test]
    public async Task R35_A_follower_whose_log_fails_stops_and_says_why()
    {
        await using HandMadeLeader leader = await HandMadeLeader.CreateAsync();
        await leader.AppendAsync(term: 2, previous: 0, previousTerm: 0, commit: 0, [2]);
        leader.Log.Fail(new IOException("the disk is gone"));
        await leader.Harness.WaitUntilAsync(() => leader.Group.Status.Role == RaftRole.Stopped, "the replica to stop");
        Assert.That(leader.Group.Status.Fault, Is.InstanceOf<IOException>());
        RaftAnswer answer = await leader.TryAskAsync(0, RaftMessage.Append(leader.Header(RaftMessageKind.Append, 2, 0), default, []), RaftMessageKind.Append);
        Assert.That(answer.Code, Is.EqualTo(RaftAnswerCode.Stopped));
    }

    private static async Task SendStateAsync(HandMadeLeader leader, long transfer)
    {
        await leader.SendChunkAsync(2, transfer, "index", 0, "10");
        await leader.SendChunkAsync(2, transfer, "deep/commands", 0, "4 d\n", isLast: false);
        await leader.SendChunkAsync(2, transfer, "deep/commands", 4, "7 g");
        await leader.SendChunkAsync(2, transfer, "empty", 0, "");
    }
}
