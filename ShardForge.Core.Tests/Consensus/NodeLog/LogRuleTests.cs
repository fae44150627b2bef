using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;
using ShardForge.Testing;

namespace ShardForge.Tests.Consensus.NodeLog;

/// <summary>The rules of the log (R29 to R36), each with the history that it forbids.</summary>
public sealed class LogRuleTests
{
    private const string First = LogFixture.Directory + "/0000000000000001.seg";

    [Test]
    public async Task R29_a_torn_batch_is_cut_off_whole_and_its_records_never_come_back()
    {
        await using LogFixture fixture = new();
        IReplicaLog log = await fixture.CreateAsync(1);
        await log.SetHardStateAsync(new(6), default);
        long end = fixture.Log.DurablePosition;
        await fixture.Log.KillAsync();

        // A batch nobody was told of: a state, then a vote for 10 in term 7 in the next sector. The disk wrote only that second sector whole.
        byte[] segment = fixture.ReadAll(First);
        uint seed = LogFormat.Seed(LogFormat.ReadHeader(segment, First).LogId, 1);
        byte[] torn = new byte[2 * 4096];
        int voteAt = 4096;
        Record(torn.AsSpan(37, voteAt - 37), seed, end + 37, 1, LogRecordKind.Entry, LogBody.Entry(new(1), new(6), RaftEntryKind.Command, new byte[voteAt - 37 - 34]));
        Record(torn.AsSpan(voteAt, 33), seed, end + voteAt, 1, LogRecordKind.HardState, LogBody.HardState(new(7), new(10)));
        LogFormat.WritePromise(torn, seed, end, new LogPromise(new LogPoint(1, end), voteAt + 33));
        torn[100] ^= 1;
        fixture.Write(First, end, torn);
        Assert.That(LogFormat.TryReadRecord(fixture.ReadAll(First).AsSpan((int)end + voteAt), seed, end + voteAt, out _, out _), "the old vote is a valid record where it lies");

        fixture.Reopen();
        log = fixture.Replica(1);
        Assert.That((log.Term, log.VotedFor, log.LastIndex), Is.EqualTo((new Term(6), new ReplicaId(0), new LogIndex(0))));
        Assert.That(fixture.ReadAll(First).AsSpan((int)end).ContainsAnyExcept((byte)0), Is.False, "nothing is left of it");

        // The next life writes a batch of the same shape there and loses the power: only one vote can be found.
        for (int seedOfCut = 1; seedOfCut < 10; seedOfCut++)
        {
            Assert.That(log.TryAppend(new(6 + seedOfCut - 1), RaftEntryKind.Command, new byte[voteAt - 37 - 34], out _));
            await log.SetHardStateAsync(new(6 + seedOfCut), new(20));
            await fixture.CutPowerAndReopenAsync(seedOfCut);
            log = fixture.Replica(1);
            Assert.That((log.Term, log.VotedFor), Is.EqualTo((new Term(6 + seedOfCut), new ReplicaId(20))));
        }
    }

    [Test]
    public async Task R29_bytes_of_a_log_inside_a_value_are_not_taken_for_a_promise()
    {
        await using LogFixture fixture = new();
        IReplicaLog log = await fixture.CreateAsync(1);
        long start = fixture.Log.DurablePosition;

        // The value is long enough to hold a block boundary; there lies a promise that is valid in another place, and promises all of this log.
        byte[] value = new byte[8192];
        int boundary = 4096 - 37 - 34;
        Guid logId = LogFormat.ReadHeader(fixture.ReadAll(First), First).LogId;
        LogFormat.WritePromise(value.AsSpan(boundary), LogFormat.Seed(logId, 2), start + 4096, new LogPromise(new LogPoint(1, 60_000), 37));
        log.TryAppend(new(1), RaftEntryKind.Command, value, out LogIndex index);
        await log.WaitDurableAsync(index);
        await fixture.Log.KillAsync();
        byte[] segment = fixture.ReadAll(First);
        ReadOnlySpan<byte> there = segment.AsSpan((int)start + 4096);
        Assert.That(LogFormat.TryReadPromise(there, LogFormat.Seed(logId, 2), start + 4096, out _), "without the segment's number in the checksum it would count");
        Assert.That(LogFormat.TryReadPromise(there, LogFormat.Seed(logId, 1), start + 4096, out _), Is.False);

        fixture.Write(First, start + 60, [0xEE]);
        fixture.Reopen();
        Assert.That(fixture.Replica(1).LastIndex, Is.EqualTo(new LogIndex(0)), "the torn tail is cut; the false promise does not make it damage");
    }

