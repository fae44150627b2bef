using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Mvcc;
using ShardForge.Replication;
using ShardForge.Storage;
using static ShardForge.Tests.Replication.Requests;

namespace ShardForge.Tests.Replication;

/// <summary>Queues, limits, faults, snapshots and full disks of a replica.</summary>
internal sealed class ShardReplicaBoundsTests
{
    [Test]
    public async Task Commands_that_wait_share_an_entry()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync(configure: options => options with { EntriesInFlightMax = 1 });
        shard.Group.HoldsCommits = true;
        List<Task<ShardResponse>> writes = [.. Enumerable.Range(0, 100).Select(i => Write(shard, Put(i % 2 == 0 ? "hot" : $"k{i}", $"{i}")))];
        Assert.That(shard.Group.UncommittedCount, Is.EqualTo(1), "the first one alone, the others behind it");
        shard.Group.Commit();
        Assert.That(shard.Group.UncommittedCount, Is.EqualTo(1), "99 in one");
        shard.Group.Commit();
        Assert.That((await Task.WhenAll(writes)).Select(response => response.Status), Is.All.EqualTo(ShardStatus.Ok));
        Assert.That(writes.Where((_, i) => i % 2 == 0).Select(write => write.Result.Timestamp), Is.Ordered.And.Unique, "blind puts of one key, in the order in which they came");
        Assert.That(Text((await shard.Leader.ExecuteAsync(Get("hot"), CancellationToken.None)).Value), Is.EqualTo("98"));
    }

    [Test]
    public async Task Writes_beyond_the_bytes_in_flight_are_refused_until_others_are_applied()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync(configure: options => options with { Limits = new Limits { ProposalBytesMax = 300 } });
        shard.Group.HoldsCommits = true;
        Task<ShardResponse> first = Write(shard, Put("a", new string('x', 200)));
        Assert.That((await Write(shard, Put("b", new string('x', 200)))).Status, Is.EqualTo(ShardStatus.Overloaded));
        shard.Group.Commit();
        Assert.That((await first).Status, Is.EqualTo(ShardStatus.Ok));
        shard.Group.HoldsCommits = false;
        Assert.That((await Write(shard, Put("b", new string('x', 200)))).Status, Is.EqualTo(ShardStatus.Ok));
    }

    [Test]
    public async Task Writes_that_were_never_proposed_are_not_charged_after_the_leadership_is_lost()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync(configure: options => options with { EntriesInFlightMax = 1, Limits = new Limits { ProposalBytesMax = 1000 } });
        for (int round = 0; round < 20; round++)
        {
            int leader = 1 + (round % 2);
            shard.Group.Elect(ScriptedShard.ReplicaOf(new(1), leader));
            shard.Group.HoldsCommits = true;
            Task<ShardResponse>[] writes = [.. Enumerable.Range(0, 3).Select(i => Write(shard, Put($"k{i}", new string('x', 200))))];
            shard.Group.HoldsCommits = false;
            shard.Group.Elect(ScriptedShard.ReplicaOf(new(1), 3 - leader));
            Assert.That((await Task.WhenAll(writes)).Select(response => response.Status), Is.All.EqualTo(ShardStatus.NotLeader), $"round {round}");
        }
    }

    [Test]
    public async Task What_is_over_a_limit_is_refused_with_its_name()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync(configure: options => options with { Limits = new Limits { KeyBytesMax = 4, ValueBytesMax = 5, TransactionBytesMax = 12 } });
        Assert.That(async () => await Write(shard, Put("12345", "")), Throws.InstanceOf<LimitExceededException>().With.Property("Limit").EqualTo("Limits.KeyBytesMax"));
        Assert.That(async () => await Write(shard, Put("k", "123456")), Throws.InstanceOf<LimitExceededException>().With.Property("Limit").EqualTo("Limits.ValueBytesMax"));
        Assert.That(async () => await Write(shard, Batch([("1", "12345"), ("2", "12345"), ("3", "")])), Throws.InstanceOf<LimitExceededException>().With.Property("Limit").EqualTo("Limits.TransactionBytesMax"));
        Assert.That(async () => await Write(shard, Batch([("1", "a"), ("1", "b")])), Throws.ArgumentException);
        Assert.That(async () => await shard.Leader.ExecuteAsync(Get("12345"), CancellationToken.None), Throws.InstanceOf<LimitExceededException>());
    }

    [Test]
    public async Task R18_What_began_before_the_horizon_is_refused()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync();
        shard.Oracle.AdvanceTo(new((ulong)TimeSpan.FromMinutes(11).TotalMilliseconds << Timestamp.CounterBits));
        Assert.That((await Write(shard, Put("k", "v"))).Status, Is.EqualTo(ShardStatus.TooOld));
        Assert.That((await Write(shard, Put("k", "v") with { KnownTimestamp = shard.Oracle.Last })).Status, Is.EqualTo(ShardStatus.Ok));
    }

    [Test]
    public async Task R11_A_change_of_epoch_refuses_what_is_in_no_entry_yet()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync(configure: options => options with { EntriesInFlightMax = 1 });
        shard.Group.HoldsCommits = true;
        Task<ShardResponse> proposed = Write(shard, Put("a", "1")), queued = Write(shard, Put("b", "1"));
        shard[1].Reshape(new Epoch(1), SlotRange.All);
        Assert.That((await queued).Status, Is.EqualTo(ShardStatus.WrongShard));
        shard.Group.Commit();
        Assert.That((await proposed).Status, Is.EqualTo(ShardStatus.Ok));
        Assert.That((await Write(shard, Put("b", "1"))).Status, Is.EqualTo(ShardStatus.WrongShard), "the request has the epoch before");
    }

    [Test]
    public async Task R42_An_entry_of_a_newer_build_stops_the_replica_and_is_not_skipped()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync();
        await Write(shard, Put("a", "1"));
        LogIndex before = shard[2].AppliedIndex;
        byte[] newer = new byte[ShardEntry.HeaderBytes];
        newer[0] = 2;
        Assert.That(shard.Group[ScriptedShard.ReplicaOf(new(1), 1)].TryPropose(shard.Group.Term, newer, out _), Is.True);
        foreach (ShardReplica replica in shard.Replicas)
        {
            Assert.That(replica.Fault, Is.InstanceOf<ConfigurationException>());
            Assert.That(replica.Status.Fault, Is.SameAs(replica.Fault));
            Assert.That(replica.AppliedIndex, Is.EqualTo(before));
        }

        ShardResponse response = await shard[1].ExecuteAsync(Get("a"), CancellationToken.None);
        Assert.That((response.Status, response.Message), Is.EqualTo((ShardStatus.Faulted, response.Message)));
        Assert.That(response.Message, Does.Contain("version 2.0"));
    }

    [Test]
    public async Task A_malformed_entry_is_damage_with_its_index()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync();
        byte[] damaged = new byte[ShardEntry.HeaderBytes + 2];
        damaged[0] = 1;
        damaged[ShardEntry.HeaderBytes] = (byte)ShardCommandKind.Writes;
        damaged[ShardEntry.HeaderBytes + 1] = 5;
        shard.Group[ScriptedShard.ReplicaOf(new(1), 1)].TryPropose(shard.Group.Term, damaged, out LogIndex index);
        Assert.That(shard[1].Fault, Is.InstanceOf<CorruptionException>().With.Property("Offset").EqualTo(index.Value));
    }

    [Test]
    public async Task R34_With_a_full_disk_apply_waits_and_reads_go_on()
    {
        FullEngineFactory engines = new();
        await using ScriptedShard shard = await ScriptedShard.OpenAsync(configure: options => options with { StorageEngine = engines });
        await Write(shard, Put("a", "1"));
        engines.IsFull = true;
        Task<ShardResponse> stalled = Write(shard, Put("b", "1"));
        Assert.That(stalled.IsCompleted, Is.False);
        Assert.That((await Write(shard, Put("c", "1"))).Status, Is.EqualTo(ShardStatus.Overloaded));
        Assert.That(Text((await shard.Leader.ExecuteAsync(Get("a"), CancellationToken.None)).Value), Is.EqualTo("1"));
        shard.Time.Advance(TimeSpan.FromSeconds(5));
        Assert.That(stalled.IsCompleted, Is.False);
        engines.IsFull = false;
        await Cluster.TestData.UntilAsync(
            () =>
            {
                shard.Time.Advance(TimeSpan.FromSeconds(1));
                return stalled.IsCompleted;
            },
            "the disk has room again");
        Assert.That((await stalled).Status, Is.EqualTo(ShardStatus.Ok));
        Assert.That((await Write(shard, Put("c", "1"))).Status, Is.EqualTo(ShardStatus.Ok));
    }

    [Test]
    public async Task R33_A_replica_takes_a_snapshot_as_its_next_generation_and_goes_on_from_it()
    {
        InMemoryFileSystem files = new();
        await using ScriptedShard shard = await ScriptedShard.OpenAsync(configure: options => options with { FileSystem = files, Directory = $"/shards/{options.Replica}" });
        shard.Group[ScriptedShard.ReplicaOf(new(1), 3)].HoldsApplies = true;
        await Write(shard, Put("a", "1"));
        await Write(shard, Put("b", "1"));
        await shard[1].ReleaseLogAsync(CancellationToken.None);
        LogIndex released = shard.Group[ScriptedShard.ReplicaOf(new(1), 1)].ReleasedIndex;
        Assert.That(released, Is.EqualTo(shard[1].AppliedIndex));
        shard.Group.Compact(released);
        shard.Group[ScriptedShard.ReplicaOf(new(1), 3)].HoldsApplies = false;
        Assert.That(shard[3].AppliedIndex, Is.LessThan(released), "the log does not reach back to it");
        await shard.Group.SendSnapshotAsync(ScriptedShard.ReplicaOf(new(1), 1), ScriptedShard.ReplicaOf(new(1), 3), generation: 2);
        Assert.That(shard[3].AppliedIndex, Is.EqualTo(released));
        Assert.That(files.ListDirectories($"/shards/{shard[3].Replica}").Select(Path.GetFileName), Is.EqualTo(new[] { "2" }));
        await Write(shard, Put("b", "2"));
        Assert.That(Text(MvccReader.Read(shard[3].Engine, Bytes("a"), Timestamp.Max).Value), Is.EqualTo("1"));
        Assert.That(Text(MvccReader.Read(shard[3].Engine, Bytes("b"), Timestamp.Max).Value), Is.EqualTo("2"));
        shard.Group.Elect(ScriptedShard.ReplicaOf(new(1), 3));
        Assert.That(Text((await shard[3].ExecuteAsync(Get("b"), CancellationToken.None)).Value), Is.EqualTo("2"));
    }

    [Test]
    public async Task R32_A_reopened_replica_goes_on_behind_what_its_engine_covers()
    {
        InMemoryFileSystem files = new();
        ScriptedOracle oracle = new();
        ShardReplicaOptions options = new()
        {
            Shard = new(1),
            Replica = new(9),
            FileSystem = files,
            Directory = "/shards/r9",
            StorageEngine = StorageEngines.InMemory(),
            Timestamps = oracle.CreateSource(),
        };
        byte[] entry = new byte[ShardEntry.HeaderBytes + 16];
        ShardEntry.WriteHeader(entry, default, closed: new(7));
        int length = ShardEntry.HeaderBytes + ShardEntry.WriteLimit(entry.AsSpan(ShardEntry.HeaderBytes), new(5));
        await using (ShardReplica first = await ShardReplica.OpenAsync(options))
        {
            Assert.That(first.RecoveredIndex, Is.EqualTo(default(LogIndex)));
            await first.ApplyAsync(new CommittedEntry[] { new(new(1), new(1), RaftEntryKind.NoOp, default), new(new(2), new(1), RaftEntryKind.Command, entry.AsMemory(0, length)) }, CancellationToken.None);
            await first.Engine.FlushAsync();
            await first.ApplyAsync(new CommittedEntry[] { new(new(3), new(1), RaftEntryKind.NoOp, default) }, CancellationToken.None);
        }

        await using ShardReplica second = await ShardReplica.OpenAsync(options);
        Assert.That(second.RecoveredIndex.Value, Is.EqualTo(2).Or.EqualTo(3), "what was flushed, or more");
        Assert.That((second.HistoryLimit, second.ClosedTimestamp), Is.EqualTo((new Timestamp(5), new Timestamp(7))));
    }

    [Test]
    public async Task A_read_waits_no_longer_than_its_token_and_says_that_nothing_was_done()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync();
        shard.Group.HoldsCommits = true;
        Task<ShardResponse> write = Write(shard, Put("a", "1"));
        using CancellationTokenSource deadline = new();
        Task<ShardResponse> read = shard.Leader.ExecuteAsync(Get("a"), deadline.Token).AsTask();
        Task<ShardResponse> behind = shard.Leader.ExecuteAsync(CompareAndSet("a", null, "2"), deadline.Token).AsTask();
        await deadline.CancelAsync();
        Assert.That(((await read).Status, (await behind).Status), Is.EqualTo((ShardStatus.TimedOut, ShardStatus.TimedOut)));
        shard.Group.Commit();
        Assert.That((await write).Status, Is.EqualTo(ShardStatus.Ok));
    }

    [Test]
    public async Task Without_a_lease_a_read_is_served_after_a_barrier()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync();
        await Write(shard, Put("a", "1"));
        shard.Group[ScriptedShard.ReplicaOf(new(1), 1)].LeaseIsValid = false;
        Assert.That(Text((await shard[1].ExecuteAsync(Get("a"), CancellationToken.None)).Value), Is.EqualTo("1"));
        shard.Group[ScriptedShard.ReplicaOf(new(1), 1)].ReachesMajority = false;
        Assert.That((await shard[1].ExecuteAsync(Get("a"), CancellationToken.None)).Status, Is.EqualTo(ShardStatus.NotLeader));
    }

    [Test]
    public async Task R14_A_key_that_is_locked_is_neither_read_nor_written()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync();
        await Write(shard, Put("a", "1"));
        byte[] key = new byte[64];
        int keyBytes = MvccKey.WriteLock(key, Bytes("a"));
        ulong minimum = shard.Oracle.Last.Value + 5;
        StorageBatch put = new(), delete = new();
        put.Put(key.AsSpan(0, keyBytes), new LockRecord { MinimumCommit = new(minimum), Transaction = new(1, 2), Start = new(1), Primary = Bytes("a"), Value = [] }.Encode());
        delete.Delete(key.AsSpan(0, keyBytes));
        ProposeWithLocks(shard, put);
        shard.Oracle.AdvanceTo(new(minimum + 10));
        Assert.That((await shard[1].ExecuteAsync(Get("a"), CancellationToken.None)).Status, Is.EqualTo(ShardStatus.Locked));
        Assert.That((await shard[1].ExecuteAsync(Get("a", minimum), CancellationToken.None)).Status, Is.EqualTo(ShardStatus.Locked));
        Assert.That((await shard[1].ExecuteAsync(Get("a", minimum - 1), CancellationToken.None)).Status, Is.EqualTo(ShardStatus.Ok), "M is above it");
        Assert.That((await shard[1].ExecuteAsync(Scan(minimum), CancellationToken.None)).Status, Is.EqualTo(ShardStatus.Locked));
        Assert.That((await Write(shard, Put("a", "2"))).Status, Is.EqualTo(ShardStatus.Locked));
        Assert.That((await Write(shard, Put("b", "2") with { Start = shard.Oracle.Last, ReadKeys = [Bytes("a")] })).Status, Is.EqualTo(ShardStatus.Locked));
        Assert.That(await shard[1].RaiseHistoryLimitAsync(new(minimum + 3), CancellationToken.None), Is.True);
        Assert.That(shard[1].HistoryLimit, Is.EqualTo(new Timestamp(minimum - 1)), "below the smallest undecided M");
        shard.Group.Elect(ScriptedShard.ReplicaOf(new(1), 2));
        Assert.That((await shard[2].ExecuteAsync(Get("a"), CancellationToken.None)).Status, Is.EqualTo(ShardStatus.Locked));
        ProposeWithLocks(shard, delete);
        Assert.That(Text((await shard[2].ExecuteAsync(Get("a"), CancellationToken.None)).Value), Is.EqualTo("1"));
    }

    [Test]
    public async Task A_plain_get_under_a_lease_completes_at_once_and_allocates_only_its_response()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync();
        await Write(shard, Put("key", new string('v', 100)));
        GetRequest request = Get("key");
        for (int i = 0; i < 100; i++)
            Assert.That(shard[1].ExecuteAsync(request, CancellationToken.None).IsCompletedSuccessfully, Is.True);
        long get = Allocated(() => _ = shard[1].ExecuteAsync(request, CancellationToken.None).Result);
        long read = Allocated(() => _ = MvccReader.Read(shard[1].Engine, request.Key.Span, Timestamp.Max));
        // Beyond what the read of the engine takes, which has the array of the value in it: the response.
        Assert.That(get - read, Is.LessThanOrEqualTo(96));
    }

    [Test]
    public async Task R08_A_get_at_once_is_given_only_where_nothing_has_to_be_waited_for()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync();
        await Write(shard, Put("a", "1"));
        Assert.That(shard[1].TryGetNow(Bytes("a"), default, out byte[]? value), Is.True);
        Assert.That(Text(value), Is.EqualTo("1"));
        Assert.That(shard[1].TryGetNow(Bytes("absent"), default, out value), Is.True);
        Assert.That(value, Is.Null);
        Assert.That(shard[1].TryGetNow(Bytes("a"), new Epoch(7), out _), Is.False, "another epoch");
        Assert.That(shard[2].TryGetNow(Bytes("a"), default, out _), Is.False, "it does not lead");

        shard.Group.HoldsCommits = true;
        Task<ShardResponse> write = Write(shard, Put("a", "2"));
        Assert.That(shard[1].TryGetNow(Bytes("a"), default, out _), Is.False, "a write of the key is on its way");
        Assert.That(shard[1].TryGetNow(Bytes("b"), default, out _), Is.True);
        shard.Group.HoldsCommits = false;
        shard.Group.Commit();
        await write;
        Assert.That(shard[1].TryGetNow(Bytes("a"), default, out value), Is.True);
        Assert.That(Text(value), Is.EqualTo("2"));

        shard.Group[ScriptedShard.ReplicaOf(new(1), 1)].LeaseIsValid = false;
        Assert.That(shard[1].TryGetNow(Bytes("a"), default, out _), Is.False, "no lease");
    }

    [Test]
    public async Task R34_Without_room_puts_are_refused_deletes_are_not_and_the_leadership_stays()
    {
        await using ScriptedShard shard = await ScriptedShard.OpenAsync();
        await Write(shard, Put("a", "1"));
        shard.Group[ScriptedShard.ReplicaOf(new(1), 1)].HasRoom = false;
        Assert.That((await Write(shard, Put("b", "1"))).Status, Is.EqualTo(ShardStatus.Overloaded));
        Assert.That((await Write(shard, Put("a", null))).Status, Is.EqualTo(ShardStatus.Ok));
        Assert.That((await shard[1].ExecuteAsync(Get("a"), CancellationToken.None)).Value, Is.Null);
        shard.Group[ScriptedShard.ReplicaOf(new(1), 1)].HasRoom = true;
        Assert.That((await Write(shard, Put("b", "1"))).Status, Is.EqualTo(ShardStatus.Ok));
    }

    private static long Allocated(Action action)
    {
        action();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++)
            action();
        return (GC.GetAllocatedBytesForCurrentThread() - before) / 100;
    }

    private static Task<ShardResponse> Write(ScriptedShard shard, WriteRequest request) => shard.Leader.ExecuteAsync(request, CancellationToken.None).AsTask();

    private static void ProposeWithLocks(ScriptedShard shard, StorageBatch batch)
    {
        byte[] entry = new byte[ShardEntry.HeaderBytes + ShardEntry.CommandHeaderBytesMax + batch.Encoded.Length];
        ShardEntry.WriteHeader(entry, default, default);
        int at = ShardEntry.HeaderBytes + ShardEntry.WriteCommandHeader(entry.AsSpan(ShardEntry.HeaderBytes), ShardCommandKind.WritesWithLocks, batch.Encoded.Length);
        batch.Encoded.CopyTo(entry.AsSpan(at));
        Assert.That(shard.Group[shard.Group.Leader!.Value].TryPropose(shard.Group.Term, entry.AsMemory(0, at + batch.Encoded.Length), out _), Is.True);
    }

    /// <summary>Engines in memory whose writes meet a full disk while a test says so.</summary>
    private sealed class FullEngineFactory : IStorageEngineFactory
    {
        public bool IsFull { get; set; }

        public async ValueTask<IStorageEngine> OpenAsync(string? directory, CancellationToken cancellationToken = default) =>
            new FullEngine(this, await StorageEngines.InMemory().OpenAsync(new StorageEngineContext { WriteAheadLog = false, VersionSuffixBytes = MvccKey.SuffixBytes }, cancellationToken));
    }

    private sealed class FullEngine(FullEngineFactory factory, IStorageEngine inner) : IStorageEngine
    {
        public bool TryGet(ReadOnlySpan<byte> key, System.Buffers.IBufferWriter<byte> value, IStorageSnapshot? snapshot = null) => inner.TryGet(key, value, snapshot);

        public bool TryGetVersion(ReadOnlySpan<byte> key, int suffixBytes, Span<byte> suffix, System.Buffers.IBufferWriter<byte> value, IStorageSnapshot? snapshot = null) =>
            inner.TryGetVersion(key, suffixBytes, suffix, value, snapshot);

        public ValueTask<byte[]?> GetAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default) => inner.GetAsync(key, cancellationToken);

        public ValueTask PutAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value, CancellationToken cancellationToken = default) => inner.PutAsync(key, value, cancellationToken);

        public ValueTask DeleteAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken = default) => inner.DeleteAsync(key, cancellationToken);

        public ValueTask WriteAsync(StorageBatch batch, StorageDurability durability = StorageDurability.Flushed, CancellationToken cancellationToken = default) =>
            factory.IsFull ? ValueTask.FromException(DiskErrors.DiskFull("engine", bytes: 1, free: 0)) : inner.WriteAsync(batch, durability, cancellationToken);

        public IStorageIterator Scan(KeyRange range, StorageScanOptions? options = null) => inner.Scan(range, options);

        public IStorageSnapshot CreateSnapshot() => inner.CreateSnapshot();

        public ValueTask<IStorageTransaction> BeginTransactionAsync(CancellationToken cancellationToken = default) => inner.BeginTransactionAsync(cancellationToken);

        public ValueTask FlushAsync(CancellationToken cancellationToken = default) => inner.FlushAsync(cancellationToken);

        public ValueTask CompactAsync(KeyRange range = default, CancellationToken cancellationToken = default) => inner.CompactAsync(range, cancellationToken);

        public ValueTask CheckpointAsync(string directory, CancellationToken cancellationToken = default) => inner.CheckpointAsync(directory, cancellationToken);

        public StorageStatistics GetStatistics() => inner.GetStatistics();

        public ValueTask DisposeAsync() => inner.DisposeAsync();
    }
}
