using NUnit.Framework;
using ShardForge.Replication;
using static ShardForge.Tests.Replication.Requests;

namespace ShardForge.Tests.Replication;

internal sealed class ShardReplicaTests
{
    private ScriptedShard _shard = null!;

    [SetUp]
    public async Task OpenShard() => _shard = await ScriptedShard.OpenAsync();

    [TearDown]
    public async Task CloseShard() => await _shard.DisposeAsync();

    [Test]
    public async Task A_value_that_was_put_is_read_back_and_one_that_was_deleted_is_absent()
    {
        await Execute(Put("a", "1"), ShardStatus.Ok);
        Assert.That(Text((await Execute(Get("a"), ShardStatus.Ok)).Value), Is.EqualTo("1"));
        await Execute(Put("a", null), ShardStatus.Ok);
        Assert.That((await Execute(Get("a"), ShardStatus.Ok)).Value, Is.Null);
    }

    [Test]
    public async Task A_compare_and_set_writes_only_what_it_expected()
    {
        await Execute(CompareAndSet("a", "1", "2"), ShardStatus.ConditionFailed);
        await Execute(CompareAndSet("a", null, "1"), ShardStatus.Ok);
        await Execute(CompareAndSet("a", null, "3"), ShardStatus.ConditionFailed);
        await Execute(CompareAndSet("a", "1", null), ShardStatus.Ok);
        Assert.That((await Execute(Get("a"), ShardStatus.Ok)).Value, Is.Null);
    }

    [Test]
    public async Task A_scan_sees_the_versions_of_its_timestamp_in_both_directions()
    {
        ulong before = (await Execute(Batch([("a", "1"), ("b", "1"), ("c", "1")]), ShardStatus.Ok)).Timestamp.Value;
        await Execute(Batch([("a", "2"), ("b", null), ("d", "2")]), ShardStatus.Ok);
        ulong now = _shard.Oracle.Last.Value + 1;
        Assert.That(Page(await Execute(Scan(before), ShardStatus.Ok)), Is.EqualTo("a=1 b=1 c=1"));
        Assert.That(Page(await Execute(Scan(now), ShardStatus.Ok)), Is.EqualTo("a=2 c=1 d=2"));
        Assert.That(Page(await Execute(Scan(now, reverse: true), ShardStatus.Ok)), Is.EqualTo("d=2 c=1 a=2"));
        ShardResponse page = await Execute(Scan(now, entriesMax: 2), ShardStatus.Ok);
        Assert.That((Page(page), page.HasMore), Is.EqualTo(("a=2 c=1", true)));
    }

    [Test]
    public async Task A_transaction_fails_where_another_wrote_since_its_start()
    {
        ulong start = (await Execute(Put("a", "1"), ShardStatus.Ok)).Timestamp.Value;
        await Execute(Put("a", "2") with { Start = new Timestamp(start) }, ShardStatus.Ok);
        await Execute(Put("a", "3") with { Start = new Timestamp(start) }, ShardStatus.Conflict);
        await Execute(Put("b", "3") with { Start = new Timestamp(start), ReadKeys = [Bytes("a")] }, ShardStatus.Conflict);
        await Execute(Put("b", "3") with { Start = new Timestamp(start), ReadRanges = [KeyRange.Prefix(Bytes("a"))] }, ShardStatus.Conflict);
        await Execute(Put("b", "3") with { Start = new Timestamp(start), ReadKeys = [Bytes("c")] }, ShardStatus.Ok);
    }

    [Test]
    public async Task R22_A_retry_finds_what_its_first_attempt_wrote_also_at_the_next_leader()
    {
        WriteRequest request = CompareAndSet("a", null, "1");
        ShardResponse first = await Execute(request, ShardStatus.Ok);
        Assert.That((await Execute(request with { IsRetry = true }, ShardStatus.Ok)).Timestamp, Is.EqualTo(first.Timestamp));
        await Execute(Put("a", "2"), ShardStatus.Ok);
        _shard.Group.Elect(ScriptedShard.ReplicaOf(new(1), 2));
        Assert.That((await Execute(request with { IsRetry = true }, ShardStatus.Ok)).Timestamp, Is.EqualTo(first.Timestamp));
        Assert.That(Text((await Execute(Get("a"), ShardStatus.Ok)).Value), Is.EqualTo("2"));
    }

    [Test]
    public async Task Every_replica_applies_the_same()
    {
        await Execute(Batch([("a", "1"), ("b", "2")]), ShardStatus.Ok);
        foreach (ShardReplica replica in _shard.Replicas)
        {
            Assert.That(replica.AppliedIndex, Is.EqualTo(_shard.Group.CommitIndex));
            Assert.That(Text(ShardForge.Mvcc.MvccReader.Read(replica.Engine, Bytes("b"), Timestamp.Max).Value), Is.EqualTo("2"));
        }
    }

    private async Task<ShardResponse> Execute(ShardRequest request, ShardStatus expected)
    {
        ShardResponse response = await _shard.Leader.ExecuteAsync(request, CancellationToken.None);
        Assert.That(response.Status, Is.EqualTo(expected), response.Message);
        return response;
    }
}