    [Test]
    public async Task R29_damage_before_a_later_promise_is_reported_and_nothing_changed()
    {
        await using LogFixture fixture = new();
        IReplicaLog log = await fixture.CreateAsync(1);
        long start = fixture.Log.DurablePosition;
        for (int i = 1; i <= 3; i++)
        {
            log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(i, 100), out LogIndex index);
            await log.WaitDurableAsync(index);
        }

        await fixture.Log.KillAsync();
        fixture.Flip(First, start + 70);
        fixture.Files.KeepsLog = true;
        CorruptionException damage = Assert.Throws<CorruptionException>(fixture.Reopen)!;
        Assert.That((damage.Path, damage.Offset), Is.EqualTo((First, start)));
        Assert.That(fixture.Files.TakeLog().Where(static line => !line.StartsWith("open", StringComparison.Ordinal)), Is.Empty);
        fixture.Flip(First, start + 70);
        fixture.Reopen();
        Assert.That(fixture.Replica(1).LastIndex, Is.EqualTo(new LogIndex(3)));
    }

    [Test]
    public async Task R29_damage_is_found_from_the_next_segment_too()
    {
        await using LogFixture fixture = new();
        IReplicaLog log = await fixture.CreateAsync(1);
        while (fixture.SegmentCount < 3)
        {
            log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(1, 3000), out LogIndex index);
            await log.WaitDurableAsync(index);
        }

        await fixture.Log.KillAsync();
        fixture.Flip(First, 64 * 1024 - 4096 + 50);
        Assert.That(Assert.Throws<CorruptionException>(fixture.Reopen)!.Path, Is.EqualTo(First));
        fixture.Flip(First, 64 * 1024 - 4096 + 50);
        fixture.Files.Rename(First, "/data/elsewhere");
        Assert.Throws<CorruptionException>(fixture.Reopen, "the oldest segment is missing: no record tells the replica's state");
        fixture.Files.Rename("/data/elsewhere", First);
        fixture.Reopen();
    }

    [Test]
    public async Task R29_the_last_batch_is_covered_once_the_log_fell_idle([Values] bool fallsIdle)
    {
        await using LogFixture fixture = new(new() { SegmentBytes = 64 * 1024, IdleDelay = fallsIdle ? TimeSpan.FromMilliseconds(1) : Timeout.InfiniteTimeSpan });
        IReplicaLog log = await fixture.CreateAsync(1);
        long start = fixture.Log.DurablePosition;
        log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(1, 100), out LogIndex index);
        await log.WaitDurableAsync(index);
        if (fallsIdle)
        {
            long behind = fixture.Log.DurablePosition;
            await fixture.UntilAsync(() => fixture.Log.DurablePosition > behind || behind > start + 4096, "a promise follows");
        }

        await fixture.Log.KillAsync();
        // Idle promises may lie between: the entry's batch is the one that has its bytes.
        long entryAt = fixture.ReadAll(First).AsSpan().IndexOf(LogFixture.Payload(1, 100));
        fixture.Flip(First, entryAt);
        if (fallsIdle)
        {
            Assert.Throws<CorruptionException>(fixture.Reopen);
            fixture.Flip(First, entryAt);
        }

        fixture.Reopen();
        Assert.That(fixture.Replica(1).LastIndex, Is.EqualTo(new LogIndex(fallsIdle ? 1 : 0)), "without the promise the loss is not noticed: the documented limit");
    }

    [Test]
    public async Task R29_what_a_failed_flush_left_in_the_cache_is_not_relied_on_before_it_is_written_again()
    {
        LogFixture fixture = new();
        IReplicaLog log = await fixture.CreateAsync(1);
        fixture.Files.FailWhen(static operation => operation.Kind == FileOperationKind.Flush);
        Assert.ThrowsAsync<IOException>(async () => await log.SetHardStateAsync(new(2), new(5)));
        await fixture.Log.KillAsync();

        // The process starts again; the page with the vote reads back, although no flush will ever bring it to the disk.
        fixture.Reopen();
        Assert.That((fixture.Replica(1).Term, fixture.Replica(1).VotedFor), Is.EqualTo((new Term(2), new ReplicaId(5))));
        await fixture.CutPowerAndReopenAsync(seed: 1);
        Assert.That((fixture.Replica(1).Term, fixture.Replica(1).VotedFor), Is.EqualTo((new Term(2), new ReplicaId(5))), "it was answered from, so it must stay");
        await fixture.DisposeAsync();
    }

    [Test]
    public async Task R30_a_slow_replica_does_not_pin_the_disk_and_keeps_all_that_it_has()
    {
        await using LogFixture fixture = new(new() { SegmentBytes = 64 * 1024, RetainedBytesMax = 256 * 1024, CacheBytesMax = 10_000 });
        List<ReplicaId> wanted = [];
        fixture.Log.CompactionWanted += replica =>
        {
            wanted.Add(replica);
            throw new InvalidOperationException("A listener's error does not stop the log.");
        };
        IReplicaLog slow = await fixture.CreateAsync(1), removed = await fixture.CreateAsync(2), busy = await fixture.CreateAsync(3);
        await slow.SetHardStateAsync(new(4), new(9));
        await slow.ResetToSnapshotAsync(new(4), new(3), new byte[] { 7 }, generation: 3);
        await slow.AppendAsync(new(5), LogFixture.Entries((4, 5), (4, 6), (4, 7)), default);
        await fixture.Log.RemoveReplicaAsync(removed.Replica);
        await fixture.Log.CreateReplicaAsync(new(4), default, default);
        for (int i = 1; i <= 400; i++)
        {
            busy.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(i, 3000), out LogIndex index);
            await busy.WaitDurableAsync(index);
            busy.Compact(index);
        }

        Assert.That(wanted, Does.Contain(slow.Replica), "it was asked first");
        Assert.That(fixture.Log.RetainedBytes, Is.LessThan(512 * 1024));
        Assert.That(fixture.Files.FileExists(First), Is.False);
        Assert.That(LogFixture.Describe(slow), Is.EqualTo("4:5 4:6 4:7"));
        // In the order of the disk entry 5 now stands behind others; it fills its place and is no truncation.
        await slow.AppendAsync(new(8), LogFixture.Entries((4, 8)), default);
        await fixture.CutPowerAndReopenAsync(seed: 3);
        slow = fixture.Replica(1);
        Assert.That(LogFixture.Describe(slow), Is.EqualTo("4:5 4:6 4:7 4:8"));
        Assert.That((slow.Term, slow.VotedFor, slow.Generation, slow.CompactedIndex, slow.CompactedTerm), Is.EqualTo((new Term(4), new ReplicaId(9), 3L, new LogIndex(4), new Term(3))));
        Assert.That(slow.CompactedConfiguration.ToArray(), Is.EqualTo(new byte[] { 7 }));
        Assert.That(fixture.Log.WasCreated(new(2)) && fixture.Log.WasCreated(new(4)));
        Assert.That(fixture.Log.Replicas.Select(static replica => replica.Replica.Value), Is.EquivalentTo(new ulong[] { 1, 3, 4 }));
    }

    [Test]
    public async Task R31_the_end_file_notices_a_missing_last_batch_and_goes_before_the_first_append()
    {
        await using LogFixture fixture = new();
        IReplicaLog log = await fixture.CreateAsync(1);
        long start = fixture.Log.DurablePosition;
        await log.SetHardStateAsync(new(2), new(1));
        await fixture.Log.DisposeAsync();
        byte[] batch = fixture.ReadAll(First).AsSpan((int)start, 4096).ToArray();
        fixture.Write(First, start, new byte[4096]);
        Assert.Throws<CorruptionException>(fixture.Reopen);
        fixture.Write(First, start, batch);

        fixture.Files.KeepsLog = true;
        fixture.Reopen();
        Assert.That(fixture.Files.TakeLog().Where(static line => !line.StartsWith("open", StringComparison.Ordinal)), Is.Empty, "an open after a clean close writes nothing");
        await fixture.Replica(1).SetHardStateAsync(new(3), default);
        Assert.That(fixture.Files.TakeLog(), Is.EqualTo(new[] { "delete end", "flush-directory log", "write 0000000000000001.seg 12288+4096", "flush 0000000000000001.seg" }));
    }

    [Test]
    public async Task R34_a_full_disk_refuses_commands_leaves_room_for_votes_and_recovers_by_compaction()
    {
        await using LogFixture fixture = new(new() { SegmentBytes = 64 * 1024 });
        IReplicaLog log = await fixture.CreateAsync(1);
        fixture.Files.CapacityBytes = 64 * 1024 * 4;
        int count = 0;
        OverloadedException? refused = null;
        for (; refused is null && count < 1000; count++)
        {
            try
            {
                log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(count, 2000), out LogIndex index);
                await log.WaitDurableAsync(index);
            }
            catch (OverloadedException error)
            {
                refused = error;
            }
        }

        Assert.That(refused?.IsTransient, Is.True);
        Assert.That(fixture.Log.HasRoom, Is.False);
        await log.SetHardStateAsync(new(2), new(1));
        Assert.That(log.TryAppend(new(2), RaftEntryKind.NoOp, default, out LogIndex noOp), "a new leader's first entry has room");
        await log.WaitDurableAsync(noOp);
        using (ReplicaLogLease lease = log.Read(new(1), noOp, long.MaxValue))
            Assert.That(lease.Entries.Length, Is.EqualTo(noOp.Value), "reads go on");
        log.Compact(noOp.Previous);
        await fixture.UntilAsync(() => fixture.Log.HasRoom, "freed segments become room");
        log.TryAppend(new(2), RaftEntryKind.Command, LogFixture.Payload(1, 2000), out LogIndex last);
        await log.WaitDurableAsync(last);
        await fixture.ReopenAsync();
        Assert.That(fixture.Replica(1).LastIndex, Is.EqualTo(last));
    }

    [Test]
    public async Task R35_a_failed_flush_is_final()
    {
        LogFixture fixture = new();
        IReplicaLog log = await fixture.CreateAsync(1), other = await fixture.CreateAsync(2);
        List<Exception> failures = [];
        fixture.Log.Failed += failures.Add;
        log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(1, 100), out LogIndex durable);
        await log.WaitDurableAsync(durable);
        fixture.Files.FailWhen(static operation => operation.Kind == FileOperationKind.Flush);
        log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(2, 100), out LogIndex lost);
        Assert.ThrowsAsync<IOException>(async () => await log.WaitDurableAsync(lost));
        await fixture.UntilAsync(() => failures.Count == 1, "the event comes");
        Assert.That(log.DurableIndex, Is.EqualTo(durable));
        Assert.That(log.Failure, Is.SameAs(failures[0]));
        int flushes = fixture.FlushCount;
        Assert.ThrowsAsync<IOException>(async () => await other.SetHardStateAsync(new(9), default));
        Assert.Throws<IOException>(() => other.TryAppend(new(1), RaftEntryKind.NoOp, default, out _));
        Assert.Throws<IOException>(() => log.Compact(durable));
        Assert.That(other.Term, Is.EqualTo(new Term(1)));
        await fixture.DisposeAsync();
        Assert.That(fixture.FlushCount, Is.EqualTo(flushes), "never flushed again");
        Assert.That(fixture.Files.FileExists(LogFixture.Directory + "/end"), Is.False);
    }

    [Test]
    public async Task R36_an_entry_larger_than_a_segment_comes_back_and_others_do_not_wait_for_it()
    {
        await using LogFixture fixture = new(new() { SegmentBytes = 64 * 1024, FragmentBytes = 8 * 1024, LargeBytesPerBatch = 16 * 1024, CacheBytesMax = 0 });
        IReplicaLog large = await fixture.CreateAsync(1), small = await fixture.CreateAsync(2);
        using ManualResetEventSlim smallIsDone = new();
        int flushes = 0;
        fixture.Files.BeforeOperation = operation =>
        {
            if (operation.Kind == FileOperationKind.Flush && ++flushes == 10)
                Assert.That(smallIsDone.Wait(TimeSpan.FromSeconds(20)), "the small entry is durable while the large one is still being written");
        };
        byte[] payload = LogFixture.Payload(3, 700_000);
        large.TryAppend(new(1), RaftEntryKind.Command, payload, out LogIndex index);
        small.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(4, 10), out LogIndex smallIndex);
        await small.WaitDurableAsync(smallIndex);
        Assert.That(large.DurableIndex, Is.EqualTo(new LogIndex(0)));
        smallIsDone.Set();
        await large.WaitDurableAsync(index);
        large.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(5, 10), out index);
        await large.WaitDurableAsync(index);
        for (int i = 0; i < 2; i++)
        {
            using (ReplicaLogLease lease = large.Read(new(1), index, long.MaxValue))
            {
                Assert.That(lease.Entries.Span[0].Payload.Span.SequenceEqual(payload));
                Assert.That(lease.Entries.Span[1].Payload.Span.SequenceEqual(LogFixture.Payload(5, 10)));
            }

            await fixture.KillAndReopenAsync();
            large = fixture.Replica(1);
        }
    }

    [Test]
    public async Task R36_an_unfinished_chain_of_fragments_is_void()
    {
        LogFixture fixture = new(new() { SegmentBytes = 64 * 1024, FragmentBytes = 4 * 1024, LargeBytesPerBatch = 4 * 1024 });
        IReplicaLog log = await fixture.CreateAsync(1);
        int writes = 0;
        fixture.Files.FailWhen(operation => operation.Kind == FileOperationKind.Write && ++writes == 5, FileFault.PowerOff);
        log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(1, 60_000), out LogIndex index);
        Assert.ThrowsAsync<IOException>(async () => await log.WaitDurableAsync(index));
        await fixture.CutPowerAndReopenAsync(seed: 2);
        log = fixture.Replica(1);
        Assert.That(log.LastIndex, Is.EqualTo(new LogIndex(0)));
        await log.SetHardStateAsync(new(2), default);
        log.TryAppend(new(2), RaftEntryKind.Command, LogFixture.Payload(9, 30_000), out index);
        await log.WaitDurableAsync(index);
        await fixture.CutPowerAndReopenAsync(seed: 3);
        LogFixture.AssertPayload(fixture.Replica(1), 1, LogFixture.Payload(9, 30_000));
        await fixture.DisposeAsync();
    }

    [Test]
    public async Task Every_flipped_byte_is_noticed_or_harmless()
    {
        LogFixture fixture = new(new() { SegmentBytes = 64 * 1024, FragmentBytes = 4 * 1024 });
        IReplicaLog log = await fixture.CreateAsync(1);
        await log.SetHardStateAsync(new(2), new(1));
        log.TryAppend(new(2), RaftEntryKind.Command, LogFixture.Payload(1, 300), out _);
        log.TryAppend(new(2), RaftEntryKind.Configuration, LogFixture.Payload(2, 30), out LogIndex index);
        await log.WaitDurableAsync(index);
        log.Compact(new(1));
        await log.AppendAsync(index.Next, new[] { new ReplicaLogEntry(new(2), RaftEntryKind.Command, LogFixture.Payload(3, 5_000)) }, default);
        string expected = ReplicaModel.Describe(log);
        await fixture.Log.DisposeAsync();
        int noticed = 0, harmless = 0;
        foreach (string path in fixture.Files.ListFiles(LogFixture.Directory))
        {
            byte[] bytes = fixture.ReadAll(path);
            for (int at = 0; at < bytes.Length; at += bytes[at] == 0 ? 61 : at % 4096 < 700 ? 1 : 9)
            {
                fixture.Flip(path, at);
                try
                {
                    fixture.Reopen();
                    Assert.That(ReplicaModel.Describe(fixture.Replica(1)), Is.EqualTo(expected), $"byte {at} of {path}");
                    await fixture.Log.KillAsync();
                    harmless++;
                }
                catch (CorruptionException)
                {
                    noticed++;
                }

                fixture.Flip(path, at);
            }
        }

        Assert.That(noticed, Is.GreaterThan(500));
        Assert.That(harmless, Is.GreaterThan(10));
    }

    [Test]
    public async Task A_record_damaged_after_the_open_is_noticed_by_the_read()
    {
        await using LogFixture fixture = new(new() { SegmentBytes = 64 * 1024, CacheBytesMax = 0 });
        IReplicaLog log = await fixture.CreateAsync(1);
        for (int i = 1; i <= 3; i++)
        {
            log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload(i, 500), out LogIndex index);
            await log.WaitDurableAsync(index);
        }

        long at = fixture.ReadAll(First).AsSpan().IndexOf(LogFixture.Payload(2, 500));
        fixture.Flip(First, at + 100);
        CorruptionException damage = Assert.Throws<CorruptionException>(() => log.Read(new(1), new(3), long.MaxValue))!;
        Assert.That((damage.Path, damage.Offset), Is.EqualTo((First, at - 34)));
        fixture.Flip(First, at + 100);
        LogFixture.AssertPayloads(log, 500);
    }

    private static void Record(Span<byte> target, uint seed, long offset, ulong replica, LogRecordKind kind, byte[] body)
    {
        body.CopyTo(target[LogFormat.RecordHeaderBytes..]);
        LogFormat.SealRecord(target, seed, offset, new(replica), kind);
    }
}
