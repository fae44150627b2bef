using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

internal sealed partial class ShardReplica
{
    // Entries that share one engine write: large enough to spread its cost, small enough that the first caller does not wait for the last.
    private const int ApplyBytesTarget = 4 * 1024 * 1024;
    private static readonly TimeSpan s_stallRetry = TimeSpan.FromMilliseconds(20), s_stallRetryMax = TimeSpan.FromSeconds(1);

    private readonly StorageBatch _applyBatch = new();
    private Term _appliedTerm, _lastLedTerm;
    private long _appliedIndex;
    private ulong _closed, _historyLimit;
    private volatile Exception? _stalledBy;
    private volatile int _stallCount;

    public LogIndex RecoveredIndex => AppliedIndex;

    /// <summary>Highest index whose entry is in the engine.</summary>
    public LogIndex AppliedIndex => new(Interlocked.Read(ref _appliedIndex));

    public async ValueTask ApplyAsync(ReadOnlyMemory<CommittedEntry> entries, CancellationToken cancellationToken)
    {
        try
        {
            while (!entries.IsEmpty)
            {
                int count = CollectGroup(entries.Span, out ReplicaStateRecord state);
                await WriteGroupAsync(state, cancellationToken).ConfigureAwait(false);
                CompleteGroup(entries.Span[..count], state);
                entries = entries[count..];
            }
        }
        catch (Exception error) when (error is not OperationCanceledException)
        {
            // A committed entry can be neither refused nor skipped (R34): the replica stops.
            Stop(error);
            throw;
        }
    }

    // Puts entries and the state that counts them into one batch.
    private int CollectGroup(ReadOnlySpan<CommittedEntry> entries, out ReplicaStateRecord state)
    {
        _applyBatch.Clear();
        LogIndex index = AppliedIndex;
        Term term = _appliedTerm;
        Timestamp limit = HistoryLimit, closed = ClosedTimestamp;
        int count = 0;
        do
        {
            CommittedEntry entry = entries[count++];
            Invariant.Require(entry.Index == index.Next);
            Invariant.Require(entry.Term >= term);
            index = entry.Index;
            term = entry.Term;
            if (entry.Kind == RaftEntryKind.Command)
                CollectEntry(entry, ref limit, ref closed);
        }
        while (count < entries.Length && _applyBatch.Encoded.Length < ApplyBytesTarget);
        state = new ReplicaStateRecord(index, term, limit, closed);
        Span<byte> value = stackalloc byte[ReplicaStateRecord.Bytes];
        state.Write(value);
        _applyBatch.Put(ReplicaStateRecord.Key, value);
        return count;
    }

    private void CollectEntry(CommittedEntry entry, ref Timestamp limit, ref Timestamp closed)
    {
        try
        {
            ShardEntryReader reader = new(entry.Payload.Span);
            while (reader.MoveNext())
            {
                if (reader.Kind == ShardCommandKind.HistoryLimit)
                {
                    limit = Timestamp.Later(limit, reader.ReadTimestamp());
                    continue;
                }

                if (reader.Kind == ShardCommandKind.WritesWithLocks)
                {
                    _locks.Prepare(reader.Payload);
                    _ended.Apply(reader.Payload);
                }
                else if (_checksClosed)
                {
                    CheckAboveClosed(reader.Payload, closed);
                }

                _applyBatch.Append(reader.Payload);
            }

            closed = Timestamp.Later(closed, reader.Closed);
        }
        catch (InvalidDataException error)
        {
            throw new CorruptionException($"the log of shard {Shard} ({_options.Replica} on {_options.NodeId})", entry.Index.Value, $"entry {entry.Index} of term {entry.Term}: {error.Message}", error);
        }
    }

    // R13: no earlier entry promised that this write would not come. A lock's commit may come below; it is not of this kind.
    private static void CheckAboveClosed(ReadOnlySpan<byte> encodedBatch, Timestamp closed)
    {
        StorageBatchReader reader = new(encodedBatch);
        while (reader.MoveNext())
        {
            if (reader.Kind == StorageOperationKind.Put && reader.Key[0] == (byte)KeySpace.Version)
                Invariant.Check(MvccKey.ReadSuffix(reader.Key[^MvccKey.SuffixBytes..]) > closed);
        }
    }

    // R34: with a full disk, committed entries wait for room, new ones are refused but for those that only delete (see RefuseForRoom), and reads go on.
    private async ValueTask WriteGroupAsync(ReplicaStateRecord state, CancellationToken cancellationToken)
    {
        TimeSpan delay = s_stallRetry;
        while (true)
        {
            try
            {
                await Engine.WriteAsync(_applyBatch, StorageDurability.Buffered, cancellationToken).ConfigureAwait(false);
                break;
            }
            catch (Exception error) when (DiskErrors.IsDiskFull(error) || error is ShardForgeException { IsTransient: true })
            {
                // An engine says it in its own words: refused for now, nothing was written.
                if (_stalledBy is null)
                    LogStalled(_logger, Shard, _options.NodeId, state.AppliedIndex, error);
                _stalledBy = error;
                _stallCount++;
                _options.DiskIsFull?.Invoke();
            }

            await Task.Delay(delay, _options.TimeProvider, cancellationToken).ConfigureAwait(false);
            delay = delay * 2 < s_stallRetryMax ? delay * 2 : s_stallRetryMax;
        }

        if (_stalledBy is not null)
        {
            _stalledBy = null;
            _stallCount = 0;
            LogResumed(_logger, Shard, _options.NodeId, state.AppliedIndex);
        }
    }

    private void CompleteGroup(ReadOnlySpan<CommittedEntry> entries, ReplicaStateRecord state)
    {
        ReleasedWaiters released = new();
        LeaderState? begun = null, leader;
        _locks.Settle(_goneLocks);
        Interlocked.Exchange(ref _historyLimit, state.HistoryLimit.Value);
        lock (_gate)
        {
            Interlocked.Exchange(ref _appliedIndex, state.AppliedIndex.Value);
            leader = _leader;
            if (leader is not null && _appliedTerm < leader.Term && state.AppliedTerm == leader.Term)
                begun = leader;
            _appliedTerm = state.AppliedTerm;
            foreach (CommittedEntry entry in entries)
            {
                if (_proposingCount > 0)
                    _appliedMeanwhile[entry.Index] = entry.Term;
                if (_proposed.Remove(entry.Index, out ProposedEntry? proposed))
                    EndLocked(proposed, proposed.Term == entry.Term ? CommandFate.Applied : CommandFate.NotWritten, released);
            }
        }

        // R13: it counts once the entries up to the one that names it are applied.
        Interlocked.Exchange(ref _closed, state.Closed.Value);
        released.Wake();
        WakeLockWaiters();
        if (begun is not null && _rules.R10WaitsForOwnEntry)
            BeginTakeOver(begun);
        else if (leader is { IsServing: true })
            Propose(leader);
    }

    private void LoadState()
    {
        VersionBuffer value = VersionBuffer.Rent();
        try
        {
            ReplicaStateRecord state = Engine.TryGet(ReplicaStateRecord.Key, value) ? ReplicaStateRecord.Read(value.Written) : default;
            _appliedIndex = state.AppliedIndex.Value;
            _appliedTerm = state.AppliedTerm;
            _historyLimit = state.HistoryLimit.Value;
            _closed = state.Closed.Value;
        }
        finally
        {
            VersionBuffer.Return(value);
        }

        _locks.Load(Engine);
        _ended.Load(Engine);
    }
}
