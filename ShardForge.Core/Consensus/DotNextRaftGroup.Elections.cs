using System.Buffers.Binary;
using System.Diagnostics;
using ShardForge.Network;

namespace ShardForge.Consensus;

/// <content>Elections that are hurried or held back, and whose rounds end early.</content>
internal sealed partial class DotNextRaftGroup
{
    /// <summary>Time between two tries of a replica that was told to stand for election.</summary>
    private const int CampaignMilliseconds = 10;

    private ElectionRound? _electionRound;
    private Task _takingOver = Task.CompletedTask;
    private int _settledElectionTimeout;        // not 0: another one is set for a while, and this is what to go back to
    private long _campaignUntil;
    private TimeSpan? _slack;                   // that the election timeout was drawn with

    /// <summary>Draws the election timeout anew where the node's slack is another one; also the first time.</summary>
    internal void ApplySlack()
    {
        if (!RaftCore.CanSteer)
            return;
        lock (_gate)
        {
            if (_slack == _node.Slack)
                return;
            _slack = _node.Slack;
            _core.SetElectionTimeouts(_node.Patience, _node.PatienceMax);
            int drawn = _node.DrawElectionTimeout(LocalReplica);
            if (_settledElectionTimeout == 0)
                _core.ElectionTimeoutMilliseconds = drawn;
            else
                _settledElectionTimeout = drawn;
        }
    }

    internal ElectionRound JoinElectionRound(RaftMessageKind kind, Term term, RaftPeer member)
    {
        lock (_gate)
        {
            if (_electionRound is null || !_electionRound.TryJoin(kind, term, member.Member.Replica))
            {
                if (kind == RaftMessageKind.PreVote && _campaignUntil != 0 && Stopwatch.GetTimestamp() > _campaignUntil)
                    EndCampaignLocked();
                _electionRound = new ElectionRound(kind, term, _view.Members.Count);
                _electionRound.TryJoin(kind, term, member.Member.Replica);
            }

            return _electionRound;
        }
    }

    void IRaftLogOwner.OnStandsForElection()
    {
        lock (_gate)
        {
            // The time that the vote is given is the same field: from here on it is the usual one.
            EndCampaignLocked();
            _candidateTerm = new Term(_log.Log.Term.Value + 1);
        }
    }

    private PeerBuffer OnHandOver(RaftHeader header, ReadOnlyMemory<byte> body)
    {
        if (body.Length < 8)
            throw new InvalidDataException($"A hand-over of {body.Length} bytes; it has 8.");
        ReplicaId heir = new(BinaryPrimitives.ReadUInt64LittleEndian(body.Span));
        Term term = _log.Log.Term;
        bool isOfLeader;
        lock (_gate)
            isOfLeader = _leader == header.Sender && _leaderTerm == term;
        // Of another term, or from somebody who does not lead in this one: it would end a lease that is not the sender's (R04).
        if (header.Term == term && isOfLeader && MayVote())
        {
            ForgetLeader(term);
            if (heir == LocalReplica)
                TakeOver();
        }

        return RaftMessage.Answer(RaftMessageKind.HandOver, RaftAnswerCode.Ok, term);
    }

    /// <summary>Stands for election now. The library starts its election timer anew when a replica comes back from stand-by.</summary>
    private void TakeOver()
    {
        BeginCampaign();
        lock (_gate)
            _takingOver = TakeOverAsync(_takingOver);

        async Task TakeOverAsync(Task before)
        {
            try
            {
                await before.ConfigureAwait(false);
                await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
                if (await _core.EnableStandbyModeAsync(_stopping.Token).ConfigureAwait(false))
                    await _core.RevertToNormalModeAsync(_stopping.Token).ConfigureAwait(false);
            }
            catch (Exception error) when (error is OperationCanceledException or ObjectDisposedException)
            {
                // Closing.
            }
        }
    }

    /// <summary>A new replica that is not the preferred leader lets that one come first, also where nodes open slowly. Over with the first leader it hears.</summary>
    private void HoldBack()
    {
        if (!RaftCore.CanSteer)
            return;
        lock (_gate)
        {
            _settledElectionTimeout = _core.ElectionTimeoutMilliseconds;
            _core.ElectionTimeoutMilliseconds = _settledElectionTimeout + (2 * (int)_node.PatienceMax.TotalMilliseconds);
        }
    }

    /// <summary>Stands for election as soon as possible, again and again for a while, until somebody leads.</summary>
    private void BeginCampaign()
    {
        if (!RaftCore.CanSteer)
            return;
        lock (_gate)
        {
            if (_settledElectionTimeout == 0)
                _settledElectionTimeout = _core.ElectionTimeoutMilliseconds;
            _core.ElectionTimeoutMilliseconds = CampaignMilliseconds;
            _campaignUntil = Stopwatch.GetTimestamp() + (long)(_node.PatienceMax.TotalSeconds * 4 * Stopwatch.Frequency);
        }
    }

    /// <summary>The field is also how long a heard leader is protected: back to the usual before anything of a leader is answered.</summary>
    private void EndCampaign()
    {
        if (Volatile.Read(ref _settledElectionTimeout) == 0)
            return;
        lock (_gate)
            EndCampaignLocked();
    }

    private void EndCampaignLocked()
    {
        if (_settledElectionTimeout == 0)
            return;
        _core.ElectionTimeoutMilliseconds = _settledElectionTimeout;
        _settledElectionTimeout = 0;
        _campaignUntil = 0;
    }

    /// <summary>Lets go of the leader of a term, so that this replica may vote at once.</summary>
    private void ForgetLeader(Term term)
    {
        if (RaftCore.CanSteer && _log.Log.Term == term)
            _core.ForgetLeaderContact();
    }
}
