using System.Runtime.CompilerServices;
using ShardForge.Common;
using ShardForge.Replication;
using ShardForge.Routing;

namespace ShardForge.Transactions;

/// <summary>A transaction at its client: a snapshot, a buffer of writes, and, where it is serializable, what it has read.</summary>
/// <remarks>
/// Optimistic: nothing is held at the shards until the commit (<see cref="ShardCommit"/>). Reads are at the start timestamp. Not thread-safe; <see cref="_state"/> moves only forward.
/// </remarks>
internal sealed class ClientTransaction
{
    private readonly TransactionContext _context;
    private readonly TransactionOptions _options;
    private readonly OperationId _id;
    private readonly Timestamp _start, _age;
    private readonly long _begun;
    private readonly SortedDictionary<byte[], byte[]?> _writes = new(ByteOrder.Instance);
    private readonly HashSet<byte[]> _readKeys = new(ByteOrder.Instance);
    private readonly List<KeyRange> _readRanges = [];
    private readonly List<(byte[] Key, bool Existed, byte[]? Old)> _undo = [];
    private readonly OpenSnapshots.Registration _snapshot;
    private int _savepointCount;
    private long _writeBytes;
    private State _state;

    /// <param name="context">The node's.</param>
    /// <param name="options">Checked.</param>
    /// <param name="start">Its snapshot.</param>
    /// <param name="age">The first timestamp of the call, over all of its runs (R20).</param>
    /// <param name="begun">When the call began.</param>
    /// <param name="snapshot">Keeps its history; closed at its end.</param>
    public ClientTransaction(TransactionContext context, TransactionOptions options, Timestamp start, Timestamp age, long begun, OpenSnapshots.Registration snapshot)
    {
        _snapshot = snapshot;
        _context = context;
        _options = options;
        _id = context.NextId();
        _start = start;
        _age = age;
        _begun = begun;
    }

    private enum State
    {
        Open,
        Ended,
    }

    public Timestamp Start => _start;

    /// <summary>Completes when nothing of a failed commit is left; a re-run waits for it.</summary>
    public Task Afterwards { get; private set; } = Task.CompletedTask;

    public async ValueTask<byte[]?> GetAsync(ReadOnlyMemory<byte> key, CancellationToken cancellationToken)
    {
        CheckOpen();
        _context.CheckKey(key);
        cancellationToken.ThrowIfCancellationRequested();
        byte[] ownKey = key.ToArray();
        if (_writes.TryGetValue(ownKey, out byte[]? own))
            return own?.ToArray();

        using Deadline deadline = StartDeadline(cancellationToken);
        ShardResponse response;
        try
        {
            response = await _context.Router.ReadAsync(
                new GetRequest { Shard = default, Epoch = default, Key = ownKey, ReadAt = _start }, static (request, map) => map.Find(request.Key.Span), deadline).ConfigureAwait(false);
        }
        catch (ShardUnavailableException error) when (_context.TimeLeft(_options, _begun) == TimeSpan.Zero)
        {
            throw TransactionContext.TimedOut(_options, error);
        }

        if (_options.Isolation == IsolationLevel.Serializable)
            _readKeys.Add(ownKey);
        return response.Value;
    }

    public void Put(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte>? value)
    {
        CheckOpen();
        _context.CheckKey(key);
        if (value is { } bytes)
            _context.CheckValue(bytes);
        byte[] ownKey = key.ToArray();
        long was = _writes.TryGetValue(ownKey, out byte[]? old) ? ownKey.Length + (old?.Length ?? 0) : 0;
        long total = _writeBytes - was + ownKey.Length + (value?.Length ?? 0);
        if (total > _context.Limits.TransactionBytesMax)
            throw new LimitExceededException(nameof(Limits.TransactionBytesMax), _context.Limits.TransactionBytesMax, total);
        _writeBytes = total;
        if (_savepointCount > 0)
            _undo.Add((ownKey, _writes.ContainsKey(ownKey), old));
        _writes[ownKey] = value?.ToArray();
    }

    /// <summary>Remembers what is buffered now.</summary>
    public int SetSavepoint()
    {
        CheckOpen();
        _savepointCount++;
        return _undo.Count;
    }

    /// <summary>Undoes what was buffered since; what was read stays read.</summary>
    /// <returns>False: the savepoint is behind one that was gone back to.</returns>
    public bool TryRollbackTo(int savepoint)
    {
        CheckOpen();
        if (savepoint > _undo.Count)
            return false;
        for (int i = _undo.Count - 1; i >= savepoint; i--)
        {
            (byte[] key, bool existed, byte[]? old) = _undo[i];
            _writeBytes -= key.Length + (_writes[key]?.Length ?? 0);
            if (existed)
            {
                _writes[key] = old;
                _writeBytes += key.Length + (old?.Length ?? 0);
            }
            else
            {
                _writes.Remove(key);
            }
        }

        _undo.RemoveRange(savepoint, _undo.Count - savepoint);
        return true;
    }

