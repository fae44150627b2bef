using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;
using ShardForge.Common;

namespace ShardForge.Consensus.NodeLog;

/// <summary>The durable log of all groups of a node: one sequence of records, one write and one flush for all that waits.</summary>
/// <remarks>
/// The path of a record: <see cref="ReplicaLog"/> (decides, in memory) → <see cref="GroupCommit"/> (waits) → <see cref="LogWriter"/> (the log thread) →
/// <see cref="LogBatch"/> (layout) → disk. Back: <see cref="LogSegmentReader"/>, and at open <see cref="LogRecovery"/>, <see cref="RecoveredReplica"/>,
/// <see cref="LogRepair"/>. Files: <see cref="LogSegmentStore"/>, prepared by <see cref="LogSegmentSupply"/>, freed by what LogTrimmer.cs decides. Formats:
/// <see cref="LogFormat"/>, <see cref="LogBody"/>, <see cref="LogEndFile"/>.
/// <para>Durable is what a flush covered: a waiter completes after the flush of the batch that has its record, and not otherwise.</para>
/// <para>Threads: calls from any; the log thread; one thread that prepares and frees segments. Lock order: replicas, one replica, queue. No I/O and no
/// waiter's code under any of them.</para>
/// </remarks>
[SuppressMessage("Design", "MA0049", Justification = "The entry type of a folder has the folder's name.")]
internal sealed class NodeLog : INodeLog
{
    /// <summary>Longest descriptor of a replica.</summary>
    public const int DescriptorBytesMax = 64 * 1024;

    private readonly Lock _gate = new();
    private readonly Dictionary<ReplicaId, ReplicaLog> _replicas = [];      // removed ones too, until that is durable
    private readonly HashSet<ReplicaId> _removedBefore = [];
    private readonly GroupCommit _queue = new();
    private readonly LogWriter _writer;
    private readonly string _directory;
    private readonly ILogger _logger;
    private long _cachedBytes;

    private NodeLog(LogSegmentStore store, NodeLogOptions options, LogRecovery recovered)
    {
        _directory = store.Directory;
        _logger = options.Logger;
        System = new ReplicaLog(this, default, default, default);
        foreach (RecoveredReplica replica in recovered.Replicas)
            _replicas.Add(replica.Replica, new ReplicaLog(this, replica));
        foreach ((ReplicaId id, LogSegment segment) in recovered.RemovedIds)
        {
            _removedBefore.Add(id);
            segment.LiveStateCount++;
        }

        _writer = new LogWriter(this, _queue, store, options, recovered);
    }

    public event Action<ReplicaId>? CompactionWanted;

    public event Action<Exception>? Failed;

    public IReadOnlyCollection<IReplicaLog> Replicas
    {
        get
        {
            lock (_gate)
                return [.. _replicas.Values.Where(static replica => replica is { IsCreated: true, IsRemoved: false })];
        }
    }

    public long DurablePosition => _writer.DurablePosition;

    public long RetainedBytes => _writer.RetainedBytes;

    /// <summary>Flushes since the open.</summary>
    public long FlushCount => _writer.FlushCount;

    /// <summary>
    /// Whether commands are admitted (R34): false while the disk is full and only the reserve is left, which is for votes, configurations and what frees
    /// segments. Appends of commands then throw <see cref="OverloadedException"/>.
    /// </summary>
    public bool HasRoom => _writer.RoomBytes > 2 * _writer.CommandReserveBytes;   // before an append is refused

    public Exception? Failure => _queue.Failure;

    public long CachedBytes => Interlocked.Read(ref _cachedBytes);

    /// <summary>Stands for the node itself: records that belong to no replica.</summary>
    public ReplicaLog System { get; }

    /// <summary>Recovers the log in a directory, or begins one. Blocks.</summary>
    /// <param name="files">Where it lies; one in memory for a node without a data directory.</param>
    /// <param name="directory">Its own directory, created where missing.</param>
    /// <param name="options">Null: the defaults.</param>
    /// <exception cref="CorruptionException">Something durable is missing or damaged. Nothing on disk was changed.</exception>
    /// <exception cref="ConfigurationException">The log has a newer format. Nothing on disk was changed.</exception>
    public static NodeLog Open(IFileSystem files, string directory, NodeLogOptions? options = null)
    {
        options = (options ?? new()).Validated();
        LogSegmentStore store = new(files, directory);
        LogRecovery? recovered = LogRecovery.Read(store);
        if (recovered is null && options.MustExist)
            throw new CorruptionException(directory, 0, "the node log is gone.");
        if (recovered is not null && options.MustBeFresh && (recovered.Replicas.Any() || recovered.RemovedIds.Count > 0))
        {
            recovered.Dispose();
            throw new CorruptionException(directory, 0, "the log has replicas, and the file that says which node they belong to is gone.");
        }

        if (recovered is null)
        {
            Begin(store, options);
            recovered = LogRecovery.Read(store)!;
        }

        try
        {
            LogRepair.Apply(recovered, store, options.Logger);
            NodeLog log = new(store, options, recovered);
            NodeLogMessages.Recovered(options.Logger, directory, log._replicas.Count, recovered.Segments.Count, recovered.End.Offset, recovered.End.Segment);
            log._writer.Start();
            return log;
        }
        catch
        {
            recovered.Dispose();
            throw;
        }
    }

