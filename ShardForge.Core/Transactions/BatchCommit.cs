using ShardForge.Common;
using ShardForge.Replication;
using ShardForge.Routing;

namespace ShardForge.Transactions;

/// <summary>Writes a batch: blind, so it conflicts with nothing; what stands in its way for a moment is tried again inside the call's time (R20).</summary>
internal static class BatchCommit
{
    private static readonly TimeSpan s_pauseMin = TimeSpan.FromMilliseconds(1), s_pauseMax = TimeSpan.FromMilliseconds(50);

    /// <exception cref="OutcomeUnknownException">It may or may not have happened.</exception>
    public static async ValueTask RunAsync(TransactionContext context, IReadOnlyList<KeyWrite> writes, TimeSpan limit, CancellationToken cancellationToken)
    {
        using Deadline deadline = context.StartCall(limit, cancellationToken);
        try
        {
            ShardMap map = await context.Router.GetMapAsync(deadline).ConfigureAwait(false);
            if (SingleShard.TryFind(writes, [], [], map) is not null)
            {
                WriteRequest request = new() { Shard = default, Epoch = default, Id = context.NextId(), KnownTimestamp = context.Timestamps.LastKnown, Writes = writes };
                try
                {
                    await context.Router.WriteAsync(request, SingleShard.Find, deadline).ConfigureAwait(false);
                    return;
                }
                catch (SpansShardsException)
                {
                    // Split meanwhile; the same id, so that what an attempt may have left is found.
                    await RunOverShardsAsync(context, request.Id, request.KnownTimestamp, writes, deadline, cancellationToken).ConfigureAwait(false);
                    return;
                }
            }

            await RunOverShardsAsync(context, context.NextId(), known: null, writes, deadline, cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException error)
        {
            deadline.ThrowIfCallerCancelled(error);
            deadline.ThrowIfOwnerStopped();
            throw new ShardUnavailableException($"A batch of {writes.Count} keys found no way within {deadline.Limit.TotalSeconds:0.###} s. Nothing was written.", error);
        }
    }

    private static async ValueTask RunOverShardsAsync(
        TransactionContext context, OperationId id, Timestamp? known, IReadOnlyList<KeyWrite> writes, Deadline deadline, CancellationToken cancellationToken)
    {
        Timestamp age = await context.Timestamps.NextAsync(deadline.Token).ConfigureAwait(false);
        bool isInDoubt = known is not null;
        for (int attempt = 1; ; attempt++)
        {
            ShardCommit commit = new(context, new CommitSpec { Id = id, Age = age, Known = known ?? age, Writes = writes, IsInDoubt = isInDoubt });
            try
            {
                await commit.RunAsync(deadline.Remaining, cancellationToken).ConfigureAwait(false);
                return;
            }
            catch (TransactionConflictException) when (deadline.Remaining > s_pauseMax)
            {
                // An older one was in the way. Again with a new id and the same age.
            }

            TimeSpan cap = s_pauseMin * (1 << Math.Min(attempt, 8));
            await Task.Delay((cap < s_pauseMax ? cap : s_pauseMax) * context.NextRandom(), context.TimeProvider, deadline.Token).ConfigureAwait(false);
            await commit.Afterwards.WaitAsync(deadline.Token).ConfigureAwait(false);
            id = context.NextId();
            known = context.Timestamps.LastKnown;
            isInDoubt = false;
        }
    }
}
