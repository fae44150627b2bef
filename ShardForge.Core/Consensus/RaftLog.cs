using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using DotNext.IO.Log;
using DotNext.Net.Cluster;
using DotNext.Net.Cluster.Consensus.Raft;
using DotNext.Net.Cluster.Consensus.Raft.StateMachine;
using ShardForge.Consensus.NodeLog;

namespace ShardForge.Consensus;

/// <summary>A replica's part of the node log as the consensus library wants to see it.</summary>
/// <remarks>
/// The library offers no way to bring a log of one's own but to derive from its file-based one: the setter of one property of
/// <see cref="IPersistentState"/> is internal. So this derives from it, is created without running any constructor (the base would make
/// folders, threads and tasks per group), and implements every interface member anew. Never touch a member of the base: all its fields
/// are null. A test walks the interface map and fails if one is reachable.
/// <para>What it keeps that the log does not: the commit index (not on disk: the applied index covers it) and who waits for an index.</para>
/// <para>Rules: an own entry is refused under the log's lock unless its term is the current one; the follower's append truncates only at a conflict of
/// terms (both by <see cref="IReplicaLog"/>); a commit waits until the entries are durable here; hard state is durable before any answer.</para>
/// <para>Threads: properties from any; changes come under the library's transition lock or from its one replication loop.</para>
/// </remarks>
internal sealed class RaftLog : WriteAheadLog, IPersistentState
{
    // No initialisers: no constructor runs.
    private IReplicaLog _log;
    private IRaftLogOwner _owner;
    private AppliedWaiters _waiters;
    private long _committed;
    private long _readBytesMax;
    private ReplicaId _self;

    [SuppressMessage("Style", "CS8618", Justification = "Never runs: see the remarks of the class.")]
    private RaftLog() : base(null!, null!) => throw new NotSupportedException();

    public LogIndex Committed => new(Volatile.Read(ref _committed));

    public IReplicaLog Log => _log;

    public AppliedWaiters Waiters => _waiters;

    [SuppressMessage("Usage", "CA1816", Justification = "The base's finalizer would dispose fields that were never set.")]
    public static RaftLog Create(IReplicaLog log, IRaftLogOwner owner, LogIndex recovered, long readBytesMax)
    {
        RaftLog adapter = (RaftLog)RuntimeHelpers.GetUninitializedObject(typeof(RaftLog));
        GC.SuppressFinalize(adapter);
        adapter._log = log;
        adapter._owner = owner;
        adapter._self = log.Replica;
        adapter._committed = recovered.Value;
        adapter._readBytesMax = readBytesMax;
        adapter._waiters = new AppliedWaiters(recovered);
        return adapter;
    }

    long IPersistentState.Term => _log.Term.Value;

    int IPersistentState.Version => 0;

    long IAuditTrail.LastEntryIndex => _log.LastIndex.Value;

    long IAuditTrail.LastCommittedEntryIndex => Volatile.Read(ref _committed);

    bool IAuditTrail.IsLogEntryLengthAlwaysPresented => true;

    Task IAuditTrail.InitializeAsync(CancellationToken token) => Task.CompletedTask;     // the node log was recovered before

    bool IPersistentState.IsVotedFor(in ClusterMemberId id)
    {
        ReplicaId votedFor = _log.VotedFor;
        return votedFor.IsNone || votedFor == RaftMemberId.ToReplica(id);
    }

    async ValueTask<long> IPersistentState.IncrementTermAsync(ClusterMemberId member, CancellationToken token)
    {
        _owner.OnStandsForElection();
        Term term = new(_log.Term.Value + 1);
        await SaveHardStateAsync(term, RaftMemberId.ToReplica(member)).ConfigureAwait(false);
        _owner.OnTermChanged();
        return term.Value;
    }

    async ValueTask IPersistentState.UpdateTermAsync(long term, bool resetLastVote, CancellationToken token)
    {
        await SaveHardStateAsync(new Term(term), resetLastVote ? default : _log.VotedFor).ConfigureAwait(false);
        _owner.OnTermChanged();
    }

