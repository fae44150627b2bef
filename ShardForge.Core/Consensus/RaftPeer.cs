using System.Diagnostics;
using System.Net;
using DotNext.IO;
using DotNext.Net;
using DotNext.Net.Cluster;
using DotNext.Net.Cluster.Consensus.Raft;
using ShardForge.Network;

namespace ShardForge.Consensus;

/// <summary>A member of a group, as its local replica sees it: the sending half of the protocol.</summary>
/// <remarks>
/// Calls throw nothing but <see cref="MemberUnavailableException"/> and, for the caller's token, <see cref="OperationCanceledException"/>: any other
/// error in a vote stops the whole group for good. Each has a time limit, or a majority that hangs would keep a leader in office without ever asking.
/// <para>The member of the local node is asked too: it agrees.</para>
/// </remarks>
internal sealed class RaftPeer : IRaftClusterMember, IDisposable
{
    /// <summary>In place of the ordinal of a remote member.</summary>
    public const int LocalOrdinal = -1, GuestOrdinal = -2;

    private readonly DotNextRaftGroup _group;
    private readonly ReplicaEndPoint _endPoint;
    private readonly ClusterMemberId _id;
    private IRaftClusterMember.ReplicationState _state;

    /// <param name="group">The local replica.</param>
    /// <param name="member">Whom this is.</param>
    /// <param name="ordinal">Its place among the remote members; -1 for the local one.</param>
    public RaftPeer(DotNextRaftGroup group, RaftMember member, int ordinal)
    {
        _group = group;
        Member = member;
        Ordinal = ordinal;
        _endPoint = new ReplicaEndPoint(member);
        _id = RaftMemberId.FromReplica(member.Replica);
    }

    public RaftMember Member { get; }

    public int Ordinal { get; }

    public bool IsRemote => Ordinal != LocalOrdinal;

    /// <summary>Known to the library for the length of one question only, see <see cref="DotNextRaftGroup"/>.Members: it is asked nothing, so it counts against a majority and never for one.</summary>
    private bool IsGuest => Ordinal == GuestOrdinal;

    ClusterMemberId IClusterMember.Id => _id;

    EndPoint IPeer.EndPoint => _endPoint;

    bool IClusterMember.IsLeader => _group.Status.Leader == Member.Replica;

    ClusterMemberStatus IClusterMember.Status => ClusterMemberStatus.Unknown;

    ref IRaftClusterMember.ReplicationState IRaftClusterMember.State => ref _state;

    event Action<ClusterMemberStatusChangedEventArgs> IClusterMember.MemberStatusChanged
    {
        add { }
        remove { }
    }

    public async Task<Result<bool>> VoteAsync(long term, long lastLogIndex, long lastLogTerm, CancellationToken token)
    {
        (Term answerTerm, byte granted) = await AskForVoteAsync(RaftMessageKind.Vote, new Term(term), lastLogIndex, lastLogTerm, token).ConfigureAwait(false);
        return new Result<bool> { Term = answerTerm.Value, Value = granted == 1 };
    }

    public async Task<Result<PreVoteResult>> PreVoteAsync(long term, long lastLogIndex, long lastLogTerm, CancellationToken token)
    {
        (Term answerTerm, byte result) = await AskForVoteAsync(RaftMessageKind.PreVote, new Term(term), lastLogIndex, lastLogTerm, token).ConfigureAwait(false);
        return new Result<PreVoteResult> { Term = answerTerm.Value, Value = (PreVoteResult)result };
    }

    public async Task<Result<ReplicationStatus>> AppendEntriesAsync<TEntry, TList>(
        long term, TList entries, long prevLogIndex, long prevLogTerm, long commitIndex, CancellationToken token)
        where TEntry : IRaftLogEntry
        where TList : IReadOnlyList<TEntry>
    {
        RaftEntryList list = entries as RaftEntryList ?? throw new MemberUnavailableException(this, $"Entries of {typeof(TList)} are not ours.");
        RaftAppendHead head = new()
        {
            Previous = new LogIndex(prevLogIndex),
            PreviousTerm = new Term(prevLogTerm),
            Commit = _group.CommitToSend(),
            KeptFrom = _group.KeptFrom(),
        };
        PeerBuffer message = RaftMessage.Append(Header(RaftMessageKind.Append, new Term(term)), head, list.Entries.Span);
        long sentAt = Stopwatch.GetTimestamp();
        using PeerBuffer reply = await RequestAsync(message, bulk: false, _group.AppendLimit(message.Length), token).ConfigureAwait(false);
        RaftAnswer answer = Read(reply, RaftMessageKind.Append, RaftMessage.AppendAnswerBytes);
        HeartbeatResult result = (HeartbeatResult)answer.Body.Span[0];
        long last = System.Buffers.Binary.BinaryPrimitives.ReadInt64LittleEndian(answer.Body.Span[1..]);
        if (answer.Term.Value <= term)
        {
            LogIndex matched = result is HeartbeatResult.Replicated or HeartbeatResult.ReplicatedWithLeaderTerm ? new(prevLogIndex + list.Count) : default;
            _group.OnAppendAnswered(new Term(term), Ordinal, sentAt, matched, hasRoom: answer.Body.Span[9] == 0);
        }

        if (result == HeartbeatResult.ReplicatedWithLeaderTerm && list.IsCapped)
        {
            // It has the batch, not the round: counting it would commit what no majority holds (see RaftEntryList).
            result = HeartbeatResult.Replicated;
            _group.KickReplication();
        }
        else if (result == HeartbeatResult.Rejected && answer.Term.Value <= term && last < prevLogIndex)
        {
            // Its commit index: what lies up to there agrees, so the next round succeeds. Only where that is a step back, so that nothing spins.
            _group.KickReplication();
        }

        return new Result<ReplicationStatus> { Term = answer.Term.Value, Value = new ReplicationStatus { Result = result, LastIndex = last } };
    }

