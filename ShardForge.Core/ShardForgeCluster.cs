using System.Buffers.Binary;
using System.Net;
using System.Runtime.CompilerServices;
using ShardForge.Common;
using ShardForge.Replication;
using ShardForge.Routing;
using ShardForge.Transactions;

namespace ShardForge;

/// <summary>A node of a cluster, hosted in this process; one per data directory, share and re-use it. Safe for concurrent use.</summary>
/// <remarks>
/// Disposing it stops the node: leadership is handed over, services end in reverse order of their start, bounded in time. Operations
/// before the node is ready wait, within their deadline (<see cref="ShardForgeConfig.OperationTimeout"/>).
/// </remarks>
public sealed partial class ShardForgeCluster : IKeyValueStore, IAsyncDisposable, IDisposable
{
    private readonly NodeRuntime _node;

    private ShardForgeCluster(NodeRuntime node) => _node = node;

    /// <summary>This node's id.</summary>
    public string NodeId => _node.Config.NodeId;

    /// <summary>The bound address, port 0 resolved; null without a listener.</summary>
    public EndPoint? ListenEndPoint => _node.ListenEndPoint;

    internal NodeRuntime Node => _node;

    /// <summary>Recovers the local data, starts the node, returns without waiting for other nodes. Blocks the caller.</summary>
    /// <param name="config">The settings; checked before anything is touched.</param>
    /// <exception cref="ConfigurationException">A setting, an address or the directory cannot be used; names the setting; nothing on disk was changed.</exception>
    /// <exception cref="CorruptionException">The directory is damaged; names file and offset.</exception>
    public static ShardForgeCluster Open(ShardForgeConfig config) => Open(config, NodeEnvironment.Default);