    public bool WasCreated(ReplicaId replica)
    {
        lock (_gate)
            return _replicas.ContainsKey(replica) || _removedBefore.Contains(replica);
    }

    public async ValueTask<IReplicaLog> CreateReplicaAsync(ReplicaId replica, ReadOnlyMemory<byte> descriptor, ReadOnlyMemory<byte> configuration,
        CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(descriptor.Length, DescriptorBytesMax, nameof(descriptor));
        ArgumentOutOfRangeException.ThrowIfZero(replica.Value, nameof(replica));
        ReplicaLog created = new(this, replica, descriptor.ToArray(), configuration.ToArray());
        ValueTask durable;
        lock (_gate)
        {
            if (_replicas.ContainsKey(replica) || _removedBefore.Contains(replica))
                throw new InvalidOperationException($"Replica {replica} was created here before; an id is never used again.");
            durable = created.CreateAsync(cancellationToken);
            _replicas.Add(replica, created);
        }

        await durable.ConfigureAwait(false);
        return created;
    }

    public ReadOnlyMemory<byte> GetDescriptor(ReplicaId replica) => Find(replica).Descriptor;

    public async ValueTask RemoveReplicaAsync(ReplicaId replica, CancellationToken cancellationToken = default)
    {
        await Find(replica).RemoveAsync(cancellationToken).ConfigureAwait(false);
        lock (_gate)
        {
            _replicas.Remove(replica);
            _removedBefore.Add(replica);
        }
    }

    /// <summary>Writes what waits, tells the end of the log in its file, closes. Waits for the log thread.</summary>
    public async ValueTask DisposeAsync()
    {
        _queue.End(GroupCommitState.Closing);
        await _writer.Ended.ConfigureAwait(false);
        FailWaiters(new ObjectDisposedException(nameof(NodeLog)));
    }

    /// <summary>Stops without a goodbye, as a killed process would: what waits is not written, and its waiters learn that the outcome is unknown.</summary>
    public async ValueTask KillAsync()
    {
        _queue.End(GroupCommitState.Killed);
        await _writer.Ended.ConfigureAwait(false);
        IOException killed = new($"The node log in {_directory} was stopped. Whether what was not durable yet will be found again is unknown.");
        _queue.Fail(killed);
        FailWaiters(killed);
    }

    /// <summary>R35: the log stops for good.</summary>
    public void Fail(Exception error)
    {
        IOException failure = new($"The node log in {_directory} stopped: {error.Message} What was not durable yet may or may not be found again.", error);
        _queue.Fail(failure);
        NodeLogMessages.Stopped(_logger, _directory, error);
        FailWaiters(failure);
        Tell(Failed, failure);
    }

    public void Send(ReadOnlySpan<PendingRecord> records, bool isOwn = false) => _queue.Add(records, isOwn);

    /// <summary>R34: refuses what would use the reserve of a full disk.</summary>
    public void CheckRoom(LogRecordKind kind, long bytes)
    {
        long room = _writer.RoomBytes;
        if (room == long.MaxValue)
            return;
        long needed = bytes + LogFormat.BlockBytes + (kind == LogRecordKind.Entry ? _writer.CommandReserveBytes : 0);
        if (room < needed)
            throw new OverloadedException($"The disk of the node log in {_directory} is full: {room:N0} bytes are left, {needed:N0} are needed with the reserve. Nothing was written.");
    }

    public void AddCachedBytes(long bytes) => Interlocked.Add(ref _cachedBytes, bytes);

    public void WantCompaction(ReplicaId replica) => Tell(CompactionWanted, replica);

    public ReplicaLog[] AllReplicas()
    {
        lock (_gate)
            return [.. _replicas.Values];
    }

    private static void Begin(LogSegmentStore store, NodeLogOptions options)
    {
        DurableDirectory.Create(store.Files, store.Directory);
        store.Create(new LogSegmentHeader(options.NewLogId ?? Guid.NewGuid(), Number: 1, options.FirstSegmentBytes, StartPosition: 0, options.BatchBytesMax)).Dispose();
    }

    // A listener's error is its own: the log goes on, or stops for the reason it had.
    private void Tell<T>(Action<T>? listeners, T what)
    {
        try
        {
            listeners?.Invoke(what);
        }
        catch (Exception error)
        {
            NodeLogMessages.ListenerFailed(_logger, _directory, error);
        }
    }

    private ReplicaLog Find(ReplicaId replica)
    {
        lock (_gate)
            return _replicas.TryGetValue(replica, out ReplicaLog? found) && !found.IsRemoved ? found : throw new InvalidOperationException($"There is no replica {replica}.");
    }

    private void FailWaiters(Exception failure)
    {
        List<TaskCompletionSource> waiters = [];
        foreach (ReplicaLog replica in AllReplicas())
            replica.TakeWaiters(waiters);
        foreach (TaskCompletionSource waiter in waiters)
        {
            waiter.TrySetException(failure);
            _ = waiter.Task.Exception;                                      // seen, also where a cancelled caller does not look any more
        }
    }
}
