using ShardForge.Replication;

namespace ShardForge.Routing;

/// <summary>Turns what a request met into the error that its caller sees. Whoever knows whether it left picks the type.</summary>
internal static class RouterErrors
{
    public static ShardUnavailableException Unavailable(string nodeId, Router.Attempts attempts, TimeSpan limit) =>
        new($"No leader answered node {nodeId} within {limit.TotalSeconds:0.###} s ({attempts.Count} attempts; last: {attempts.LastWords}). Nothing was written.");

    public static Exception ForRead(ShardResponse response, ShardRoute route, string target) => response.Status switch
    {
        ShardStatus.HistoryGone => new HistoryGoneException($"The snapshot is older than the history that shard {route.Shard} on {target} keeps: {response.Message}"),
        _ => new ShardForgeException($"Shard {route.Shard} on {target} answered {response.Status}: {response.Message}"),
    };

    public static Exception ForWrite(ShardResponse response, WriteRequest request, ShardRoute route, string target) => response.Status switch
    {
        ShardStatus.Conflict => new TransactionConflictException(
            $"Conflict in shard {route.Shard} on {target}: {response.Message ?? "a newer version was written"}; the first key written is {FirstKey(request)}. Nothing was written."),
        ShardStatus.HistoryGone => new TransactionConflictException(
            $"The transaction began before the history that shard {route.Shard} keeps: {response.Message} Nothing was written."),
        ShardStatus.Locked => new TransactionConflictException(
            $"Conflict in shard {route.Shard} on {target}: {response.Message} It is the older one, so this one does not wait for it. Nothing was written."),
        ShardStatus.TooOld => new OutcomeUnknownException(
            $"The request {request.Id} is older than the results that shard {route.Shard} keeps: {response.Message}"),
        _ => ForRead(response, route, target),
    };

    public static OutcomeUnknownException OutcomeUnknown(WriteRequest request, ShardRoute? route, string target, Router.Attempts attempts, string why, ILockResolver? locks = null) =>
        new($"Write {request.Id} of {request.Writes.Count} key(s), the first {FirstKey(request)}, was sent to shard {route?.Shard.ToString() ?? "?"} on {target}: {why} "
            + $"({attempts.Count} attempts; last: {attempts.LastWords}). It may or may not have happened.")
        {
            Resolver = request.Step == WriteStep.Commit && locks is not null ? token => locks.FindOutAsync(request, token) : null,
        };

    private static string FirstKey(WriteRequest request) => request.Writes.Count == 0 ? "(none)" : ByteOrder.Show(request.Writes[0].Key.Span);
}
