using Microsoft.Extensions.Logging;
using ShardForge.Common;
using ShardForge.Mvcc;
using ShardForge.Replication;

namespace ShardForge.Transactions;

/// <summary>What a node does for transactions in the background: heartbeats of its own, resolution of locks that nobody meets, removal of old marks and decisions.</summary>
/// <remarks>
/// Nothing here is needed for a right answer: whoever meets a lock resolves it. It keeps the limit of history moving (R28), memory and disk bounded (R18), and the owners of long
/// commits alive (R19). One loop; an error ends a round, not the loop.
/// </remarks>
internal sealed partial class TransactionUpkeep(TransactionContext context, Func<IEnumerable<ShardReplica>> replicas, Func<Timestamp> oldestOpenSnapshot, TimeSpan horizon, ILogger logger)
{
    private static readonly TimeSpan s_round = TimeSpan.FromMilliseconds(500), s_lockAge = TimeSpan.FromSeconds(3), s_sweepPause = TimeSpan.FromSeconds(10);
    private const int ResolvingMax = 256, SweepEntriesMax = 10_000, CollectEntriesMax = 20_000;

    private readonly Dictionary<ShardId, byte[]?> _sweptUpTo = [];
    private long _sweptAt;

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        _sweptAt = context.TimeProvider.GetTimestamp();
        using PeriodicTimer timer = new(s_round, context.TimeProvider);
        while (true)
        {
            try
            {
                if (!await timer.WaitForNextTickAsync(cancellationToken).ConfigureAwait(false))
                    return;
                SendHeartbeats();
                await ResolveOldLocksAsync().ConfigureAwait(false);
                foreach (ShardReplica replica in replicas())
                {
                    if (!replica.CollectsInCompactions)
                        await replica.CollectVersionsAsync(CollectEntriesMax, cancellationToken).ConfigureAwait(false);
                }

                if (context.TimeProvider.GetElapsedTime(_sweptAt) >= s_sweepPause)
                {
                    await RaiseLimitsAsync().ConfigureAwait(false);
                    await SweepAsync(cancellationToken).ConfigureAwait(false);
                    _sweptAt = context.TimeProvider.GetTimestamp();
                }
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                return;
            }
            catch (Exception error)
            {
                if (cancellationToken.IsCancellationRequested)
                    return;
                LogRoundFailed(logger, error);
            }
        }
    }

    // Not awaited: one primary out of reach must not keep the others' owners silent.
    private void SendHeartbeats()
    {
        long moment = context.TimeProvider.GetTimestamp() - (long)(s_round.TotalSeconds * context.TimeProvider.TimestampFrequency);
        foreach ((OperationId id, byte[] primary) in context.Open.Since(moment))
            context.Background.Track(SendHeartbeatAsync(id, primary));
    }

    private async Task SendHeartbeatAsync(OperationId id, byte[] primary)
    {
        TransactionRequest beat = new() { Shard = default, Epoch = default, Question = TransactionQuestion.Heartbeat, Transaction = id, Keys = [primary] };
        try
        {
            using Deadline deadline = context.StartBackground();
            await context.Router.ReadAsync(beat, static (request, map) => map.Find(request.Keys[0].Span), deadline).ConfigureAwait(false);
        }
        catch (Exception error) when (error is OperationCanceledException or ObjectDisposedException or ShardForgeException)
        {
            // The next one is on its way soon; without any, others roll the transaction back.
        }
    }

    private async Task ResolveOldLocksAsync()
    {
        long moment = context.TimeProvider.GetTimestamp() - (long)(s_lockAge.TotalSeconds * context.TimeProvider.TimestampFrequency);
        List<Task> resolving = [];
        foreach (ShardReplica replica in replicas())
        {
            if (!replica.IsServing)
                continue;
            foreach (HeldLock held in replica.LocksSeenBefore(moment))
            {
                if (resolving.Count < ResolvingMax)
                    resolving.Add(ResolveAsync(held));
            }
        }

        await Task.WhenAll(resolving).ConfigureAwait(false);
    }

    private async Task ResolveAsync(HeldLock held)
    {
        try
        {
            using Deadline deadline = context.StartBackground();
            await context.Resolver.MeetAsync(held.Lock, held.Key, resolve: true, deadline).ConfigureAwait(false);
        }
        catch (Exception error) when (error is OperationCanceledException or ObjectDisposedException or ShardForgeException)
        {
            // The next round tries again.
        }
    }

    // R28: the oracle's leader knows the oldest snapshot of all nodes, and tells every shard. Everybody asks for a timestamp, and so reports its own.
    private async Task RaiseLimitsAsync()
    {
        using Deadline deadline = context.StartBackground();
        Timestamp now = await context.Timestamps.NextAsync(deadline.Token).ConfigureAwait(false);
        ulong back = (ulong)horizon.TotalMilliseconds << Timestamp.CounterBits;
        Timestamp oldest = oldestOpenSnapshot();
        if (oldest.IsZero || now.Value <= back || context.Router.Maps.Current is not { } map)
            return;
        Timestamp limit = Timestamp.Earlier(oldest, new(now.Value - back));
        List<Task> raising = [];
        foreach (Routing.ShardRoute shard in map.Shards)
        {
            TransactionRequest request = new() { Shard = shard.Shard, Epoch = default, Question = TransactionQuestion.Limit, Transaction = default, Keys = [], Timestamp = limit };
            raising.Add(context.Router.ReadAsync(request, static (limit, map) => map.Find(limit.Shard), deadline).AsTask());
        }

        await Task.WhenAll(raising).ConfigureAwait(false);
    }

    private async Task SweepAsync(CancellationToken cancellationToken)
    {
        foreach (ShardReplica replica in replicas())
        {
            if (!replica.IsServing)
                continue;
            using Deadline deadline = context.StartBackground();

            // Judged against a fresh timestamp, so that a node whose clock stood still forgets nothing early.
            Timestamp now = await context.Timestamps.NextAsync(deadline.Token).ConfigureAwait(false);
            ulong back = (ulong)horizon.TotalMilliseconds << Timestamp.CounterBits;
            if (now.Value <= back)
                continue;
            List<ExpiredOperation> expired = [];
            _sweptUpTo[replica.Shard] = replica.FindExpiredOperations(new Timestamp(now.Value - back), _sweptUpTo.GetValueOrDefault(replica.Shard), SweepEntriesMax, expired);
            List<byte[]> removable = [];
            foreach (ExpiredOperation operation in expired)
            {
                if (await IsResolvedAsync(operation).ConfigureAwait(false))
                    removable.Add(operation.EngineKey);
            }

            await replica.RemoveOperationsAsync(removable, cancellationToken).ConfigureAwait(false);
        }
    }

    // A decision goes only when no lock needs it any more.
    private async ValueTask<bool> IsResolvedAsync(ExpiredOperation operation)
    {
        foreach (byte[] key in operation.Others)
        {
            using Deadline deadline = context.StartBackground();
            if (!await context.Resolver.ResolveAsync(new DecidedTransaction(operation.Transaction, operation.Commit), [key], deadline).ConfigureAwait(false))
                return false;
        }

        return true;
    }

    [LoggerMessage(EventId = 8001, Level = LogLevel.Warning, Message = "Upkeep of transactions: a round failed")]
    private static partial void LogRoundFailed(ILogger logger, Exception error);
}