    ValueTask IPersistentState.UpdateVotedForAsync(ClusterMemberId member, CancellationToken token) =>
        SaveHardStateAsync(_log.Term, RaftMemberId.ToReplica(member));

    ValueTask<long> IAuditTrail<IRaftLogEntry>.AppendAsync<TEntry>(TEntry entry, CancellationToken token)
    {
        try
        {
            // Only no-ops of new leaders come this way; commands are appended by the group itself, configurations are not the library's.
            Invariant.Require(!entry.IsConfiguration && !entry.IsSnapshot);
            Term term = new(entry.Term);
            if (!_log.TryAppend(term, RaftEntryKind.NoOp, default, out LogIndex index))
                throw new OperationCanceledException($"Replica {_self} is in term {_log.Term} and appends nothing of term {term}.");
            _owner.OnNoOpAppended(term, index);
            return new(index.Value);
        }
        catch (Exception error) when (IsFatal(error))
        {
            _owner.OnLogFailed(error);
            throw;
        }
    }

    async ValueTask IAuditTrail<IRaftLogEntry>.AppendAsync<TEntry>(ILogEntryProducer<TEntry> entries, long startIndex, bool skipCommitted, CancellationToken token)
    {
        int count = checked((int)entries.RemainingCount);
        if (count == 0)
            return;

        ReplicaLogEntry[] batch = ArrayPool<ReplicaLogEntry>.Shared.Rent(count);
        try
        {
            // Each is looked at, also one that the log will skip: the library tells by the terms it sees pass whether the answer counts.
            int at = 0;
            while (await entries.MoveNextAsync().ConfigureAwait(false))
                batch[at++] = entries.Current is RaftLogEntry own ? own.Entry : throw new NotSupportedException($"An entry of {typeof(TEntry)} is not ours.");
            Invariant.Require(at == count);
            await _log.AppendAsync(new LogIndex(startIndex), batch.AsMemory(0, count), skipCommitted ? Committed : default, token).ConfigureAwait(false);
        }
        catch (Exception error) when (IsFatal(error))
        {
            _owner.OnLogFailed(error);
            throw;
        }
        finally
        {
            ArrayPool<ReplicaLogEntry>.Shared.Return(batch, clearArray: true);
        }
    }

