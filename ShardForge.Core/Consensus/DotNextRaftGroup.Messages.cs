using System.Buffers;
using System.Buffers.Binary;
using System.Diagnostics;
using DotNext.Net.Cluster.Consensus.Raft;
using ShardForge.Consensus.NodeLog;
using ShardForge.Network;

namespace ShardForge.Consensus;

/// <content>What other replicas of the group ask.</content>
/// <remarks>
/// The library looks whether a leader was heard *before* it waits for its lock, and an append may be ahead in that queue: it could answer a leader, which
/// counts a lease from it, and then help to elect another one inside that lease. So each side looks again after its lock: an accepted append says
/// "heard" and then looks for a newer term; a granted vote has raised the term and then looks for "heard". One of the two sees the other.
/// </remarks>
internal sealed partial class DotNextRaftGroup
{
    private long _leaderHeardAt;        // when an append was last accepted, by the stopwatch

    /// <summary>
    /// Whether the sender is a member, on the node that the link says. A leader need not be known yet: a replica that is behind learns of it by what it sends, so
    /// entries and snapshots are listened to; so are questions for a vote, which the member may ask whose addition is not known here yet. Only a hand-over
    /// comes from the leader that is followed.
    /// </summary>
    internal bool MayHear(in RaftHeader header, string nodeId) => _view.Find(header.Sender) is { } member
        ? string.Equals(member.NodeId, nodeId, StringComparison.Ordinal)
        : header.Kind != RaftMessageKind.HandOver;

    internal async ValueTask<PeerBuffer> HandleAsync(RaftHeader header, ReadOnlyMemory<byte> body, CancellationToken cancellationToken)
    {
        try
        {
            if (IsStopped)
                return RaftMessage.Answer(header.Kind, RaftAnswerCode.Stopped, default);
            return header.Kind switch
            {
                RaftMessageKind.Append => await OnAppendAsync(header, body, cancellationToken).ConfigureAwait(false),
                RaftMessageKind.Vote => await OnVoteAsync(header, body, cancellationToken).ConfigureAwait(false),
                RaftMessageKind.PreVote => await OnPreVoteAsync(header, body, cancellationToken).ConfigureAwait(false),
                RaftMessageKind.HandOver => OnHandOver(header, body),
                RaftMessageKind.SnapshotBegin => await OnSnapshotBeginAsync(header, body, cancellationToken).ConfigureAwait(false),
                RaftMessageKind.SnapshotChunk => await OnSnapshotChunkAsync(header, body, cancellationToken).ConfigureAwait(false),
                RaftMessageKind.SnapshotInstall => await OnSnapshotInstallAsync(header, body, cancellationToken).ConfigureAwait(false),
                _ => RaftMessage.Answer(header.Kind, RaftAnswerCode.NotUnderstood, default),
            };
        }
        catch (InvalidDataException error)
        {
            RaftLogMessages.NotUnderstood(_options.Logger, Shard, LocalReplica, header.Sender, error.Message);
            return RaftMessage.Answer(header.Kind, RaftAnswerCode.NotUnderstood, default);
        }
        catch (InvariantViolatedException error)
        {
            Stop(error);
            return RaftMessage.Answer(header.Kind, RaftAnswerCode.Stopped, default);
        }
        catch (Exception error) when (error is OperationCanceledException or ObjectDisposedException or IOException or UnreachableException or OverloadedException)
        {
            // Closing; or the log failed, which has stopped the replica already; or its disk is full; or the link is gone.
            return RaftMessage.Answer(header.Kind, RaftAnswerCode.Stopped, default);
        }
    }

