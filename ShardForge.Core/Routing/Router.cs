using System.Collections.Concurrent;
using ShardForge.Common;
using ShardForge.Replication;

namespace ShardForge.Routing;

/// <summary>Brings a request to the leader of its shard, from any node: redirects, retries, deadlines.</summary>
/// <remarks>
/// <para>Files: ShardMap, CircuitBreaker, Router → Router.Writes, IShardLink → ShardService (the other end), MergedScan.</para>
/// <para>An attempt either did nothing (refused, not the leader, never left), or is in doubt (it left, no answer). Reads are repeated freely. A
/// write is repeated under the same id, which makes the repetition safe (R22); once one attempt was in doubt, a negative answer to another proves
/// nothing, and the call ends as unknown (R21, R22).</para>
/// <para>Threads: safe for concurrent use. Nothing is held across an attempt.</para>
/// </remarks>
internal sealed partial class Router(RouterOptions options)
{
    private static readonly TimeSpan s_backoffMin = TimeSpan.FromMilliseconds(2), s_backoffMax = TimeSpan.FromMilliseconds(50);
    private readonly RouterOptions _options = options;
    private readonly CircuitBreaker _breaker = new(options.TimeProvider);
    private readonly ConcurrentDictionary<ShardId, string> _leaders = new();

    public IShardMapSource Maps => _options.Maps;

    /// <summary>Who finds out about locks that are in the way. Set once, before the first request.</summary>
    public ILockResolver? Locks { get; set; }

    /// <summary>The map to start with; waits for the cluster to be formed, within the deadline.</summary>
    public ValueTask<ShardMap> GetMapAsync(Deadline deadline) =>
        _options.Maps.Current is { } map ? new(map) : WaitForMapAsync(0, deadline);

    /// <summary>The node that leads a shard, as far as this node knows; null: unknown.</summary>
    public string? GetLeader(ShardId shard)
    {
        Consensus.RaftStatus? local = _options.Replicas.Find(shard)?.Status;
        if (local is { Role: Consensus.RaftRole.Leader })
            return _options.NodeId;
        if (local?.Leader is { } leader)
        {
            foreach (Consensus.RaftMember member in local.Members)
            {
                if (member.Replica == leader)
                    return member.NodeId;
            }
        }

        return _leaders.GetValueOrDefault(shard);
    }

    /// <summary>Forgets who led what; the next calls find out anew.</summary>
    public void ForgetLeaders() => _leaders.Clear();

    /// <summary>Executes a read, again until it is answered. Its shard is found anew for each attempt.</summary>
    public ValueTask<ShardResponse> ReadAsync<TRequest>(TRequest request, Func<TRequest, ShardMap, ShardRoute> find, Deadline deadline)
        where TRequest : ShardRequest
    {
        // Local and serving: a direct call, done at once most of the time.
        if (_options.Maps.Current is { } map)
        {
            ShardRoute route = find(request, map);
            if (_options.Replicas.Find(route.Shard) is { IsServing: true } replica)
            {
                ShardRequest direct = request with { Shard = route.Shard, Epoch = route.Epoch };
                ValueTask<ShardResponse> first = replica.ExecuteAsync(direct, deadline.Token);
                if (first.IsCompletedSuccessfully)
                {
                    ShardResponse response = first.Result;
                    return response.Status == ShardStatus.Ok ? new(response) : ReadSlowAsync(request, find, deadline, new(response));
                }

                return ReadSlowAsync(request, find, deadline, first);
            }
        }

        return ReadSlowAsync(request, find, deadline, null);
    }

