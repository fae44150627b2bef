namespace ShardForge.Consensus;

/// <summary>One replica leading in one term: from the change of state to the step-down. Its lease is in here.</summary>
/// <remarks>
/// <para>The lease (R04): a follower that answers an append positively promises not to help anybody else to be elected for at least the lower election
/// timeout from then on. So nobody can be elected before (the send time that a majority has answered) + lower timeout, and the lease ends at 4/5 of that. Counted from the moment of
/// sending, on <see cref="System.Diagnostics.Stopwatch"/>: the answer's way back costs lease, never safety. The leader itself is one of the majority.</para>
/// <para>Not the library's lease: that one is ended by a timer, which a busy thread pool delays by seconds.</para>
/// <para>Threads: any. <see cref="Token"/> is cancelled synchronously at the step-down, before anything of another leader is appended.</para>
/// </remarks>
internal sealed class RaftLeadership(Term term, LogIndex barrier, int remoteCount, CancellationToken token)
{
    private readonly Lock _gate = new();
    private volatile Follower[] _followers = Follower.Create(remoteCount);      // by ordinal; learners too
    private volatile Follower[]? _voters;                                       // null: all of them
    private volatile bool _leaseGivenUp;
    private volatile bool _proposalsClosed;

    public Term Term { get; } = term;

    /// <summary>Index of the term's no-op: once it is committed, all of earlier terms is.</summary>
    public LogIndex Barrier { get; } = barrier;

    public CancellationToken Token { get; } = token;

    public bool IsOver => Token.IsCancellationRequested;

    public bool TakesProposals => !_proposalsClosed && !IsOver;

    /// <summary>Whose answers count from now on, by ordinal: the members but for the leader. Those of others are kept, for when they become members.</summary>
    public void SetVoters(ReadOnlySpan<int> ordinals)
    {
        Follower[] voters = new Follower[ordinals.Length];
        for (int i = 0; i < voters.Length; i++)
            voters[i] = Of(ordinals[i]);
        _voters = voters;
    }

    /// <summary>A member answered, in this term, what was sent at <paramref name="sentAt"/>.</summary>
    public void Acknowledge(int ordinal, long sentAt)
    {
        ref long latest = ref Of(ordinal).AnsweredSend;
        long before = Volatile.Read(ref latest);
        while (sentAt > before)
        {
            long found = Interlocked.CompareExchange(ref latest, sentAt, before);
            if (found == before)
                return;
            before = found;
        }
    }

    /// <summary>When the latest append left that a member answered; 0: none in this term.</summary>
    public long AnsweredSend(int ordinal) => Volatile.Read(ref Of(ordinal).AnsweredSend);

    /// <summary>A member has everything up to an index.</summary>
    public void SetMatched(int ordinal, LogIndex index) => Volatile.Write(ref Of(ordinal).MatchedIndex, index.Value);

    /// <summary>What a member is known, in this term, to have; 0 until it took an append.</summary>
    public LogIndex Matched(int ordinal) => new(Volatile.Read(ref Of(ordinal).MatchedIndex));

    /// <summary>A member says whether its disk has room.</summary>
    public void SetRoom(int ordinal, bool hasRoom) => Volatile.Write(ref Of(ordinal).HasNoRoom, !hasRoom);

    /// <summary>Whether enough members have room, with this one, for a majority; who did not say has some.</summary>
    public bool MajorityHasRoom
    {
        get
        {
            Follower[] voters = Voters;
            int without = 0;
            foreach (Follower voter in voters)
                without += Volatile.Read(ref voter.HasNoRoom) ? 1 : 0;
            return without <= voters.Length / 2;       // of 3 members one may be without, of 5 two, of 2 none
        }
    }

    /// <summary>What all members are known to have.</summary>
    public LogIndex MatchedByAll(LogIndex own)
    {
        long lowest = own.Value;
        foreach (Follower voter in Voters)
            lowest = Math.Min(lowest, Volatile.Read(ref voter.MatchedIndex));
        return new(lowest);
    }

    /// <summary>Whether nobody else can have been elected at <paramref name="now"/>, a moment after the request for which this is asked.</summary>
    public bool HasLease(long now, long leaseTicks)
    {
        if (_leaseGivenUp || IsOver)
            return false;
        // Again after the look at the sends: a hand-over gives the lease up before its frame leaves.
        return LeaseEnd(leaseTicks) > now && !_leaseGivenUp && !IsOver;
    }

    /// <summary>Ends the lease for the rest of the term (R04).</summary>
    public void GiveUpLease() => _leaseGivenUp = true;

    /// <summary>Refuses proposals from now on, so that a follower can get level.</summary>
    public void CloseProposals() => _proposalsClosed = true;

    public void ReopenProposals() => _proposalsClosed = false;

    private long LeaseEnd(long leaseTicks)
    {
        Follower[] voters = Voters;
        int needed = (voters.Length + 1) / 2;       // besides the leader: 1 of 3 members, 2 of 5, 1 of 2
        if (needed == 0)
            return long.MaxValue;
        Span<long> sends = voters.Length <= 8 ? stackalloc long[voters.Length] : new long[voters.Length];
        for (int i = 0; i < sends.Length; i++)
            sends[i] = Volatile.Read(ref voters[i].AnsweredSend);
        sends.Sort();
        long send = sends[^needed];
        return send == 0 ? 0 : send + leaseTicks;
    }

    private Follower[] Voters => _voters ?? _followers;

    private Follower Of(int ordinal)
    {
        Follower[] followers = _followers;
        return ordinal < followers.Length ? followers[ordinal] : Extend(ordinal);
    }

    /// <summary>The objects stay the same ones, so that nobody writes into an array that was left behind.</summary>
    private Follower Extend(int ordinal)
    {
        lock (_gate)
        {
            if (ordinal >= _followers.Length)
            {
                _voters ??= _followers;
                _followers = [.. _followers, .. Follower.Create(ordinal + 1 - _followers.Length)];
            }

            return _followers[ordinal];
        }
    }

    /// <summary>What is known, in this term, of one of the others.</summary>
    private sealed class Follower
    {
        public long AnsweredSend;       // ticks, 0: none yet
        public long MatchedIndex;
        public bool HasNoRoom;

        public static Follower[] Create(int count)
        {
            Follower[] made = new Follower[count];
            for (int i = 0; i < count; i++)
                made[i] = new();
            return made;
        }
    }
}
