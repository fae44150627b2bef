using System.Buffers;
using System.Threading.Channels;
using ShardForge.Consensus.NodeLog;

namespace ShardForge.Consensus;

/// <content>The apply loop, and how much log is kept.</content>
internal sealed partial class DotNextRaftGroup
{
    private readonly Channel<byte> _applySignal = Channel.CreateBounded<byte>(new BoundedChannelOptions(1)
    {
        FullMode = BoundedChannelFullMode.DropWrite,
        SingleReader = true,
    });
    private readonly LogTail _tail;
    private RaftSnapshot? _recordedSnapshot;        // counts in the log, and waits to be opened by the state machine
    private long _applied;
    private long _released;
    private long _keptFromByLeader;

    public LogIndex AppliedIndex => new(Volatile.Read(ref _applied));

    public void ReleaseLog(LogIndex index)
    {
        long before = Volatile.Read(ref _released);
        while (index.Value > before)
        {
            long found = Interlocked.CompareExchange(ref _released, index.Value, before);
            if (found == before)
                break;
            before = found;
        }

        CompactLog();
    }

    /// <summary>From where on a follower still needs entries, as the leader sees it.</summary>
    internal LogIndex KeptFrom() =>
        Volatile.Read(ref _leadership) is { IsOver: false } leadership ? leadership.MatchedByAll(_log.Log.LastIndex) : default;

    void IRaftLogOwner.OnCommitted()
    {
        _applySignal.Writer.TryWrite(0);
        NoticeCommit();
    }

    void IRaftLogOwner.OnSnapshotRecorded(RaftSnapshot snapshot)
    {
        Volatile.Write(ref _recordedSnapshot, snapshot);
        _applySignal.Writer.TryWrite(0);
    }

    private async Task ApplyLoopAsync()
    {
        CancellationToken stopping = _stopping.Token;
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        try
        {
            while (!IsStopped)
            {
                if (Interlocked.Exchange(ref _recordedSnapshot, null) is { } snapshot)
                    await OpenSnapshotAsync(snapshot, stopping).ConfigureAwait(false);
                else if (!await TryWriteCopyAsync(stopping).ConfigureAwait(false) && !await TryApplyBatchAsync(stopping).ConfigureAwait(false))
                    await _applySignal.Reader.ReadAsync(CancellationToken.None).ConfigureAwait(false);      // closing signals too: cheaper than an exception per group
            }
        }
        catch (OperationCanceledException) when (stopping.IsCancellationRequested)
        {
            // Closed.
        }
        catch (Exception error)
        {
            Stop(error);
        }
        finally
        {
            RefuseWishes();
        }
    }

    private async ValueTask<bool> TryApplyBatchAsync(CancellationToken cancellationToken)
    {
        LogIndex applied = AppliedIndex;
        LogIndex committed = CommitIndex;
        // A log that begins behind the applied index was just reset to a snapshot; that comes next.
        if (committed <= applied || _log.Log.CompactedIndex > applied)
            return false;

        ReplicaLogLease lease;
        try
        {
            lease = _log.Log.Read(applied.Next, committed, _options.ApplyBytesMax);
        }
        catch (ArgumentOutOfRangeException) when (_log.Log.CompactedIndex > applied)
        {
            return false;           // reset in this moment
        }

        using (lease)
        {
            ReadOnlyMemory<ReplicaLogEntry> read = lease.Entries;
            CommittedEntry[] entries = ArrayPool<CommittedEntry>.Shared.Rent(read.Length);
            try
            {
                long bytes = 0;
                for (int i = 0; i < read.Length; i++)
                {
                    ReplicaLogEntry entry = read.Span[i];
                    bytes += entry.Payload.Length;
                    entries[i] = new(new LogIndex(applied.Value + 1 + i), entry.Term, entry.Kind, entry.Payload);
                }

                await _stateMachine.ApplyAsync(entries.AsMemory(0, read.Length), cancellationToken).ConfigureAwait(false);
                Volatile.Write(ref _applied, applied.Value + read.Length);
                _tail.Note(new LogIndex(applied.Value + read.Length), bytes);
                _log.Waiters.Advance(applied.Next, entries.AsSpan(0, read.Length));
            }
            finally
            {
                ArrayPool<CommittedEntry>.Shared.Return(entries, clearArray: true);
            }
        }

        return true;
    }

    private async ValueTask OpenSnapshotAsync(RaftSnapshot snapshot, CancellationToken cancellationToken)
    {
        await _stateMachine.InstallSnapshotAsync(snapshot.Generation, snapshot.Index, cancellationToken).ConfigureAwait(false);
        Invariant.Require(snapshot.Index >= AppliedIndex);
        Volatile.Write(ref _applied, snapshot.Index.Value);
        _log.Waiters.Advance(snapshot.Index);
    }

    /// <summary>Drops what nobody needs: durable in the state machine, and either held by all members or beyond the tail that is kept for those who are behind.</summary>
    private void CompactLog()
    {
        IReplicaLog log = _log.Log;
        long target = Math.Min(Volatile.Read(ref _released), log.DurableIndex.Value);
        if (target <= log.CompactedIndex.Value || IsStopped)
            return;
        long needed = Volatile.Read(ref _leadership) is { IsOver: false } ? KeptFrom().Value : Volatile.Read(ref _keptFromByLeader);
        lock (_gate)
            target = Math.Min(Math.Min(target, Math.Max(needed, _tail.DroppableIndex.Value)), PinnedFromLocked());
        if (target > log.CompactedIndex.Value)
        {
            try
            {
                log.Compact(new LogIndex(target));
            }
            catch (Exception error)
            {
                OnLogFailed(error);
            }
        }
    }
}
