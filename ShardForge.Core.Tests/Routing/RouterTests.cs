using Microsoft.Extensions.Time.Testing;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Replication;
using ShardForge.Routing;

namespace ShardForge.Tests.Routing;

public sealed class RouterTests
{
    private static readonly byte[] s_key = [1, 2, 3];

    [Test]
    public async Task A_redirect_is_followed_at_once_and_remembered()
    {
        FakeCluster cluster = new();
        cluster.OnSend = (node, _) => node == "n3" ? FakeCluster.Ok() : FakeCluster.NotLeader("n3");

        await cluster.PutAsync();
        await cluster.PutAsync();

        Assert.That(cluster.Asked, Is.EqualTo(new[] { "n2", "n3", "n3" }));
    }

    [Test]
    public async Task A_request_that_never_left_goes_to_another_replica_as_a_first_attempt()
    {
        FakeCluster cluster = new();
        cluster.OnSend = (node, _) => node == "n2" ? throw new ShardLinkException("down", mayHaveLeft: false) : FakeCluster.Ok();

        await cluster.PutAsync();

        Assert.That(cluster.Writes.Select(static write => write.IsRetry), Is.All.False);
    }

    [Test]
    public async Task A_write_in_doubt_is_repeated_under_its_id()
    {
        FakeCluster cluster = new();
        int calls = 0;
        cluster.OnSend = (_, _) => ++calls == 1 ? throw new ShardLinkException("link lost", mayHaveLeft: true) : FakeCluster.Ok();

        await cluster.PutAsync();

        Assert.Multiple(() =>
        {
            Assert.That(cluster.Writes, Has.Count.EqualTo(2));
            Assert.That(cluster.Writes[1].Id, Is.EqualTo(cluster.Writes[0].Id));
            Assert.That(cluster.Writes[1].IsRetry, Is.True);
        });
    }

    [Test]
    public void R22_A_negative_answer_after_a_doubt_is_an_unknown_outcome([Values((int)ShardStatus.ConditionFailed, (int)ShardStatus.Conflict, (int)ShardStatus.TooOld)] int status)
    {
        FakeCluster cluster = new();
        int calls = 0;
        cluster.OnSend = (_, _) => ++calls == 1 ? throw new ShardLinkException("link lost", mayHaveLeft: true) : new ShardResponse { Status = (ShardStatus)status };

        Assert.ThrowsAsync<OutcomeUnknownException>(cluster.PutAsync);
    }

    [Test]
    public async Task R18_A_first_attempt_from_before_the_horizon_begins_anew()
    {
        FakeCluster cluster = new();
        cluster.OnSend = (_, request) => ((WriteRequest)request).KnownTimestamp == new Timestamp(7) ? FakeCluster.Ok()
            : new ShardResponse { Status = ShardStatus.TooOld, Timestamp = new Timestamp(7) };

        ShardResponse response = await cluster.PutAsync();

        Assert.That(response.Status, Is.EqualTo(ShardStatus.Ok));
        Assert.That(cluster.Writes.Select(static write => write.IsRetry), Is.All.False);
    }

    [Test]
    public async Task A_condition_that_fails_without_a_doubt_is_an_answer()
    {
        FakeCluster cluster = new() { OnSend = static (_, _) => new ShardResponse { Status = ShardStatus.ConditionFailed } };

        ShardResponse response = await cluster.PutAsync();

        Assert.That(response.Status, Is.EqualTo(ShardStatus.ConditionFailed));
    }

    [Test]
    public void A_write_that_nobody_took_is_unavailable_at_the_deadline()
    {
        FakeCluster cluster = new() { Limit = TimeSpan.FromMilliseconds(50), OnSend = static (_, _) => FakeCluster.NotLeader(null) };

        ShardUnavailableException? error = Assert.ThrowsAsync<ShardUnavailableException>(cluster.PutAsync);

        Assert.That(error!.IsTransient, Is.True);
    }

    [Test]
    public void A_write_that_may_have_left_is_unknown_at_the_deadline()
    {
        FakeCluster cluster = new()
        {
            Limit = TimeSpan.FromMilliseconds(50),
            OnSend = static (_, _) => throw new ShardLinkException("no answer", mayHaveLeft: true),
        };

        OutcomeUnknownException? error = Assert.ThrowsAsync<OutcomeUnknownException>(cluster.PutAsync);

        Assert.That(error!.IsTransient, Is.False);
    }

    [Test]
    public void A_read_that_nobody_answers_is_unavailable_at_the_deadline()
    {
        FakeCluster cluster = new()
        {
            Limit = TimeSpan.FromMilliseconds(50),
            OnSend = static (_, _) => throw new ShardLinkException("no answer", mayHaveLeft: true),
        };

        Assert.ThrowsAsync<ShardUnavailableException>(cluster.GetAsync);
    }

