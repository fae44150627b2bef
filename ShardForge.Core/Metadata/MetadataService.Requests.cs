using ShardForge.Metadata.Formation;

namespace ShardForge.Metadata;

/// <summary>What this node answers to others.</summary>
internal sealed partial class MetadataService
{
    /// <summary>Longest time that a question for the state is held.</summary>
    private static readonly TimeSpan s_stateWaitMax = TimeSpan.FromSeconds(5);

    /// <summary>Bound of letting a node join.</summary>
    private static readonly TimeSpan s_joinTimeout = TimeSpan.FromSeconds(2);

    private const int TimestampsPerRequestMax = 65_536;

    /// <summary>Answers a request of <see cref="Network.PeerService.Metadata"/>.</summary>
    public async ValueTask<byte[]> HandleAsync(string from, ReadOnlyMemory<byte> request, CancellationToken cancellationToken)
    {
        MetadataMessage answer = MetadataMessage.DecodeRequest(request.Span) switch
        {
            TimestampsRequest timestamps => await AnswerAsync(from, timestamps, cancellationToken).ConfigureAwait(false),
            StateRequest state => await AnswerAsync(state, cancellationToken).ConfigureAwait(false),
            ProposeRequest propose => await AnswerAsync(propose, cancellationToken).ConfigureAwait(false),
            _ => new NotKnownAnswer(),
        };
        return answer.Encode();
    }

    /// <summary>Answers a request of <see cref="Network.PeerService.Formation"/>.</summary>
    public async ValueTask<byte[]> HandleFormationAsync(string from, ReadOnlyMemory<byte> request, CancellationToken cancellationToken)
    {
        FormationMessage answer = FormationMessage.Decode(request.Span) switch
        {
            FormationView question => await Volatile.Read(ref _formation).AnswerAsync(question, cancellationToken).ConfigureAwait(false),
            JoinRequest join => await AnswerAsync(join, cancellationToken).ConfigureAwait(false),
            FormationMessage other => throw new InvalidDataException($"{other.GetType().Name} from {from} is no question."),
        };
        return answer.Encode();
    }

    private async ValueTask<MetadataMessage> AnswerAsync(string from, TimestampsRequest request, CancellationToken cancellationToken)
    {
        if (request.Count is < 1 or > TimestampsPerRequestMax)
            throw new InvalidDataException($"{from} asks for {request.Count:N0} timestamps; 1 to {TimestampsPerRequestMax:N0} are allowed.");
        if (Replica is not { } replica)
            return new NotLeaderAnswer(null);
        Timestamp? first = await NextHereAsync(replica, from, request.Count, request.OldestOpenSnapshot, cancellationToken).ConfigureAwait(false);
        if (first is { } timestamp)
            return new TimestampsAnswer(timestamp);
        // A link can be broken in one direction only: whoever asks here may not reach the leader, and this node may.
        if (!request.IsForwarded && replica.LeaderNode is { } leader && !IsSelfOr(from, leader)
            && await AskAsync(leader, request with { IsForwarded = true }, s_attemptTimeout / 2, cancellationToken).ConfigureAwait(false) is TimestampsAnswer answer)
        {
            return answer;
        }

        return new NotLeaderAnswer(replica.LeaderNode);
    }

    private async ValueTask<MetadataMessage> AnswerAsync(StateRequest request, CancellationToken cancellationToken)
    {
        using CancellationTokenSource bound = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _stop.Token);
        bound.CancelAfter(request.WaitMax < s_stateWaitMax ? request.WaitMax : s_stateWaitMax);
        try
        {
            return new StateAnswer(await WaitForAsync(state => state.Version > request.KnownVersion, bound.Token).ConfigureAwait(false));
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return new StateAnswer(null);
        }
    }

    private async ValueTask<MetadataMessage> AnswerAsync(ProposeRequest request, CancellationToken cancellationToken)
    {
        if (Replica is not { } replica)
            return new NotLeaderAnswer(null);
        // The leader looks as well: whoever let the node in may not be linked to the one it would replace (R38).
        if (request.Command is ReplaceNodeCommand replace && IsTakenByAnother(replace))
            return new AppliedAnswer(MetadataOutcome.OtherInstance);
        ProposalResult result = await ProposeHereAsync(replica, request.Command, cancellationToken).ConfigureAwait(false);
        return result.Status switch
        {
            ProposalStatus.Applied => new AppliedAnswer(result.Outcome),
            ProposalStatus.NotApplied => new NotLeaderAnswer(replica.LeaderNode),
            _ => new OutcomeUnknownAnswer(),
        };
    }

    private async ValueTask<JoinAnswer> AnswerAsync(JoinRequest request, CancellationToken cancellationToken)
    {
        JoinAnswer notYet = new(null, FormationRefusal.None, _options.ClusterName);
        if (!string.Equals(request.ClusterName, _options.ClusterName, StringComparison.Ordinal))
            return notYet with { Refusal = FormationRefusal.OtherCluster };
        if (!_formed.Task.IsCompletedSuccessfully)
            return notYet;

        using CancellationTokenSource bound = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _stop.Token);
        bound.CancelAfter(s_joinTimeout);
        try
        {
            MetadataCommand command = request.Node;
            if (State.FindNode(request.Node.NodeId) is { } known && known.InstanceId != Guid.Empty && known.InstanceId != request.Node.InstanceId)
            {
                ReplaceNodeCommand replace = new(known.NodeId, request.Node.Address, known.InstanceId, request.Node.InstanceId, request.Node.OpenCounter, request.Node.SupportedFeatureLevel);
                if (IsTakenByAnother(replace))
                    return notYet with { Refusal = FormationRefusal.OtherInstance };
                command = replace;
            }

            MetadataOutcome outcome = await ProposeAsync(command, bound.Token).ConfigureAwait(false);
            if (outcome == MetadataOutcome.Ok && command is ReplaceNodeCommand done)
                MetadataLog.Replaced(_options.Logger, NodeId, done.NodeId, done.InstanceId);
            if (outcome != MetadataOutcome.Ok)
                return notYet with { Refusal = RefusalOf(outcome) };
            return notYet with
            {
                State = await WaitForAsync(
                    state => state.FindNode(request.Node.NodeId) is { } node && node.InstanceId == request.Node.InstanceId && node.OpenCounter >= request.Node.OpenCounter,
                    bound.Token).ConfigureAwait(false),
            };
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return notYet;
        }
    }

    /// <summary>The data directory that would be replaced is in use: two nodes have one id.</summary>
    private bool IsTakenByAnother(ReplaceNodeCommand replace) =>
        string.Equals(replace.NodeId, NodeId, StringComparison.Ordinal) || _options.Link?.IsConnected(replace.NodeId, replace.OldInstance) == true;

    private static FormationRefusal RefusalOf(MetadataOutcome outcome) => outcome switch
    {
        MetadataOutcome.OtherInstance => FormationRefusal.OtherInstance,
        MetadataOutcome.RestoredCopy => FormationRefusal.RestoredCopy,
        MetadataOutcome.NodeRemoved => FormationRefusal.NodeRemoved,
        MetadataOutcome.LevelNotKnown => FormationRefusal.FeatureLevel,
        _ => throw new InvariantViolatedException($"A registration ended with {outcome}."),
    };
}