    private async ValueTask<PeerBuffer> OnAppendAsync(RaftHeader header, ReadOnlyMemory<byte> body, CancellationToken cancellationToken)
    {
        RaftAppendHead head = RaftMessage.ReadAppend(body, out ReplicaLogEntry[] entries, out int count);
        try
        {
            if (header.Term >= _log.Log.Term)
                EndCampaign();
            Result<ReplicationStatus> result = await _core.OnAppendAsync(
                header.Sender, header.Term, new RaftEntryFeed(entries.AsMemory(0, count)), head.Previous, head.PreviousTerm, head.Commit, cancellationToken).ConfigureAwait(false);
            Term term = new(result.Term);
            bool isAccepted = term <= header.Term;
            if (isAccepted && count > 0)
                await SwitchMembersAsync(_stopping.Token).ConfigureAwait(false);
            if (isAccepted)
            {
                Interlocked.Exchange(ref _leaderHeardAt, Stopwatch.GetTimestamp());
                Term now = _log.Log.Term;
                if (now > header.Term)
                    return RaftMessage.AppendAnswer(now, RaftAppendResult.Rejected, CommitIndex, _options.HasRoom());
                Volatile.Write(ref _keptFromByLeader, head.KeptFrom.Value);
                NoteLeader(header.Sender, header.Term);
            }

            // A rejected leader is told what certainly agrees with its log, not what this one ends with: it finds the place in one step.
            LogIndex last = new(result.Value.LastIndex);
            if (result.Value.Result == HeartbeatResult.Rejected && last > CommitIndex)
                last = CommitIndex;
            return RaftMessage.AppendAnswer(term, (RaftAppendResult)result.Value.Result, last, _options.HasRoom());
        }
        finally
        {
            if (entries.Length > 0)
                ArrayPool<ReplicaLogEntry>.Shared.Return(entries, clearArray: true);
        }
    }

    private async ValueTask<PeerBuffer> OnVoteAsync(RaftHeader header, ReadOnlyMemory<byte> body, CancellationToken cancellationToken)
    {
        (LogIndex lastIndex, Term lastTerm) = ReadLast(body);
        if (!MayVote())
            return RaftMessage.Answer(RaftMessageKind.Vote, _log.Log.Term, 0);
        long askedAt = Stopwatch.GetTimestamp();
        Result<bool> result = await AskAsMemberAsync(
            header.Sender, () => _core.OnVoteAsync(header.Sender, header.Term, lastIndex, lastTerm, cancellationToken), cancellationToken).ConfigureAwait(false);
        bool isGranted = result.Value && Interlocked.Read(ref _leaderHeardAt) < askedAt;
        return RaftMessage.Answer(RaftMessageKind.Vote, new Term(result.Term), isGranted ? (byte)1 : (byte)0);
    }

    private async ValueTask<PeerBuffer> OnPreVoteAsync(RaftHeader header, ReadOnlyMemory<byte> body, CancellationToken cancellationToken)
    {
        (LogIndex lastIndex, Term lastTerm) = ReadLast(body);
        if (!MayVote())
            return RaftMessage.Answer(RaftMessageKind.PreVote, _log.Log.Term, (byte)PreVoteResult.RejectedByFollower);
        Result<PreVoteResult> result = await AskAsMemberAsync(
            header.Sender, () => _core.OnPreVoteAsync(header.Sender, header.Term, lastIndex, lastTerm, cancellationToken), cancellationToken).ConfigureAwait(false);
        return RaftMessage.Answer(RaftMessageKind.PreVote, new Term(result.Term), (byte)result.Value);
    }

    /// <summary>R05: after a start nobody knows what this replica promised a leader before.</summary>
    private bool MayVote() => _groupOptions.IsNew || IsAlone || Stopwatch.GetTimestamp() - _openedAt >= _leaseTicks;

    private static (LogIndex Index, Term Term) ReadLast(ReadOnlyMemory<byte> body)
    {
        if (body.Length < 16)
            throw new InvalidDataException($"A vote's body of {body.Length} bytes; it has 16.");
        return (new LogIndex(BinaryPrimitives.ReadInt64LittleEndian(body.Span)), new Term(BinaryPrimitives.ReadInt64LittleEndian(body.Span[8..])));
    }
}