    [Test]
    public void The_callers_token_gives_its_own_error()
    {
        using CancellationTokenSource source = new();
        FakeCluster cluster = new() { Token = source.Token };
        cluster.OnSend = (_, _) =>
        {
            source.Cancel();
            return FakeCluster.NotLeader(null);
        };

        OperationCanceledException? error = Assert.ThrowsAsync<OperationCanceledException>(cluster.PutAsync);

        Assert.That(error!.CancellationToken, Is.EqualTo(source.Token));
    }

    [Test]
    public void A_conflict_is_an_error_that_says_nothing_was_written()
    {
        FakeCluster cluster = new() { OnSend = static (_, _) => new ShardResponse { Status = ShardStatus.Conflict } };

        TransactionConflictException? error = Assert.ThrowsAsync<TransactionConflictException>(cluster.PutAsync);

        Assert.That(error!.Message, Does.Contain("Nothing was written"));
    }

    [Test]
    public async Task A_node_that_does_not_answer_is_asked_last()
    {
        FakeCluster cluster = new() { Time = new FakeTimeProvider() };    // the pause does not end by itself
        cluster.OnSend = (node, _) => node == "n2" ? throw new ShardLinkException("down", mayHaveLeft: false) : node == "n3" ? FakeCluster.Ok() : FakeCluster.NotLeader(null);
        await cluster.PutAsync();
        cluster.Forget();
        cluster.Asked.Clear();

        await cluster.PutAsync();

        Assert.That(cluster.Asked, Does.Not.Contain("n2"));
    }

    [Test]
    public async Task A_wrong_epoch_makes_the_router_fetch_a_newer_map()
    {
        FakeCluster cluster = new();
        cluster.OnSend = (_, request) => request.Epoch == new Epoch(2) ? FakeCluster.Ok() : new ShardResponse { Status = ShardStatus.WrongShard, Epoch = new Epoch(2) };
        cluster.NextMap = FakeCluster.MapOf(version: 2, epoch: 2);

        await cluster.PutAsync();

        Assert.That(cluster.Writes[^1].Epoch, Is.EqualTo(new Epoch(2)));
    }

    private sealed class FakeCluster : IShardMapSource, ILocalReplicas, IShardLink
    {
        private ulong _id;
        private Router? _router;

        public ShardMap? Current { get; private set; } = MapOf(version: 1, epoch: 1);

        public ShardMap? NextMap { get; set; }

        public TimeSpan Limit { get; init; } = TimeSpan.FromSeconds(30);

        public CancellationToken Token { get; init; }

        public TimeProvider Time { get; init; } = TimeProvider.System;

        public Func<string, ShardRequest, ShardResponse> OnSend { get; set; } = static (_, _) => Ok();

        public List<string> Asked { get; } = [];

        public List<WriteRequest> Writes { get; } = [];

        public static ShardMap MapOf(ulong version, ulong epoch) =>
            new(version, PartitionRule.WholeKey, [new ShardRoute(new ShardId(1), SlotRange.All, new Epoch(epoch), ["n2", "n3", "n4"])]);

        public static ShardResponse Ok() => new() { Status = ShardStatus.Ok };

        public static ShardResponse NotLeader(string? hint) => new() { Status = ShardStatus.NotLeader, LeaderNode = hint };

        public void Forget() => _router!.ForgetLeaders();

        public async Task<ShardResponse> PutAsync()
        {
            WriteRequest request = new()
            {
                Shard = default,
                Epoch = default,
                Id = new OperationId(1, ++_id),
                KnownTimestamp = default,
                Writes = [new KeyWrite(s_key, new byte[] { 1 })],
            };
            using Deadline deadline = new(Limit, Time, Token);
            return await Router().WriteAsync(request, static (write, map) => map.Find(write.Writes[0].Key.Span), deadline);
        }

        public async Task<ShardResponse> GetAsync()
        {
            using Deadline deadline = new(Limit, Time, Token);
            return await Router().ReadAsync(
                new GetRequest { Shard = default, Epoch = default, Key = s_key }, static (get, map) => map.Find(get.Key.Span), deadline);
        }

        public ValueTask<ShardMap> WaitForNewerAsync(ulong version, CancellationToken cancellationToken)
        {
            if (NextMap is null)
                return new(new TaskCompletionSource<ShardMap>().Task.WaitAsync(cancellationToken));
            Current = NextMap;
            return new(NextMap);
        }

        public IShardReplica? Find(ShardId shard) => null;

        public ValueTask<ShardResponse> SendAsync(string nodeId, ShardRequest request, bool mayRelay, TimeSpan timeout, CancellationToken cancellationToken)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Asked.Add(nodeId);
            if (request is WriteRequest write)
                Writes.Add(write);
            return new(OnSend(nodeId, request));
        }

        private Router Router() => _router ??= new Router(new RouterOptions
        {
            NodeId = "n1",
            Maps = this,
            Replicas = this,
            Link = this,
            TimeProvider = Time,
            NextRandom = static () => 0.5,
        });
    }
}