    /// <summary>The snapshot merged with the own writes that were made before the first move.</summary>
    public async IAsyncEnumerable<KeyValuePair<byte[], byte[]>> ScanAsync(KeyRange range, ScanOptions options, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        CheckOpen();
        cancellationToken.ThrowIfCancellationRequested();
        if (options.Limit == 0 || range.IsEmpty)
            yield break;
        if (_options.Isolation == IsolationLevel.Serializable)
            _readRanges.Add(range);

        List<KeyValuePair<byte[], byte[]?>> own = [];
        foreach (KeyValuePair<byte[], byte[]?> write in _writes)
        {
            if (range.Contains(write.Key))
                own.Add(write);
        }

        if (options.Reverse)
            own.Reverse();

        MergedScan scan = new(_context.Router, new ScanSettings(StartDeadline, _context.Limits.ScanPageBytesMax));
        int left = options.Limit ?? int.MaxValue;
        int pageEntries = (int)Math.Min(TransactionContext.PageEntriesMax, (long)left + own.Count);
        int at = 0;
        await foreach (KeyValuePair<byte[], byte[]> entry in scan.RunAsync(range, _ => new(_start), options.Reverse, pageEntries, cancellationToken).ConfigureAwait(false))
        {
            CheckOpen();
            bool overwritten = false;
            while (at < own.Count)
            {
                int order = own[at].Key.AsSpan().SequenceCompareTo(entry.Key);
                if (options.Reverse ? order < 0 : order > 0)
                    break;
                overwritten = order == 0;
                if (own[at].Value is { } value)
                {
                    yield return new(own[at].Key.ToArray(), value.ToArray());
                    if (--left == 0)
                        yield break;
                    CheckOpen();
                }

                at++;
            }

            if (overwritten)
                continue;
            yield return entry;
            if (--left == 0)
                yield break;
            CheckOpen();
        }

        for (; at < own.Count; at++)
        {
            if (own[at].Value is not { } value)
                continue;
            yield return new(own[at].Key.ToArray(), value.ToArray());
            if (--left == 0)
                yield break;
            CheckOpen();
        }
    }

    public async ValueTask CommitAsync(CancellationToken cancellationToken)
    {
        CheckOpen();
        _state = State.Ended;
        using OpenSnapshots.Registration snapshot = _snapshot;
        cancellationToken.ThrowIfCancellationRequested();
        if (_context.TimeLeft(_options, _begun) == TimeSpan.Zero)
            throw TransactionContext.TimedOut(_options, null);
        if (_writes.Count == 0)
            return;    // R23: a snapshot alone is serializable; nothing is proposed

        KeyWrite[] writes = new KeyWrite[_writes.Count];
        int count = 0;
        foreach (KeyValuePair<byte[], byte[]?> write in _writes)
            writes[count++] = new(write.Key, write.Value is null ? null : (ReadOnlyMemory<byte>?)write.Value);

        List<ReadOnlyMemory<byte>> readKeys = [];
        foreach (byte[] key in _readKeys)
        {
            // A written key is checked against the start anyway.
            if (!_writes.ContainsKey(key))
                readKeys.Add(key);
        }

        ShardCommit commit = new(_context, new CommitSpec
        {
            Id = _id,
            Age = _age,
            Start = _start,
            Known = _start,
            Writes = writes,
            ReadKeys = readKeys,
            ReadRanges = _readRanges,
        });
        try
        {
            await commit.RunAsync(_context.TimeLeft(_options, _begun), cancellationToken).ConfigureAwait(false);
        }
        catch (ShardUnavailableException error) when (_context.TimeLeft(_options, _begun) == TimeSpan.Zero)
        {
            throw TransactionContext.TimedOut(_options, error);
        }
        finally
        {
            Afterwards = commit.Afterwards;
        }
    }

    /// <summary>Ends it; nothing was sent anywhere. Does nothing where it has ended already.</summary>
    public void Rollback()
    {
        _state = State.Ended;
        _snapshot.Dispose();
        _writes.Clear();
    }

    private void CheckOpen()
    {
        _context.ThrowIfDisposed();
        if (_state != State.Open)
            throw new InvalidOperationException("The transaction has ended: after a commit, failed or not, only Rollback and Dispose are allowed.");
    }

    private Deadline StartDeadline(CancellationToken cancellationToken) => _context.StartDeadline(_options, _begun, cancellationToken);
}
