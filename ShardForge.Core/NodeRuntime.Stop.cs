using Microsoft.Extensions.Logging;
using ShardForge.Consensus;
using ShardForge.Replication;

namespace ShardForge;

/// <content>The end: in reverse order of the start, each step bounded.</content>
internal sealed partial class NodeRuntime
{
    private static readonly TimeSpan s_handOverLimit = TimeSpan.FromSeconds(2), s_drainLimit = TimeSpan.FromSeconds(1);

    /// <summary>Stops the node: leadership is handed over, then everything ends in reverse order. Every caller waits for the one stop.</summary>
    public Task StopAsync() => StopOnce(handsOver: true);

    /// <summary>Stops without handing over: the others are gone as well, or must find out by themselves.</summary>
    public Task StopWithoutHandOverAsync() => StopOnce(handsOver: false);

    /// <summary>As by kill -9, as far as one process can: no goodbye. The file system is dead already, so nothing more reaches the disk.</summary>
    public Task KillAsync()
    {
        lock (_stopGate)
        {
            if (_stop is null)
            {
                _network.Kill();
                _stop = EndAsync(handsOver: false, isKilled: true);
            }

            return _stop;
        }
    }

    private Task StopOnce(bool handsOver)
    {
        lock (_stopGate)
            return _stop ??= EndAsync(handsOver, isKilled: false);
    }

    private async Task EndAsync(bool handsOver, bool isKilled)
    {
        if (handsOver)
        {
            // What was acknowledged is decided; this only spares others the finding out.
            using CancellationTokenSource limit = new(s_drainLimit);
            await Transactions.Background.DrainAsync(limit.Token).ConfigureAwait(false);
            await HandOverAsync().ConfigureAwait(false);
        }

        await _stopping.CancelAsync().ConfigureAwait(false);
        await _bringingUp.ConfigureAwait(false);
        await _hosting.ConfigureAwait(false);
        await _releasing.ConfigureAwait(false);
        await _upkeep.ConfigureAwait(false);

        await EndStepAsync("metadata", async () =>
        {
            if (!isKilled)
                await _metadata.StopAsync().ConfigureAwait(false);
        }).ConfigureAwait(false);
        await EndStepAsync("groups", () => _raft.DisposeAsync()).ConfigureAwait(false);
        await EndStepAsync("metadata", () => _metadata.DisposeAsync()).ConfigureAwait(false);
        await Task.WhenAll(_shards.Values.Select(shard => EndStepAsync($"shard {shard.Shard}", shard.DisposeAsync))).ConfigureAwait(false);
        await EndStepAsync("links", () => _network.DisposeAsync()).ConfigureAwait(false);
        _resources.Dispose();
        await EndStepAsync("directory", isKilled ? _directory.KillAsync : _directory.DisposeAsync).ConfigureAwait(false);
        if (!isKilled)
            LogStopped(_logger, Config.NodeId);
    }

    /// <summary>After a failed open: ends what was started.</summary>
    private async Task AbortAsync()
    {
        await _stopping.CancelAsync().ConfigureAwait(false);
        if (_metadata is not null)
            await EndStepAsync("metadata", () => new ValueTask(_metadata.StopAsync())).ConfigureAwait(false);
        if (_raft is not null)
            await EndStepAsync("groups", () => _raft.DisposeAsync()).ConfigureAwait(false);
        if (_metadata is not null)
            await EndStepAsync("metadata", () => _metadata.DisposeAsync()).ConfigureAwait(false);
        foreach (ShardReplica shard in _shards.Values)
            await EndStepAsync($"shard {shard.Shard}", shard.DisposeAsync).ConfigureAwait(false);
        if (_network is not null)
            await EndStepAsync("links", () => _network.DisposeAsync()).ConfigureAwait(false);
        _resources?.Dispose();
        if (_directory is not null)
            await EndStepAsync("directory", () => _directory.DisposeAsync()).ConfigureAwait(false);
    }

    /// <summary>A step that fails does not keep the later ones from freeing what they hold.</summary>
    private async Task EndStepAsync(string what, Func<ValueTask> step)
    {
        try
        {
            await step().ConfigureAwait(false);
        }
        catch (Exception error)
        {
            LogStepFailed(_logger, Config.NodeId, what, error);
        }
    }

    private async Task HandOverAsync()
    {
        using CancellationTokenSource limit = new(s_handOverLimit);
        List<Task> handing = [];
        foreach (IRaftGroup group in _raft.Groups)
        {
            if (group.Status is { IsLeader: true, Members.Count: > 1 })
                handing.Add(HandOverAsync(group, limit.Token));
        }

        await Task.WhenAll(handing).ConfigureAwait(false);
    }

    private async Task HandOverAsync(IRaftGroup group, CancellationToken cancellationToken)
    {
        try
        {
            await group.TransferLeadershipAsync(null, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception error) when (error is OperationCanceledException or ShardForgeException or ObjectDisposedException)
        {
            // The others elect a leader by themselves, a little later.
            LogNotHandedOver(_logger, Config.NodeId, group.Shard, error);
        }
    }

    [LoggerMessage(EventId = 1005, Level = LogLevel.Information, Message = "Node {Node}: stopped")]
    private static partial void LogStopped(ILogger logger, string node);

    [LoggerMessage(EventId = 1006, Level = LogLevel.Warning, Message = "Node {Node}: could not end {What} in order")]
    private static partial void LogStepFailed(ILogger logger, string node, string what, Exception error);

    [LoggerMessage(EventId = 1007, Level = LogLevel.Information, Message = "Node {Node}: shard {Shard} was not handed over")]
    private static partial void LogNotHandedOver(ILogger logger, string node, ShardId shard, Exception error);
}
