using System.Diagnostics.CodeAnalysis;

namespace ShardForge.Consensus;

/// <summary>One round of (pre-)votes. Ends the wait for those who are silent as soon as the others have decided.</summary>
/// <remarks>The library waits for every member's answer, and calls a round lost in which one is still missing at the end of the candidate's time: one node
/// that hangs would cost two time limits per election, or every election. A majority of answers decides as well as all.</remarks>
[SuppressMessage("Design", "CA1001", Justification = "The source has no timer and no wait handle; late callers may still look at its token.")]
internal sealed class ElectionRound(RaftMessageKind kind, Term term, int memberCount)
{
    private readonly CancellationTokenSource _decided = new();
    private readonly HashSet<ReplicaId> _asked = [];
    private int _granted, _refused;

    public CancellationToken Decided => _decided.Token;

    /// <summary>Whether this round is the one that asks the member now; each is asked once in a round.</summary>
    public bool TryJoin(RaftMessageKind askedKind, Term askedTerm, ReplicaId member)
    {
        if (askedKind != kind || askedTerm != term)
            return false;
        lock (_asked)
            return _asked.Add(member);
    }

    public void Report(bool isGranted)
    {
        int granted = isGranted ? Interlocked.Increment(ref _granted) : Volatile.Read(ref _granted);
        int refused = isGranted ? Volatile.Read(ref _refused) : Interlocked.Increment(ref _refused);
        if (granted * 2 > memberCount || refused * 2 >= memberCount)
            _decided.Cancel();
    }
}