    public async Task<Result<HeartbeatResult>> InstallSnapshotAsync(
        long term, IRaftLogEntry snapshot, long snapshotIndex, IDataTransferObject configuration, long configurationVersion, CancellationToken token)
    {
        try
        {
            (Term answerTerm, SnapshotResult result) = await _group.SendSnapshotAsync(this, new Term(term), (RaftSnapshot)snapshot, token).ConfigureAwait(false);
            _group.KickReplication();
            // Never "with the leader's term": a snapshot does not cover the round either.
            return new Result<HeartbeatResult> { Term = answerTerm.Value, Value = result == SnapshotResult.Rejected ? HeartbeatResult.Rejected : HeartbeatResult.Replicated };
        }
        catch (Exception error) when (error is not MemberUnavailableException && !token.IsCancellationRequested)
        {
            throw new MemberUnavailableException(this, $"Replica {Member.Replica} on {Member.NodeId} did not take the snapshot of index {snapshotIndex}: {error.Message}", error);
        }
    }

    /// <summary>Not used: a follower that reads asks the leader's replica, above the consensus, which checks its lease (R08).</summary>
    public Task<long?> SynchronizeAsync(long commitIndex, CancellationToken token) => Task.FromResult<long?>(null);

    /// <summary>Not used: hand-over has a message of its own.</summary>
    public Task<bool> ResignAsync(CancellationToken token) => Task.FromResult(false);

    public ValueTask<IReadOnlyDictionary<string, string>> GetMetadataAsync(bool refresh = false, CancellationToken token = default) =>
        new(new Dictionary<string, string>());

    /// <summary>Nothing to do: every request carries a token of the state that made it.</summary>
    public ValueTask CancelPendingRequestsAsync() => ValueTask.CompletedTask;

    public void Dispose() { }

    public override string ToString() => _endPoint.ToString();

    public RaftHeader Header(RaftMessageKind kind, Term term) => new()
    {
        Kind = kind,
        Shard = _group.Shard,
        Sender = _group.LocalReplica,
        Target = Member.Replica,
        Term = term,
    };

    /// <summary>Sends, and maps what can go wrong to what the library stands.</summary>
    public async ValueTask<PeerBuffer> RequestAsync(PeerBuffer message, bool bulk, TimeSpan limit, CancellationToken cancellationToken)
    {
        if (IsGuest)
        {
            message.Dispose();
            throw new MemberUnavailableException(this, $"Replica {Member.Replica} is no member here.");
        }

        try
        {
            return await _group.Link.RequestAsync(Member.NodeId, message, bulk, limit, cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            throw;
        }
        catch (Exception error)
        {
            throw new MemberUnavailableException(this, $"Replica {Member.Replica} on {Member.NodeId}: {error.Message}", error);
        }
    }

    /// <summary>The answer, if the message was handled and its body is at least that long.</summary>
    public RaftAnswer Read(PeerBuffer reply, RaftMessageKind kind, int bodyBytes)
    {
        RaftAnswer answer;
        try
        {
            answer = RaftMessage.ReadAnswer(reply.Memory, kind);
        }
        catch (InvalidDataException error)
        {
            throw new MemberUnavailableException(this, $"Replica {Member.Replica} on {Member.NodeId}: {error.Message}", error);
        }

        if (answer.Code != RaftAnswerCode.Ok)
            throw new MemberUnavailableException(this, $"Replica {Member.Replica} on {Member.NodeId} answers: {answer.Code}.");
        if (answer.Body.Length < bodyBytes)
            throw new MemberUnavailableException(this, $"Replica {Member.Replica} on {Member.NodeId} answers a {kind} with {answer.Body.Length} of {bodyBytes} bytes.");
        return answer;
    }

    private async Task<(Term Term, byte Result)> AskForVoteAsync(RaftMessageKind kind, Term term, long lastLogIndex, long lastLogTerm, CancellationToken token)
    {
        ElectionRound round = _group.JoinElectionRound(kind, term, this);
        if (!IsRemote)
        {
            round.Report(isGranted: true);
            return (term, 1);
        }

        if (!_group.MayCampaign)
        {
            round.Report(isGranted: false);
            throw new MemberUnavailableException(this, $"Replica {_group.LocalReplica} is no member, or does not know yet who else is one: it asks for no votes.");
        }

        bool isGranted = false;
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(token, round.Decided);
        try
        {
            PeerBuffer message = RaftMessage.Create(Header(kind, term), 16);
            RaftMessage.Write(message, lastLogIndex);
            RaftMessage.Write(message, lastLogTerm);
            using PeerBuffer reply = await RequestAsync(message, bulk: false, _group.VoteLimit, limit.Token).ConfigureAwait(false);
            RaftAnswer answer = Read(reply, kind, bodyBytes: 1);
            byte result = answer.Body.Span[0];
            isGranted = result == 1;
            return (answer.Term, result);
        }
        catch (OperationCanceledException error) when (!token.IsCancellationRequested)
        {
            throw new MemberUnavailableException(this, $"Replica {Member.Replica} on {Member.NodeId} was not waited for: the others have decided.", error);
        }
        finally
        {
            round.Report(isGranted);
        }
    }

    private sealed class ReplicaEndPoint(RaftMember member) : EndPoint
    {
        public override string ToString() => $"{member.Replica}@{member.NodeId}";
    }
}