    internal static ShardForgeCluster Open(ShardForgeConfig config, NodeEnvironment environment)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Blocking.Run(() => OpenWithoutWaitAsync(config, environment, CancellationToken.None));
    }

    internal static async Task<ShardForgeCluster> OpenWithoutWaitAsync(ShardForgeConfig config, NodeEnvironment environment, CancellationToken cancellationToken)
    {
        config.Validate();
        return new ShardForgeCluster(await NodeRuntime.OpenAsync(config, environment, cancellationToken).ConfigureAwait(false));
    }

    /// <summary><see cref="Open(ShardForgeConfig)"/>, then <see cref="WaitUntilReadyAsync"/>.</summary>
    /// <param name="config">The settings; checked before anything is touched.</param>
    /// <param name="cancellationToken">Ends the wait and closes what was opened.</param>
    /// <exception cref="ConfigurationException">A setting, an address or the directory cannot be used, or the members are of another cluster.</exception>
    /// <exception cref="CorruptionException">The directory is damaged; names file and offset.</exception>
    public static Task<ShardForgeCluster> OpenAsync(ShardForgeConfig config, CancellationToken cancellationToken = default) =>
        OpenAsync(config, NodeEnvironment.Default, cancellationToken);

    internal static async Task<ShardForgeCluster> OpenAsync(ShardForgeConfig config, NodeEnvironment environment, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(config);
        cancellationToken.ThrowIfCancellationRequested();
        ShardForgeCluster cluster = await OpenWithoutWaitAsync(config, environment, cancellationToken).ConfigureAwait(false);
        try
        {
            await cluster.WaitUntilReadyAsync(cancellationToken).ConfigureAwait(false);
            return cluster;
        }
        catch
        {
            await cluster.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Completes when every shard has a leader that this node can reach.</summary>
    /// <param name="cancellationToken">Ends the wait; the only bound it has.</param>
    /// <exception cref="ConfigurationException">The members, or those at <see cref="ShardForgeConfig.Join"/>, are of another cluster, or refuse this node.</exception>
    /// <exception cref="ShardForgeException">A shard has no leader that can be reached, and its replica on this node has stopped; says why it did.</exception>
    public Task WaitUntilReadyAsync(CancellationToken cancellationToken = default) => _node.WaitUntilReadyAsync(cancellationToken);

    /// <summary>Nodes, shards, replicas, leaders, health as this node knows them now.</summary>
    public ClusterStatus GetStatus()
    {
        _node.ThrowIfDisposed();
        return _node.GetStatus();
    }

    /// <inheritdoc/>
    public ValueTask<byte[]?> GetAsync(ReadOnlyMemory<byte> key, ReadOptions? options = null, CancellationToken cancellationToken = default) =>
        options?.At is null && !cancellationToken.IsCancellationRequested && _node.TryGetNow(key.Span, out byte[]? value)
            ? new(value)
            : GetByRequestAsync(key, options, cancellationToken);

    private async ValueTask<byte[]?> GetByRequestAsync(ReadOnlyMemory<byte> key, ReadOptions? options, CancellationToken cancellationToken)
    {
        Check(cancellationToken);
        _node.Transactions.CheckKey(key);
        using Deadline deadline = _node.StartDeadline(cancellationToken);
        Timestamp? readAt = options?.At is { } at ? await TimestampOfAsync(at, deadline).ConfigureAwait(false) : null;
        ShardResponse response = await _node.Router.ReadAsync(
            new GetRequest { Shard = default, Epoch = default, Key = key, ReadAt = readAt }, static (request, map) => map.Find(request.Key.Span), deadline).ConfigureAwait(false);
        return response.Value;
    }

    /// <inheritdoc/>
    public ValueTask PutAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value, WriteOptions? options = null, CancellationToken cancellationToken = default) =>
        WriteOneAsync(key, value, cancellationToken);

    /// <inheritdoc/>
    public ValueTask DeleteAsync(ReadOnlyMemory<byte> key, WriteOptions? options = null, CancellationToken cancellationToken = default) =>
        WriteOneAsync(key, null, cancellationToken);

    /// <summary>Writes a batch, all or nothing.</summary>
    /// <param name="batch">Copied at the call. An empty one completes and does nothing; the same key twice: the last one wins. Keys of any shards.</param>
    /// <param name="cancellationToken">Cancelled before the call: nothing is written. Cancelled while the write is in flight: it may happen.</param>
    /// <exception cref="OutcomeUnknownException">The write may or may not have happened.</exception>
    /// <exception cref="LimitExceededException">A key, a value or the whole is over its limit. Nothing was written.</exception>
    /// <exception cref="ShardUnavailableException">A shard had no leader in time, or other transactions were in the way all the time. Nothing was written; transient.</exception>
    public async ValueTask WriteAsync(WriteBatch batch, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(batch);
        Check(cancellationToken);
        if (batch.Count == 0)
            return;
        await BatchCommit.RunAsync(_node.Transactions, CollapseWrites(batch), _node.Config.OperationTimeout, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Writes a value if the key holds what is expected. One Raft entry; linearizable.</summary>
    /// <param name="key">At most <see cref="Limits.KeyBytesMax"/> bytes. Read until the task ends: leave it unchanged.</param>
    /// <param name="expected">What the key must hold; null: it must be absent.</param>
    /// <param name="value">What it gets; null: it is deleted.</param>
    /// <param name="cancellationToken">Cancelled before the call: nothing is written. Cancelled while the write is in flight: it may happen.</param>
    /// <returns>Whether it was written; false: the key held something else.</returns>
    /// <exception cref="OutcomeUnknownException">The write may or may not have happened. Read before you try again.</exception>
    public async ValueTask<bool> CompareAndSetAsync(ReadOnlyMemory<byte> key, byte[]? expected, byte[]? value, CancellationToken cancellationToken = default)
    {
        Check(cancellationToken);
        _node.Transactions.CheckKey(key);
        if (expected is not null)
            _node.Transactions.CheckValue(expected);
        if (value is not null)
            _node.Transactions.CheckValue(value);
        WriteRequest request = NewWrite([new KeyWrite(key, value is null ? null : (ReadOnlyMemory<byte>?)value)]) with
        {
            HasCondition = true,
            ExpectedValue = expected is null ? null : (ReadOnlyMemory<byte>?)expected,
        };
        using Deadline deadline = _node.StartDeadline(cancellationToken);
        ShardResponse response = await _node.Router.WriteAsync(request, SingleShard.Find, deadline).ConfigureAwait(false);
        return response.Status == ShardStatus.Ok;
    }

    /// <summary>Adds to a number at its shard's leader, atomically: it conflicts with nothing. One Raft entry.</summary>
    /// <param name="key">Holds 8 bytes, a signed little-endian number, or is absent, which counts as 0.</param>
    /// <param name="amount">What is added; the sum wraps around.</param>
    /// <param name="cancellationToken">Cancelled before the call: nothing is written. Cancelled while the write is in flight: it may happen.</param>
    /// <returns>The sum.</returns>
    /// <exception cref="ShardForgeException">The key holds something else than 8 bytes. Nothing was written; not transient.</exception>
    /// <exception cref="OutcomeUnknownException">The write may or may not have happened.</exception>
    public ValueTask<long> AddAsync(ReadOnlyMemory<byte> key, long amount, CancellationToken cancellationToken = default) => ChangeNumberAsync(key, ValueChange.Add, amount, cancellationToken);

    /// <summary>Lowers a number to another one, unless it is at or below it already; an absent key takes it. As <see cref="AddAsync"/>.</summary>
    /// <param name="key">Holds 8 bytes, a signed little-endian number, or is absent.</param>
    /// <param name="number">The number.</param>
    /// <param name="cancellationToken">As for <see cref="AddAsync"/>.</param>
    /// <returns>The smaller one.</returns>
    public ValueTask<long> MinAsync(ReadOnlyMemory<byte> key, long number, CancellationToken cancellationToken = default) => ChangeNumberAsync(key, ValueChange.Min, number, cancellationToken);

    /// <summary>Raises a number to another one, unless it is at or above it already; an absent key takes it. As <see cref="AddAsync"/>.</summary>
    /// <param name="key">Holds 8 bytes, a signed little-endian number, or is absent.</param>
    /// <param name="number">The number.</param>
    /// <param name="cancellationToken">As for <see cref="AddAsync"/>.</param>
    /// <returns>The larger one.</returns>
    public ValueTask<long> MaxAsync(ReadOnlyMemory<byte> key, long number, CancellationToken cancellationToken = default) => ChangeNumberAsync(key, ValueChange.Max, number, cancellationToken);

    /// <summary>Puts bytes behind a value at its shard's leader, atomically: it conflicts with nothing. One Raft entry.</summary>
    /// <param name="key">The key; absent counts as empty.</param>
    /// <param name="suffix">What is put behind it.</param>
    /// <param name="cancellationToken">As for <see cref="AddAsync"/>.</param>
    /// <returns>The length of the value now.</returns>
    /// <exception cref="ShardForgeException">The value would be over <see cref="Limits.ValueBytesMax"/>. Nothing was written; not transient.</exception>
    public async ValueTask<int> AppendAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> suffix, CancellationToken cancellationToken = default) =>
        (await ChangeAsync(key, ValueChange.Append, suffix, cancellationToken).ConfigureAwait(false)).Length;

    private async ValueTask<long> ChangeNumberAsync(ReadOnlyMemory<byte> key, ValueChange change, long operand, CancellationToken cancellationToken)
    {
        byte[] bytes = new byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, operand);
        return BinaryPrimitives.ReadInt64LittleEndian(await ChangeAsync(key, change, bytes, cancellationToken).ConfigureAwait(false));
    }

    private async ValueTask<byte[]> ChangeAsync(ReadOnlyMemory<byte> key, ValueChange change, ReadOnlyMemory<byte> operand, CancellationToken cancellationToken)
    {
        Check(cancellationToken);
        _node.Transactions.CheckKey(key);
        _node.Transactions.CheckValue(operand);
        using Deadline deadline = _node.StartDeadline(cancellationToken);
        ShardResponse response = await _node.Router.WriteAsync(NewWrite([new KeyWrite(key, operand)]) with { Change = change }, SingleShard.Find, deadline).ConfigureAwait(false);
        return response.Status == ShardStatus.Ok && response.Value is { } value ? value
            : throw new ShardForgeException($"{change} on key {ByteOrder.Show(key.Span)} is not possible: {response.Message} Nothing was written.");
    }

    /// <inheritdoc/>
    public IAsyncEnumerable<KeyValuePair<byte[], byte[]>> ScanAsync(KeyRange range, ScanOptions? options = null, CancellationToken cancellationToken = default)
    {
        _node.ThrowIfDisposed();
        _node.Transactions.CheckRange(range);
        ScanOptions checkedOptions = options ?? new ScanOptions();
        ArgumentOutOfRangeException.ThrowIfNegative(checkedOptions.Limit ?? 0, nameof(options));
        return ScanCoreAsync(range, checkedOptions, cancellationToken);
    }

    /// <summary>Starts a transaction: takes its snapshot.</summary>
    /// <param name="options">Isolation, timeout; null: the defaults.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is out of its range.</exception>
    public async ValueTask<ShardForgeTransaction> BeginTransactionAsync(TransactionOptions? options = null, CancellationToken cancellationToken = default)
    {
        TransactionOptions checkedOptions = options ?? TransactionOptions.Default;
        checkedOptions.Validate();
        Check(cancellationToken);
        return await BeginAsync(checkedOptions, _node.Config.TimeProvider.GetTimestamp(), age: null, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Takes a node out of the cluster: its replicas are moved away first, as far as others can take them.</summary>
    /// <param name="nodeId">The node; this one, another, or one that is down for good. One that was removed before: nothing happens.</param>
    /// <param name="cancellationToken">Ends the wait, not the removal. It has no other bound: how long it takes depends on the data.</param>
    /// <exception cref="ArgumentException">There is no such node.</exception>
    /// <exception cref="InvalidOperationException">It is the only node left.</exception>
    /// <remarks>The node itself notices, and says so: <see cref="WaitUntilReadyAsync"/> fails with <see cref="ConfigurationException"/>, and its status names it as a
    /// problem. Its id can be used again by a node with an empty directory that joins. With fewer nodes than replicas, shards have fewer replicas.</remarks>
    public Task RemoveNodeAsync(string nodeId, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(nodeId);
        Check(cancellationToken);
        return _node.RemoveNodeAsync(nodeId, cancellationToken);
    }

    /// <summary>Stops the node; blocks until it has stopped. May be called twice.</summary>
    public void Dispose() => Blocking.Run(async () =>
    {
        await _node.StopAsync().ConfigureAwait(false);
        return true;
    });

    /// <summary>Stops the node. May be called twice.</summary>
    public async ValueTask DisposeAsync() => await _node.StopAsync().ConfigureAwait(false);

    private void Check(CancellationToken cancellationToken)
    {
        _node.ThrowIfDisposed();
        cancellationToken.ThrowIfCancellationRequested();
    }

    private async ValueTask WriteOneAsync(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte>? value, CancellationToken cancellationToken)
    {
        Check(cancellationToken);
        _node.Transactions.CheckKey(key);
        if (value is { } bytes)
            _node.Transactions.CheckValue(bytes);
        using Deadline deadline = _node.StartDeadline(cancellationToken);
        await _node.Router.WriteAsync(NewWrite([new KeyWrite(key, value)]), SingleShard.Find, deadline).ConfigureAwait(false);
    }

    private WriteRequest NewWrite(IReadOnlyList<KeyWrite> writes) => new()
    {
        Shard = default,
        Epoch = default,
        Id = _node.NextOperationId(),
        KnownTimestamp = _node.Timestamps.LastKnown,
        Writes = writes,
    };

    /// <summary>Each key once, the last operation on it, in key order; checked against the limits.</summary>
    private KeyWrite[] CollapseWrites(WriteBatch batch)
    {
        SortedDictionary<byte[], byte[]?> last = new(ByteOrder.Instance);
        foreach ((byte[] key, byte[]? value) in batch.Operations)
        {
            _node.Transactions.CheckKey(key);
            if (value is not null)
                _node.Transactions.CheckValue(value);
            last[key] = value;
        }

        long total = 0;
        KeyWrite[] writes = new KeyWrite[last.Count];
        int count = 0;
        foreach ((byte[] key, byte[]? value) in last)
        {
            total += key.Length + (value?.Length ?? 0);
            writes[count++] = new KeyWrite(key, value is null ? null : (ReadOnlyMemory<byte>?)value);
        }

        Limits limits = _node.Config.Limits;
        return total <= limits.TransactionBytesMax ? writes
            : throw new LimitExceededException(nameof(Limits.TransactionBytesMax), limits.TransactionBytesMax, total);
    }

    private async ValueTask<ShardForgeTransaction> BeginAsync(TransactionOptions options, long begun, Timestamp? age, CancellationToken cancellationToken)
    {
        using Deadline deadline = _node.Transactions.StartDeadline(options, begun, cancellationToken);
        OpenSnapshots.Registration snapshot = _node.Transactions.Snapshots.Open(_node.Timestamps.LastKnown, isBounded: true);
        try
        {
            Timestamp start = await TakeTimestampAsync(deadline).ConfigureAwait(false);
            return new ShardForgeTransaction(new ClientTransaction(_node.Transactions, options, start, age ?? start, begun, snapshot), _node.Transactions);
        }
        catch
        {
            snapshot.Dispose();
            throw;
        }
    }

    // The last timestamp of that millisecond, or the present one within it: the same moment shows the same from the next millisecond on.
    private async ValueTask<Timestamp> TimestampOfAsync(DateTimeOffset at, Deadline deadline)
    {
        long milliseconds = at.ToUnixTimeMilliseconds();
        ArgumentOutOfRangeException.ThrowIfNegative(milliseconds, nameof(at));
        Timestamp now = await TakeTimestampAsync(deadline).ConfigureAwait(false);
        if (milliseconds > now.Milliseconds)
            throw new ArgumentOutOfRangeException(nameof(at), at, $"The moment is later than now by the cluster's clock ({DateTimeOffset.FromUnixTimeMilliseconds(now.Milliseconds):O}).");
        return Timestamp.Earlier(now, new(((ulong)(milliseconds + 1) << Timestamp.CounterBits) - 1));
    }

    private async ValueTask<Timestamp> TakeTimestampAsync(Deadline deadline)
    {
        try
        {
            return await _node.Timestamps.NextAsync(deadline.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException error)
        {
            deadline.ThrowIfCallerCancelled(error);
            deadline.ThrowIfOwnerStopped();
            throw new ShardUnavailableException(
                $"No timestamp within {deadline.Limit.TotalSeconds:0.###} s: node {NodeId} reaches no leader of the metadata group. Nothing was written.", error);
        }
    }

    private async IAsyncEnumerable<KeyValuePair<byte[], byte[]>> ScanCoreAsync(
        KeyRange range, ScanOptions options, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        Check(cancellationToken);
        if (options.Limit == 0)
            yield break;
        using OpenSnapshots.Registration snapshot = _node.Transactions.Snapshots.Open(_node.Timestamps.LastKnown, isBounded: false);
        Func<Deadline, ValueTask<Timestamp>> takeSnapshot = options.At is { } at ? deadline => TimestampOfAsync(at, deadline) : TakeTimestampAsync;
        MergedScan scan = new(_node.Router, new ScanSettings(_node.StartDeadline, _node.Config.Limits.ScanPageBytesMax));
        int left = options.Limit ?? int.MaxValue;
        await foreach (KeyValuePair<byte[], byte[]> entry in scan
            .RunAsync(range, takeSnapshot, options.Reverse, Math.Min(TransactionContext.PageEntriesMax, left), cancellationToken).ConfigureAwait(false))
        {
            yield return entry;
            if (--left == 0)
                yield break;
            _node.ThrowIfDisposed();
        }
    }
}
