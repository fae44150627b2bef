using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;
using ShardForge.Testing;

namespace ShardForge.Tests.Consensus.NodeLog;

/// <summary>What a node log does while nothing goes wrong.</summary>
public sealed class NodeLogTests
{
    [Test]
    public async Task What_was_appended_is_there_after_a_clean_reopen()
    {
        await using LogFixture fixture = new();
        IReplicaLog log = await fixture.CreateAsync(1);
        await log.SetHardStateAsync(new(3), new(7));
        Assert.That(log.TryAppend(new(3), RaftEntryKind.NoOp, default, out LogIndex index));
        Assert.That(index, Is.EqualTo(new LogIndex(1)));
        Assert.That(log.TryAppend(new(3), RaftEntryKind.Command, LogFixture.Payload(1, 100), out index));
        await log.WaitDurableAsync(index);
        Assert.That(log.DurableIndex, Is.EqualTo(new LogIndex(2)));

        await fixture.ReopenAsync();
        log = fixture.Replica(1);
        Assert.That(log.Term, Is.EqualTo(new Term(3)));
        Assert.That(log.VotedFor, Is.EqualTo(new ReplicaId(7)));
        Assert.That(log.LastIndex, Is.EqualTo(new LogIndex(2)));
        Assert.That(log.LastTerm, Is.EqualTo(new Term(3)));
        using ReplicaLogLease lease = log.Read(new(1), new(2), 1000);
        Assert.That(lease.Entries.Span[0].Kind, Is.EqualTo(RaftEntryKind.NoOp));
        Assert.That(lease.Entries.Span[1].Payload.ToArray(), Is.EqualTo(LogFixture.Payload(1, 100)));
    }

    [Test]
    public async Task An_append_of_another_term_is_refused()
    {
        await using LogFixture fixture = new();
        IReplicaLog log = await fixture.CreateAsync(1);
        Assert.That(log.TryAppend(new(2), RaftEntryKind.Command, default, out _), Is.False);
        await log.SetHardStateAsync(new(2), default);
        Assert.That(log.TryAppend(new(1), RaftEntryKind.Command, default, out _), Is.False);
        Assert.That(log.TryAppend(new(2), RaftEntryKind.Command, default, out _), Is.True);
    }

    [Test]
    public async Task A_follower_truncates_at_a_conflict_of_terms_only()
    {
        await using LogFixture fixture = new();
        IReplicaLog log = await fixture.CreateAsync(1);
        await log.SetHardStateAsync(new(5), default);
        await log.AppendAsync(new(1), LogFixture.Entries((1, 10), (1, 11), (2, 12), (2, 13)), default);
        await log.AppendAsync(new(2), LogFixture.Entries((1, 99), (2, 99)), default);
        Assert.That(LogFixture.Describe(log), Is.EqualTo("1:10 1:11 2:12 2:13"), "same terms: a late request changes nothing, and does not shorten");
        await log.AppendAsync(new(3), LogFixture.Entries((3, 20)), new(2));
        Assert.That(LogFixture.Describe(log), Is.EqualTo("1:10 1:11 3:20"));
        await fixture.ReopenAsync();
        Assert.That(LogFixture.Describe(fixture.Replica(1)), Is.EqualTo("1:10 1:11 3:20"));
    }

