using ShardForge.Common;
using ShardForge.Replication;

namespace ShardForge.Routing;

/// <content>Writes: repeated under one id, with the doubt carried along.</content>
internal sealed partial class Router
{
    /// <summary>Executes a write until its outcome is known or its time is over.</summary>
    /// <returns><see cref="ShardStatus.Ok"/> or <see cref="ShardStatus.ConditionFailed"/>.</returns>
    /// <exception cref="OutcomeUnknownException">The time is over and an attempt may have been written, or a negative answer came after a doubt.</exception>
    public async ValueTask<ShardResponse> WriteAsync(WriteRequest request, Func<WriteRequest, ShardMap, ShardRoute> find, Deadline deadline)
    {
        Attempts attempts = new();
        bool inDoubt = false;
        bool inFlight = false;
        int lockPauses = 0;
        ShardRoute? route = null;
        string target = _options.NodeId;
        try
        {
            ShardMap map = await GetMapAsync(deadline).ConfigureAwait(false);
            while (true)
            {
                map = NewerThan(map);
                route = find(request, map);
                target = ChooseTarget(route, attempts);
                ShardResponse? response = null;
                try
                {
                    deadline.Token.ThrowIfCancellationRequested();
                    inFlight = true;
                    response = await SendAsync(target, request with { Shard = route.Shard, Epoch = route.Epoch, IsRetry = inDoubt }, attempts, deadline).ConfigureAwait(false);
                    inFlight = false;
                }
                catch (ShardLinkException error)
                {
                    inFlight = false;
                    inDoubt |= error.MayHaveLeft;
                    _breaker.Failed(target);
                    attempts.Broken(target, error.Message);
                }
                catch (OverloadedException error)
                {
                    inFlight = false;
                    attempts.Failed(target, error.Message);
                    if (!inDoubt && attempts.Cycle >= OverloadCyclesMax)
                        throw;
                }

                if (response is not null)
                {
                    _breaker.Succeeded(target);
                    switch (response.Status)
                    {
                        case ShardStatus.Ok or ShardStatus.Decided or ShardStatus.Missing:
                            Remember(route.Shard, target);
                            return response;
                        case ShardStatus.Locked:
                            // R12: nothing is held meanwhile. R20: a transaction that holds locks elsewhere waits only for a younger one.
                            if (await MeetAsync(response, resolve: true, deadline).ConfigureAwait(false) is not null)
                                continue;
                            if (request.Step == WriteStep.Prewrite && !Mvcc.LockRecord.IsOlder(request.Age, request.Id, response.Lock!))
                                goto default;
                            await PauseForLockAsync(++lockPauses, deadline).ConfigureAwait(false);
                            continue;
                        case ShardStatus.OutcomeUnknown:
                            inDoubt = true;
                            attempts.Refused(target, response, this, route);
                            break;
                        case ShardStatus.NotLeader or ShardStatus.TimedOut or ShardStatus.Faulted:
                            attempts.Refused(target, response, this, route);
                            break;
                        case ShardStatus.Overloaded:
                            attempts.Refused(target, response, this, route);
                            if (!inDoubt && attempts.Cycle >= OverloadCyclesMax)
                                throw new OverloadedException($"Shard {route.Shard} on {target} refuses writes: {response.Message} Nothing was written.");
                            break;
                        case ShardStatus.WrongShard:
                            attempts.Refused(target, response, this, route);
                            map = await RefreshAsync(map, deadline).ConfigureAwait(false);
                            break;
                        case ShardStatus.TooOld when !inDoubt && response.Timestamp > request.KnownTimestamp:
                            // No earlier attempt is open, so the request begins anew. A node that has asked for no timestamp since it was opened, or
                            // for longer than the horizon, knows no late enough one.
                            request = request with { KnownTimestamp = response.Timestamp };
                            continue;
                        default:
                            // R22: a negative answer is final only if no other attempt of the id is open.
                            if (inDoubt)
                                throw RouterErrors.OutcomeUnknown(request, route, target, attempts, response.Message ?? response.Status.ToString(), Locks);
                            if (response.Status == ShardStatus.ConditionFailed)
                                return response;
                            throw RouterErrors.ForWrite(response, request, route, target);
                    }
                }

                await PauseAsync(route, attempts, deadline).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException error)
        {
            deadline.ThrowIfCallerCancelled(error);
            if (inDoubt || inFlight)
                throw RouterErrors.OutcomeUnknown(request, route, target, attempts, deadline.WhyEnded, Locks);
            deadline.ThrowIfOwnerStopped();
            throw RouterErrors.Unavailable(_options.NodeId, attempts, deadline.Limit);
        }
    }

    private ValueTask<DecidedTransaction?> MeetAsync(ShardResponse response, bool resolve, Deadline deadline) =>
        Locks is { } locks ? locks.MeetAsync(response.Lock!, response.LockedKey!, resolve, deadline) : new((DecidedTransaction?)null);

    private static TRequest ReadThrough<TRequest>(TRequest request, DecidedTransaction decided)
        where TRequest : ShardRequest =>
        request is ReadRequest read ? (TRequest)(ShardRequest)(read with { Decided = [.. read.Decided, decided] }) : request;

    private Task PauseForLockAsync(int pauses, Deadline deadline)
    {
        TimeSpan pause = s_backoffMin * (1 << Math.Min(pauses - 1, 4));
        return Task.Delay((pause < s_backoffMax ? pause : s_backoffMax) * (0.5 + _options.NextRandom()), _options.TimeProvider, deadline.Token);
    }

    /// <summary>Rounds of pauses over a full queue before the caller is told; it is told earlier than its deadline so that it can shed load.</summary>
    private const int OverloadCyclesMax = 8;
}