    async ValueTask IAuditTrail<IRaftLogEntry>.AppendAsync<TEntry>(TEntry entry, long startIndex, CancellationToken token)
    {
        if (entry is not RaftSnapshot snapshot)
            throw new NotSupportedException($"Only a snapshot is appended at a place; this is {typeof(TEntry)}.");
        try
        {
            // Not cancelled: once begun, memory and disk must agree on which generation counts.
            await _log.ResetToSnapshotAsync(snapshot.Index, snapshot.Term, snapshot.Configuration, snapshot.Generation, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception error) when (IsFatal(error))
        {
            _owner.OnLogFailed(error);
            throw;
        }

        _owner.OnSnapshotRecorded(snapshot);
        Advance(snapshot.Index.Value);
    }

    ValueTask<TResult> IAuditTrail<IRaftLogEntry>.ReadAsync<TResult>(ILogEntryConsumer<IRaftLogEntry, TResult> reader, long startIndex, long endIndex, CancellationToken token)
    {
        LogIndex start = new(startIndex);
        if (reader.LogEntryMetadataOnly)
            return reader.ReadAsync<RaftLogEntry, RaftTermOnly>(new RaftTermOnly(_log.TermAt(start) ?? new Term(-1)), null, token);
        if (startIndex > endIndex)
            return reader.ReadAsync<RaftLogEntry, RaftEntryList>(RaftEntryList.Empty, null, token);
        return start <= _log.CompactedIndex ? ReadSnapshotAsync(reader, token) : ReadEntriesAsync(reader, start, new LogIndex(endIndex), token);
    }

    ValueTask<TResult> IAuditTrail.ReadAsync<TResult>(ILogEntryConsumer<ILogEntry, TResult> reader, long startIndex, long endIndex, CancellationToken token) =>
        ((IAuditTrail<IRaftLogEntry>)this).ReadAsync<TResult>(reader, startIndex, endIndex, token);

    ValueTask<long> IAuditTrail.CommitAsync(long endIndex, CancellationToken token)
    {
        if (endIndex <= Volatile.Read(ref _committed))
            return new(0L);
        // The leader is counted into the majority before its own flush: without the wait, two of three would be one.
        ValueTask durable = _log.WaitDurableAsync(new LogIndex(endIndex), token);
        return durable.IsCompletedSuccessfully ? new(Advance(endIndex)) : CommitSlowlyAsync(durable, endIndex);
    }

    ValueTask IAuditTrail.WaitForApplyAsync(CancellationToken token) => _waiters.WaitForNextAsync(token);

    ValueTask IAuditTrail.WaitForApplyAsync(long index, CancellationToken token) =>
        _waiters.WaitAsync(new LogIndex(index), _log.TermAt(new LogIndex(index)), token);

    private async ValueTask<long> CommitSlowlyAsync(ValueTask durable, long endIndex)
    {
        try
        {
            await durable.ConfigureAwait(false);
        }
        catch (Exception error) when (IsFatal(error))
        {
            _owner.OnLogFailed(error);
            throw;
        }

        return Advance(endIndex);
    }

    private long Advance(long endIndex)
    {
        long before = Volatile.Read(ref _committed);
        while (endIndex > before)
        {
            long found = Interlocked.CompareExchange(ref _committed, endIndex, before);
            if (found == before)
            {
                _owner.OnCommitted();
                return endIndex - before;
            }

            before = found;
        }

        return 0;
    }

    private async ValueTask<TResult> ReadEntriesAsync<TResult>(ILogEntryConsumer<IRaftLogEntry, TResult> reader, LogIndex start, LogIndex end, CancellationToken token)
    {
        using ReplicaLogLease lease = _log.Read(start, end, _readBytesMax);
        bool isCapped = lease.First.Value + lease.Entries.Length - 1 < end.Value;
        return await reader.ReadAsync<RaftLogEntry, RaftEntryList>(new RaftEntryList(lease, isCapped), null, token).ConfigureAwait(false);
    }

    private async ValueTask<TResult> ReadSnapshotAsync<TResult>(ILogEntryConsumer<IRaftLogEntry, TResult> reader, CancellationToken token)
    {
        RaftSnapshot snapshot = await _owner.PinSnapshotAsync(token).ConfigureAwait(false);
        try
        {
            return await reader.ReadAsync<RaftSnapshot, RaftSnapshot[]>([snapshot], snapshot.Index.Value, token).ConfigureAwait(false);
        }
        finally
        {
            await _owner.UnpinSnapshotAsync(snapshot).ConfigureAwait(false);
        }
    }

    private async ValueTask SaveHardStateAsync(Term term, ReplicaId votedFor)
    {
        try
        {
            // Not cancelled: what the caller does next depends on what is on disk, and the wait is one flush long.
            await _log.SetHardStateAsync(term, votedFor, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception error) when (IsFatal(error))
        {
            _owner.OnLogFailed(error);
            throw;
        }
    }

    /// <summary>A full disk is not: it is refused, nothing was written, and it passes (R34).</summary>
    private static bool IsFatal(Exception error) => error is not (OperationCanceledException or OverloadedException);
}

/// <summary>What the log adapter tells the group it belongs to. Nothing here may block: it comes under the library's locks.</summary>
internal interface IRaftLogOwner
{
    /// <summary>The replica is about to raise its term and vote for itself.</summary>
    void OnStandsForElection();

    void OnTermChanged();

    void OnNoOpAppended(Term term, LogIndex index);

    void OnCommitted();

    void OnSnapshotRecorded(RaftSnapshot snapshot);

    void OnLogFailed(Exception error);

    /// <summary>Writes a snapshot for a follower whose entries are gone; the log behind its index stays until it is unpinned.</summary>
    ValueTask<RaftSnapshot> PinSnapshotAsync(CancellationToken cancellationToken);

    ValueTask UnpinSnapshotAsync(RaftSnapshot snapshot);
}