    [Test]
    public async Task Compaction_keeps_term_and_configuration_of_its_index()
    {
        await using LogFixture fixture = new();
        IReplicaLog log = await fixture.CreateAsync(1);
        byte[] configuration = new RaftConfiguration([new(new(1), "n1"), new(new(2), "n2")]).Encode();
        log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(1, 10), out _);
        log.TryAppend(new(1), RaftEntryKind.Configuration, configuration, out LogIndex index);
        log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(3, 10), out LogIndex last);
        Assert.That(log.LastConfiguration.Index, Is.EqualTo(index));
        await log.WaitDurableAsync(last);
        log.Compact(index);
        Assert.That(log.TermAt(new(1)), Is.Null);
        Assert.That(log.TermAt(index), Is.EqualTo(new Term(1)));
        Assert.Throws<ArgumentOutOfRangeException>(() => log.Read(index, last, 100));
        await fixture.ReopenAsync();
        log = fixture.Replica(1);
        Assert.That(log.CompactedIndex, Is.EqualTo(index));
        Assert.That(log.CompactedConfiguration.ToArray(), Is.EqualTo(configuration));
        Assert.That(log.LastConfiguration.Configuration.ToArray(), Is.EqualTo(configuration));
        Assert.That(log.LastIndex, Is.EqualTo(last));
    }

    [Test]
    public async Task A_snapshot_drops_a_tail_of_another_term_and_keeps_one_of_the_same([Values] bool same)
    {
        await using LogFixture fixture = new();
        IReplicaLog log = await fixture.CreateAsync(1);
        await log.SetHardStateAsync(new(4), default);
        await log.AppendAsync(new(1), LogFixture.Entries((1, 10), (1, 11), (1, 12)), default);
        await log.ResetToSnapshotAsync(new(2), new(same ? 1 : 2), new byte[] { 5 }, generation: 9);
        string expected = same ? "1:12" : "";
        Assert.That(LogFixture.Describe(log), Is.EqualTo(expected));
        Assert.That(log.LastIndex, Is.EqualTo(new LogIndex(same ? 3 : 2)));
        Assert.That(log.Generation, Is.EqualTo(9));
        await fixture.ReopenAsync();
        log = fixture.Replica(1);
        Assert.That(LogFixture.Describe(log), Is.EqualTo(expected));
        Assert.That(log.Generation, Is.EqualTo(9));
        Assert.That(log.CompactedTerm, Is.EqualTo(new Term(same ? 1 : 2)));
        await log.AppendAsync(log.LastIndex.Next, LogFixture.Entries((4, 13)), default);
        Assert.That(log.LastTerm, Is.EqualTo(new Term(4)));
    }

    [Test]
    public async Task A_removed_replica_stays_known()
    {
        await using LogFixture fixture = new();
        await fixture.CreateAsync(1);
        await fixture.CreateAsync(2);
        await fixture.Log.RemoveReplicaAsync(new(1));
        Assert.That(fixture.Log.Replicas.Select(static replica => replica.Replica), Is.EqualTo(new ReplicaId[] { new(2) }));
        Assert.ThrowsAsync<InvalidOperationException>(async () => await fixture.CreateAsync(1));
        await fixture.ReopenAsync();
        Assert.That(fixture.Log.WasCreated(new(1)));
        Assert.That(fixture.Log.WasCreated(new(2)));
        Assert.That(fixture.Log.WasCreated(new(3)), Is.False);
        Assert.ThrowsAsync<InvalidOperationException>(async () => await fixture.CreateAsync(1));
        Assert.That(fixture.Log.GetDescriptor(new(2)).ToArray(), Is.EqualTo(new byte[] { 2 }));
        Assert.Throws<InvalidOperationException>(() => fixture.Log.GetDescriptor(new(1)));
    }

    [Test]
    public async Task Old_entries_come_from_segments_and_segments_go_when_nobody_needs_them()
    {
        await using LogFixture fixture = new(new() { SegmentBytes = 128 * 1024, CacheBytesMax = 20_000 });
        IReplicaLog log = await fixture.CreateAsync(1);
        IReplicaLog idle = await fixture.CreateAsync(2);
        await idle.SetHardStateAsync(new(2), new(9));
        for (int i = 1; i <= 600; i++)
        {
            log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(i, 1000), out LogIndex index);
            await log.WaitDurableAsync(index);
        }

        LogFixture.AssertPayloads(log, 1000);
        Assert.That(fixture.SegmentCount, Is.GreaterThan(10));
        log.Compact(new(590));
        for (int i = 601; i <= 800; i++)
        {
            log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(i, 1000), out LogIndex index);
            await log.WaitDurableAsync(index);
            log.Compact(new(i - 5));
        }

        await fixture.UntilAsync(() => fixture.SegmentCount <= 4, "segments of compacted entries go");
        await fixture.ReopenAsync();
        LogFixture.AssertPayloads(fixture.Replica(1), 1000);
        Assert.That(fixture.Replica(2).VotedFor, Is.EqualTo(new ReplicaId(9)));
    }

    [Test]
    public async Task Concurrent_appenders_of_many_replicas_share_flushes_and_lose_nothing()
    {
        await using LogFixture fixture = new(new() { SegmentBytes = 1024 * 1024 });
        const int replicas = 20, entries = 200;
        IReplicaLog[] logs = new IReplicaLog[replicas];
        for (int i = 0; i < replicas; i++)
            logs[i] = await fixture.CreateAsync((ulong)i + 1);
        int flushesBefore = fixture.FlushCount;
        await Task.WhenAll(logs.SelectMany(log => Enumerable.Range(0, 4).Select(_ => Task.Run(async () =>
        {
            for (int i = 0; i < entries / 4; i++)
            {
                log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload((int)log.Replica.Value, 50 + i), out LogIndex index);
                await log.WaitDurableAsync(index);
            }
        }))));
        Assert.That(fixture.FlushCount - flushesBefore, Is.LessThan(replicas * entries / 4), "waiting entries share flushes");
        await fixture.ReopenAsync();
        for (int i = 0; i < replicas; i++)
            Assert.That(fixture.Replica((ulong)i + 1).LastIndex, Is.EqualTo(new LogIndex(entries)));
    }
}
