using ShardForge.Consensus;

namespace ShardForge.Metadata;

/// <summary>How a proposal ended.</summary>
internal enum ProposalStatus
{
    /// <summary>Applied; the outcome says with what.</summary>
    Applied,

    /// <summary>Not applied, and it never will be: this replica does not lead, or lost the entry's place.</summary>
    NotApplied,

    /// <summary>It may be applied later. Commands of the metadata group can be proposed again safely.</summary>
    Unknown,
}

/// <summary>How a proposal ended.</summary>
internal readonly record struct ProposalResult(ProposalStatus Status, MetadataOutcome Outcome)
{
    public static ProposalResult NotApplied => new(ProposalStatus.NotApplied, MetadataOutcome.None);

    public static ProposalResult Unknown => new(ProposalStatus.Unknown, MetadataOutcome.None);
}

/// <summary>Proposals of this replica and who waits for them.</summary>
/// <remarks>
/// An entry carries replica id and a sequence number, and a replica leads a term in one run only, so (replica, term, sequence) names one proposal for ever.
/// A waiter is registered before the entry can be applied, and ends in one of three ways: its entry is applied; another entry is applied at its index, so it
/// is lost; this replica stops to lead, so nobody here can say.
/// </remarks>
internal sealed partial class MetadataReplica
{
    private readonly Dictionary<ulong, Proposal> _proposals = [];
    private ulong _sequence;
    private bool _closed;

    /// <summary>Proposes a command if this replica serves; completes when it is applied here, or cannot be any more.</summary>
    public async ValueTask<ProposalResult> ProposeAsync(MetadataCommand command, CancellationToken cancellationToken) =>
        TryGetServingTerm(out Term term) ? await ProposeAsync(term, command).WaitAsync(cancellationToken).ConfigureAwait(false) : ProposalResult.NotApplied;

    public async Task<bool> PersistWindowAsync(Term term, Timestamp end)
    {
        ProposalResult result = await ProposeAsync(term, new OracleWindowCommand(end)).ConfigureAwait(false);
        return result is { Status: ProposalStatus.Applied, Outcome: MetadataOutcome.Ok };
    }

    private Task<ProposalResult> ProposeAsync(Term term, MetadataCommand command)
    {
        lock (_gate)
        {
            if (_closed || _group is null || _servingTerm != term.Value)
                return Task.FromResult(ProposalResult.NotApplied);
            Proposal proposal = new(term);
            ulong sequence = ++_sequence;
            MetadataWriter writer = new();
            writer.Number(Replica.Value).Number(sequence);
            command.Write(writer);
            _proposals.Add(sequence, proposal);
            if (!_group.TryPropose(term, writer.ToArray(), out LogIndex index))
            {
                _proposals.Remove(sequence);
                return Task.FromResult(ProposalResult.NotApplied);
            }

            proposal.Index = index;
            // A group that applies inside of the call, or a conflicting entry that was quicker.
            if (_image.AppliedIndex >= index && _proposals.Remove(sequence))
                return Task.FromResult(ProposalResult.NotApplied);
            return proposal.Ended.Task;
        }
    }

    /// <summary>What waits for an entry at or below an applied index, and was not it, is lost.</summary>
    private void LoseProposalsLocked(LogIndex applied, ref List<(Proposal Proposal, ProposalResult Result)>? ended)
    {
        if (_proposals.Count == 0)
            return;
        foreach ((ulong sequence, Proposal proposal) in _proposals)
        {
            if (proposal.Index != default && proposal.Index <= applied)
            {
                _proposals.Remove(sequence);
                (ended ??= []).Add((proposal, ProposalResult.NotApplied));
            }
        }
    }

    private void GiveUpProposalsLocked(RaftStatus status, ref List<(Proposal Proposal, ProposalResult Result)>? ended)
    {
        foreach ((ulong sequence, Proposal proposal) in _proposals)
        {
            if (!status.IsLeader || status.Term != proposal.Term)
            {
                _proposals.Remove(sequence);
                (ended ??= []).Add((proposal, ProposalResult.Unknown));
            }
        }
    }

    private static void EndProposals(List<(Proposal Proposal, ProposalResult Result)>? ended)
    {
        if (ended is null)
            return;
        foreach ((Proposal proposal, ProposalResult result) in ended)
            proposal.Ended.SetResult(result);
    }

    private sealed class Proposal(Term term)
    {
        public Term Term { get; } = term;

        /// <summary>Zero until the group has given the entry its place.</summary>
        public LogIndex Index { get; set; }

        public TaskCompletionSource<ProposalResult> Ended { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