    private async ValueTask<ShardResponse> ReadSlowAsync<TRequest>(TRequest request, Func<TRequest, ShardMap, ShardRoute> find, Deadline deadline,
        ValueTask<ShardResponse>? first)
        where TRequest : ShardRequest
    {
        Attempts attempts = new();
        int lockPauses = 0;
        try
        {
            ShardMap map = await GetMapAsync(deadline).ConfigureAwait(false);
            while (true)
            {
                map = NewerThan(map);
                ShardRoute route = find(request, map);
                string target = first is null ? ChooseTarget(route, attempts) : _options.NodeId;
                ShardResponse? response = null;
                try
                {
                    response = first is { } started    // awaited once: it is null from then on
                        ? await started.ConfigureAwait(false)
                        : await SendAsync(target, request with { Shard = route.Shard, Epoch = route.Epoch }, attempts, deadline).ConfigureAwait(false);
                    first = null;
                }
                catch (ShardLinkException error)
                {
                    first = null;
                    _breaker.Failed(target);
                    attempts.Broken(target, error.Message);
                }
                catch (ObjectDisposedException) when (first is not null)
                {
                    first = null;
                    attempts.Failed(target, "the replica was closed");
                }
                catch (OverloadedException error)
                {
                    attempts.Failed(target, error.Message);
                }

                if (response is not null)
                {
                    _breaker.Succeeded(target);
                    switch (response.Status)
                    {
                        case ShardStatus.Ok or ShardStatus.Decided or ShardStatus.Missing or ShardStatus.Live or ShardStatus.Expired:
                            Remember(route.Shard, target);
                            return response;
                        case ShardStatus.Conflict or ShardStatus.HistoryGone when request is ValidateRequest:
                            return response;
                        case ShardStatus.Locked:
                            if (await MeetAsync(response, resolve: false, deadline).ConfigureAwait(false) is { } decided)
                                request = ReadThrough(request, decided);
                            else if (request is ValidateRequest validate && !Mvcc.LockRecord.IsOlder(validate.Age, validate.Transaction, response.Lock!))
                                return response;
                            else
                                await PauseForLockAsync(++lockPauses, deadline).ConfigureAwait(false);
                            continue;
                        case ShardStatus.NotLeader or ShardStatus.Overloaded or ShardStatus.TimedOut or ShardStatus.AheadOfOracle or ShardStatus.OutcomeUnknown
                            or ShardStatus.Faulted:
                            attempts.Refused(target, response, this, route);
                            break;
                        case ShardStatus.WrongShard:
                            attempts.Refused(target, response, this, route);
                            map = await RefreshAsync(map, deadline).ConfigureAwait(false);
                            break;
                        default:
                            throw RouterErrors.ForRead(response, route, target);
                    }
                }

                await PauseAsync(route, attempts, deadline).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException error)
        {
            deadline.ThrowIfCallerCancelled(error);
            deadline.ThrowIfOwnerStopped();
            throw RouterErrors.Unavailable(_options.NodeId, attempts, deadline.Limit);
        }
    }

    private async ValueTask<ShardResponse> SendAsync(string target, ShardRequest request, Attempts attempts, Deadline deadline)
    {
        deadline.Token.ThrowIfCancellationRequested();
        if (string.Equals(target, _options.NodeId, StringComparison.Ordinal))
        {
            if (_options.Replicas.Find(request.Shard) is not { } replica)
                return new ShardResponse { Status = ShardStatus.NotLeader, Message = "no replica here" };
            try
            {
                return await replica.ExecuteAsync(request, deadline.Token).ConfigureAwait(false);
            }
            catch (ObjectDisposedException error)
            {
                throw new ShardLinkException("the replica was closed", mayHaveLeft: request is WriteRequest, error);
            }
        }

        TimeSpan limit = deadline.Remaining < _options.AttemptTimeout ? deadline.Remaining : _options.AttemptTimeout;
        return await _options.Link.SendAsync(target, request, attempts.MetBrokenLink, limit, deadline.Token).ConfigureAwait(false);
    }

    private string ChooseTarget(ShardRoute route, Attempts attempts)
    {
        if (attempts.Hint is { } hint && !attempts.WasTried(hint))
            return hint;
        if (attempts.Count == 0 && GetLeader(route.Shard) is { } leader && (IsLocal(leader) || !_breaker.IsOpen(leader)))
            return leader;

        // In turn over the replicas, those that answer first; where all are in a pause, the next one all the same.
        string? fallback = null;
        for (int i = 0; i < route.Nodes.Count; i++)
        {
            string node = route.Nodes[(i + attempts.Cycle) % route.Nodes.Count];
            if (attempts.WasTried(node))
                continue;
            if (IsLocal(node) || !_breaker.IsOpen(node))
                return node;
            fallback ??= node;
        }

        return fallback ?? route.Nodes[attempts.Cycle % route.Nodes.Count];
    }

    private bool IsLocal(string nodeId) => string.Equals(nodeId, _options.NodeId, StringComparison.Ordinal);

    private void Remember(ShardId shard, string leader)
    {
        if (!_leaders.TryGetValue(shard, out string? known) || !string.Equals(known, leader, StringComparison.Ordinal))
            _leaders[shard] = leader;
    }

    /// <summary>Goes on at once while there is somebody new to ask, else waits a little, longer with each round over all replicas.</summary>
    private async ValueTask PauseAsync(ShardRoute route, Attempts attempts, Deadline deadline)
    {
        deadline.Token.ThrowIfCancellationRequested();
        if (attempts.Hint is { } hint && !attempts.WasTried(hint))
            return;
        bool allTried = true;
        foreach (string node in route.Nodes)
            allTried &= attempts.WasTried(node);
        if (!allTried && !attempts.IsBusy)
            return;
        _leaders.TryRemove(route.Shard, out _);
        attempts.NextCycle();
        TimeSpan pause = s_backoffMin * (1 << Math.Min(attempts.Cycle - 1, 6));
        if (pause > s_backoffMax)
            pause = s_backoffMax;
        pause *= 0.5 + _options.NextRandom();
        await Task.Delay(pause, _options.TimeProvider, deadline.Token).ConfigureAwait(false);
    }

    /// <summary>Replicas may have moved while the call was tried elsewhere.</summary>
    private ShardMap NewerThan(ShardMap map) => _options.Maps.Current is { } current && current.Version > map.Version ? current : map;

    private ValueTask<ShardMap> WaitForMapAsync(ulong version, Deadline deadline) =>
        _options.Maps.WaitForNewerAsync(version, deadline.Token);

    /// <summary>A newer map, if there is one soon; else the old one, since the other side may be the one that is behind.</summary>
    private async ValueTask<ShardMap> RefreshAsync(ShardMap map, Deadline deadline)
    {
        using Deadline soon = new(s_backoffMax, _options.TimeProvider, deadline.Token);
        try
        {
            return await _options.Maps.WaitForNewerAsync(map.Version, soon.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!deadline.Token.IsCancellationRequested)
        {
            return map;
        }
    }

    /// <summary>What one call has tried so far.</summary>
    internal sealed class Attempts
    {
        private readonly HashSet<string> _triedThisCycle = new(StringComparer.Ordinal);

        public int Count { get; private set; }

        public int Cycle { get; private set; }

        public string? Hint { get; private set; }

        public bool IsBusy { get; private set; }

        public string LastWords { get; private set; } = "nothing was asked";

        /// <summary>A node did not answer: others may reach it, so they are asked to pass the request on.</summary>
        public bool MetBrokenLink { get; private set; }

        public bool WasTried(string node) => _triedThisCycle.Contains(node);

        public void Failed(string node, string reason)
        {
            Count++;
            Hint = null;
            IsBusy = false;
            _triedThisCycle.Add(node);
            LastWords = $"{node}: {reason}";
        }

        public void Broken(string node, string reason)
        {
            Failed(node, reason);
            MetBrokenLink = true;
        }

        public void Refused(string node, ShardResponse response, Router router, ShardRoute route)
        {
            Failed(node, response.Message is null ? response.Status.ToString() : $"{response.Status} ({response.Message})");
            IsBusy = response.Status is ShardStatus.Overloaded or ShardStatus.AheadOfOracle;
            if (response is { Status: ShardStatus.NotLeader, LeaderNode: { } leader } && !string.Equals(leader, node, StringComparison.Ordinal))
            {
                Hint = leader;
                router.Remember(route.Shard, leader);
            }
        }

        public void NextCycle()
        {
            Cycle++;
            _triedThisCycle.Clear();
            Hint = null;
        }
    }
}

/// <summary>What a <see cref="Router"/> needs.</summary>
internal sealed record RouterOptions
{
    public required string NodeId { get; init; }

    public required IShardMapSource Maps { get; init; }

    public required ILocalReplicas Replicas { get; init; }

    public required IShardLink Link { get; init; }

    public required TimeProvider TimeProvider { get; init; }

    /// <summary>From the node's seeded source; 0 to 1. Called from many threads.</summary>
    public required Func<double> NextRandom { get; init; }

    /// <summary>Longest wait for one node's answer before another is asked.</summary>
    public TimeSpan AttemptTimeout { get; init; } = TimeSpan.FromSeconds(1.5);
}
