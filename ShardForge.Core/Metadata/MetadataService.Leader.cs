using ShardForge.Consensus;

namespace ShardForge.Metadata;

/// <summary>The way to group 0's leader.</summary>
internal sealed partial class MetadataService
{
    /// <summary>Bound of one attempt: then the next node is asked.</summary>
    private static readonly TimeSpan s_attemptTimeout = TimeSpan.FromMilliseconds(750);
    private static readonly TimeSpan s_pauseMin = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan s_pauseMax = TimeSpan.FromMilliseconds(250);

    /// <summary>Completed when the own replica begins or stops to serve, or learns of another leader; then there is a new one.</summary>
    private TaskCompletionSource _leaderNews = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private string? _leaderHint;
    private string? _avoid;

    /// <summary>A member that answered for a leader which did not answer itself; asked first for a while.</summary>
    private string? _relay;
    private long _relaySince;
    private static readonly TimeSpan s_relayTime = TimeSpan.FromSeconds(3);
    private int _rotation;

    /// <summary>Has a command applied by group 0, wherever its leader is; asks again until the token ends. Commands can be repeated without harm.</summary>
    public async ValueTask<MetadataOutcome> ProposeAsync(MetadataCommand command, CancellationToken cancellationToken)
    {
        TimeSpan pause = s_pauseMin;
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (await TryProposeAsync(command, cancellationToken).ConfigureAwait(false) is { } outcome)
                return outcome;
            await PauseAsync(pause, cancellationToken).ConfigureAwait(false);
            pause = pause * 2 < s_pauseMax ? pause * 2 : s_pauseMax;
        }
    }

    /// <summary>Waits so long, in real time, or until the own replica knows more of the leader.</summary>
    public async Task PauseAsync(TimeSpan pause, CancellationToken cancellationToken)
    {
        Task news = LeaderNews();
        using CancellationTokenSource end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Task delay = Task.Delay(pause, end.Token);
        await Task.WhenAny(delay, news).ConfigureAwait(false);
        await end.CancelAsync().ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
    }

    public bool TryNext(out Timestamp timestamp)
    {
        if (Replica is { } replica)
            return replica.Oracle.TryNext(1, out timestamp);
        timestamp = default;
        return false;
    }

    public async ValueTask<Timestamp?> RequestAsync(int count, Timestamp oldestOpenSnapshot, CancellationToken cancellationToken)
    {
        if (Replica is { } replica && replica.TryGetServingTerm(out Term _))
            return await NextHereAsync(replica, NodeId, count, oldestOpenSnapshot, cancellationToken).ConfigureAwait(false);
        return await AskLeaderAsync(new TimestampsRequest(count, oldestOpenSnapshot, IsForwarded: false), cancellationToken).ConfigureAwait(false) is TimestampsAnswer answer
            ? answer.First
            : null;
    }

    private static async ValueTask<Timestamp?> NextHereAsync(
        MetadataReplica replica, string nodeId, int count, Timestamp oldestOpenSnapshot, CancellationToken cancellationToken)
    {
        replica.Oracle.Report(nodeId, oldestOpenSnapshot);
        using CancellationTokenSource bound = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        bound.CancelAfter(s_attemptTimeout);
        try
        {
            return await replica.Oracle.NextAsync(count, bound.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // No majority answers: the caller asks again, here or elsewhere.
            return null;
        }
    }

    private async ValueTask<MetadataOutcome?> TryProposeAsync(MetadataCommand command, CancellationToken cancellationToken)
    {
        if (Replica is { } replica && replica.TryGetServingTerm(out Term _))
        {
            ProposalResult result = await ProposeHereAsync(replica, command, cancellationToken).ConfigureAwait(false);
            return result.Status == ProposalStatus.Applied ? result.Outcome : null;
        }

        return await AskLeaderAsync(new ProposeRequest(command), cancellationToken).ConfigureAwait(false) is AppliedAnswer answer ? answer.Outcome : null;
    }

    private static async ValueTask<ProposalResult> ProposeHereAsync(MetadataReplica replica, MetadataCommand command, CancellationToken cancellationToken)
    {
        using CancellationTokenSource bound = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        bound.CancelAfter(s_attemptTimeout);
        try
        {
            return await replica.ProposeAsync(command, bound.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return ProposalResult.Unknown;
        }
    }

    /// <summary>One attempt. Null: no answer; the next attempt goes to another node.</summary>
    private async ValueTask<MetadataMessage?> AskLeaderAsync(MetadataMessage request, CancellationToken cancellationToken)
    {
        if (PickTarget() is not { } target)
            return null;
        MetadataMessage? answer = await AskUnlessAnotherLeadsAsync(target, request, cancellationToken).ConfigureAwait(false);
        lock (_gate)
        {
            switch (answer)
            {
                case TimestampsAnswer or AppliedAnswer:
                    _leaderHint = target;
                    if (_relay is null && _replica?.LeaderNode is { } known && !string.Equals(known, target, StringComparison.Ordinal))
                        (_relay, _relaySince) = (target, System.Diagnostics.Stopwatch.GetTimestamp());
                    break;
                case NotLeaderAnswer { LeaderNode: { } leader } when !string.Equals(leader, target, StringComparison.Ordinal):
                    _leaderHint = leader;
                    break;
                default:
                    _leaderHint = null;
                    _relay = null;
                    _avoid = target;
                    break;
            }
        }

        return answer;
    }

    /// <summary>The attempt is given up as soon as the own replica learns that somebody else leads: a leader that was cut off need not be waited for.</summary>
    private async ValueTask<MetadataMessage?> AskUnlessAnotherLeadsAsync(string target, MetadataMessage request, CancellationToken cancellationToken)
    {
        using CancellationTokenSource end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        string? before = Replica?.LeaderNode;
        Task<MetadataMessage?> ask = AskAsync(target, request, s_attemptTimeout, end.Token).AsTask();
        while (!ask.IsCompleted)
        {
            Task news = LeaderNews();
            string? leader = Replica?.LeaderNode;
            if (leader is not null && !string.Equals(leader, before, StringComparison.Ordinal) && !string.Equals(leader, target, StringComparison.Ordinal))
            {
                await end.CancelAsync().ConfigureAwait(false);
                break;
            }

            await Task.WhenAny(ask, news).ConfigureAwait(false);
        }

        try
        {
            return await ask.ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return null;
        }
    }

    private Task LeaderNews()
    {
        lock (_gate)
            return _leaderNews.Task;
    }

    private async ValueTask<MetadataMessage?> AskAsync(string target, MetadataMessage request, TimeSpan timeout, CancellationToken cancellationToken)
    {
        try
        {
            return MetadataMessage.DecodeAnswer(await _options.Link!.AskAsync(target, request.Encode(), timeout, cancellationToken).ConfigureAwait(false));
        }
        catch (ShardForgeException error) when (error is Network.PeerUnavailableException or OverloadedException)
        {
            return null;
        }
        catch (InvalidDataException error)
        {
            MetadataLog.AnswerNotUnderstood(_options.Logger, NodeId, target, error);
            return null;
        }
    }

    /// <summary>Whom to ask: the leader as the own replica, or the last answer, knows it; else, and after a failure once, the group's members in turn.</summary>
    private string? PickTarget()
    {
        if (Current is not { } state || _options.Link is null)
            return null;
        IReadOnlyList<RaftMember> members = state.MetadataGroup.Replicas;
        lock (_gate)
        {
            string? avoid = _avoid;
            _avoid = null;
            if (_relay is { } relay && System.Diagnostics.Stopwatch.GetElapsedTime(_relaySince) < s_relayTime)
                return relay;
            _relay = null;
            if (_replica?.LeaderNode is { } known && !IsSelfOr(avoid, known))
                return known;
            if (_leaderHint is { } hint && !IsSelfOr(avoid, hint))
                return hint;
            for (int i = 0; i < members.Count; i++)
            {
                _rotation = (_rotation + 1) % members.Count;
                if (!IsSelfOr(avoid, members[_rotation].NodeId))
                    return members[_rotation].NodeId;
            }

            return avoid;
        }
    }

    private bool IsSelfOr(string? avoid, string nodeId) =>
        string.Equals(nodeId, NodeId, StringComparison.Ordinal) || string.Equals(nodeId, avoid, StringComparison.Ordinal);
}
