using System.Globalization;
using ShardForge.Consensus;
using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

internal sealed partial class ShardReplica
{
    /// <summary>Nothing is applied meanwhile, so the copy is of exactly the applied index, which it also carries inside.</summary>
    public async ValueTask<LogIndex> WriteSnapshotAsync(string directory, CancellationToken cancellationToken)
    {
        await Engine.FlushAsync(cancellationToken).ConfigureAwait(false);
        await Engine.CheckpointAsync(directory, cancellationToken).ConfigureAwait(false);
        return AppliedIndex;
    }

    public string GetGenerationDirectory(long generation) =>
        GenerationDirectory(_options, generation) ?? throw new InvalidOperationException($"Shard {Shard} on {_options.NodeId} lives in memory: it has no directory for a snapshot.");

    public async ValueTask InstallSnapshotAsync(long generation, LogIndex index, CancellationToken cancellationToken)
    {
        EngineHandle before = _engine;
        Volatile.Write(ref _engine, await OpenEngineAsync(_options, generation, cancellationToken).ConfigureAwait(false));
        try
        {
            LoadState();
            Invariant.Require(AppliedIndex == index);
            ForgetProposals(index);
        }
        catch (Exception error)
        {
            Stop(error);
            throw;
        }
        finally
        {
            await before.CloseAsync().ConfigureAwait(false);
        }

        RemoveOtherGenerations(_options, generation);
        LogInstalled(_logger, Shard, _options.NodeId, index, generation);
    }

    /// <summary>Makes the applied state durable and lets go of the log before it (R32).</summary>
    public async ValueTask ReleaseLogAsync(CancellationToken cancellationToken)
    {
        // Taken before the flush began: what is applied meanwhile may miss it.
        LogIndex covered = AppliedIndex;
        if (!TryEnterEngine(out EngineHandle? engine))
            return;
        try
        {
            await engine.Engine.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            engine.Exit();
        }

        _group?.ReleaseLog(covered);
    }

    // The snapshot covers their indexes, and the terms of its entries are gone: nobody can tell here what became of them.
    private void ForgetProposals(LogIndex covered)
    {
        ReleasedWaiters released = new();
        lock (_gate)
        {
            foreach (LogIndex index in _proposed.Keys.Where(index => index <= covered).ToArray())
            {
                if (_proposed.Remove(index, out ProposedEntry? proposed))
                    EndLocked(proposed, CommandFate.Unknown, released);
            }
        }

        released.Wake();
    }

    private static async ValueTask<EngineHandle> OpenEngineAsync(ShardReplicaOptions options, long generation, CancellationToken cancellationToken)
    {
        StorageEngineContext context = new()
        {
            Directory = GenerationDirectory(options, generation),
            FileSystem = options.FileSystem,
            Resources = options.Resources,
            TimeProvider = options.TimeProvider,
            LoggerFactory = options.LoggerFactory,
            Name = $"{options.NodeId}/shard-{options.Shard}",
            VersionSuffixBytes = MvccKey.SuffixBytes,
            WriteAheadLog = false,
            CompactionFilter = VersionFilter.Instance,
        };
        return new EngineHandle(await options.StorageEngine.OpenAsync(context, cancellationToken).ConfigureAwait(false), generation);
    }

    private static string? GenerationDirectory(ShardReplicaOptions options, long generation) =>
        options.Directory is { } directory ? Path.Combine(directory, generation.ToString(CultureInfo.InvariantCulture)) : null;

    // R33: the log says which one counts; whatever else lies there is an unfinished snapshot or the state before one.
    private static void RemoveOtherGenerations(ShardReplicaOptions options, long generation)
    {
        if (options.Directory is not { } directory)
            return;
        foreach (string path in options.FileSystem.ListDirectories(directory))
        {
            if (long.TryParse(Path.GetFileName(path), NumberStyles.None, CultureInfo.InvariantCulture, out long other) && other != generation)
                options.FileSystem.DeleteDirectory(path);
        }
    }
}
