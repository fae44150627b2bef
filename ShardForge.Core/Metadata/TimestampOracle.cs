namespace ShardForge.Metadata;

/// <summary>Hands out timestamps on group 0's leader (R01, R02).</summary>
/// <remarks>
/// <code>
/// already handed out ... _last | free to hand out ... | _windowEnd | not before group 0 has applied a higher window
/// </code>
/// A window is proposed and applied before a timestamp of it is handed out, and a new leader starts at the persisted end: so what it hands out is above
/// everything any leader before it did. It is extended ahead, when half of it is used; while the clock goes on without requests nothing is proposed.
/// <para>An answer is taken first and the lease looked at afterwards: both after the request arrived. With the lease valid, no other leader had been
/// elected by then, so every answer that was complete before the request arrived was given by this one, or by one before it.</para>
/// <para>Invariants: <c>_last</c> &lt; <c>_windowEnd</c> wherever something was handed out; neither goes back within a term.</para>
/// <para>Threads: safe for concurrent use. The lock is held for memory work only.</para></remarks>
internal sealed class TimestampOracle(IOracleGroup group, TimeProvider timeProvider)
{
    /// <summary>How far ahead a window reaches: a new leader starts that much late at most.</summary>
    private const int WindowMilliseconds = 2_000;

    private readonly IOracleGroup _group = group;
    private readonly Lock _gate = new();
    private readonly OracleClock _clock = new(timeProvider);
    private readonly SnapshotReports _reports = new();
    private Term _term;
    private ulong _last;
    private ulong _windowEnd;
    private Task<bool>? _extension;

    /// <summary>Highest timestamp handed out by this leader in its term; zero before the first.</summary>
    public Timestamp Last
    {
        get
        {
            lock (_gate)
                return new(_last);
        }
    }

    /// <summary>
    /// Hands out <paramref name="count"/> timestamps in a row if that is possible at once: this replica leads and serves, has its lease, and the window is
    /// large enough.
    /// </summary>
    /// <param name="count">At least 1.</param>
    /// <param name="first">The first of them.</param>
    public bool TryNext(int count, out Timestamp first) =>
        TryTake(count, out first, out Term term) == TakeResult.Taken && _group.HasLease(term);

    /// <summary>Hands out <paramref name="count"/> timestamps in a row; waits for the window and asks a majority where the lease ran out.</summary>
    /// <returns>The first of them; null: this replica does not lead, or lost leadership meanwhile.</returns>
    public async ValueTask<Timestamp?> NextAsync(int count, CancellationToken cancellationToken)
    {
        while (true)
        {
            switch (TryTake(count, out Timestamp first, out Term term))
            {
                case TakeResult.NotServing:
                    return null;
                case TakeResult.Taken:
                    if (_group.HasLease(term))
                        return first;
                    return await _group.ConfirmLeadershipAsync(term, cancellationToken).ConfigureAwait(false) ? first : null;
                default:
                    if (!await Extend(term, count).WaitAsync(cancellationToken).ConfigureAwait(false))
                        return null;
                    break;
            }
        }
    }

    /// <summary>Begins to persist a window, so that the first request need not wait for it. Called when this replica starts to serve.</summary>
    public void Prepare()
    {
        if (TryTake(0, out _, out Term term) == TakeResult.WindowUsedUp)
            _ = Extend(term, 1);
    }

    /// <summary>Takes down what a node says of its open snapshots (R28); see <see cref="SnapshotReports"/>.</summary>
    public void Report(string nodeId, Timestamp oldestOpenSnapshot)
    {
        lock (_gate)
            _reports.Report(nodeId, oldestOpenSnapshot);
    }

    /// <summary>No snapshot below this one is open on any of the nodes; zero while that is not known, or where this replica does not serve.</summary>
    public Timestamp OldestOpenSnapshot(IReadOnlyList<NodeInfo> nodes)
    {
        lock (_gate)
            return _group.TryGetServingTerm(out Term term) && term == _term ? _reports.Oldest(nodes) : Timestamp.Zero;
    }

    private enum TakeResult
    {
        NotServing,
        WindowUsedUp,
        Taken,
    }

    private TakeResult TryTake(int count, out Timestamp first, out Term term)
    {
        bool extend;
        first = default;
        lock (_gate)
        {
            if (!_group.TryGetServingTerm(out term))
                return TakeResult.NotServing;
            if (term != _term)
                StartTermLocked(term);

            ulong physical = (ulong)_clock.Milliseconds() << Timestamp.CounterBits;
            ulong next = Math.Max(_last + 1, physical);
            ulong last = next + (ulong)count - 1;
            if (last >= _windowEnd)
                return TakeResult.WindowUsedUp;
            if (count > 0)
                _last = last;
            first = new(next);
            extend = _extension is null && _windowEnd - last < (ulong)(WindowMilliseconds / 2) << Timestamp.CounterBits;
            Invariant.Check(_last < _windowEnd);
        }

        if (extend)
            _ = Extend(term, 1);
        return TakeResult.Taken;
    }

    private void StartTermLocked(Term term)
    {
        Timestamp persisted = _group.PersistedWindow;
        _term = term;
        // The persisted end itself was never handed out, but what is free begins above it only with the next window.
        _last = Math.Max(_last, persisted.Value);
        _windowEnd = persisted.Value;
        _extension = null;
        _reports.Clear();
        _clock.Restart(persisted.IsZero ? null : persisted.Milliseconds);
    }

    /// <summary>One extension at a time; its task says whether the window grew.</summary>
    private Task<bool> Extend(Term term, int count)
    {
        TaskCompletionSource<bool> extended;
        Timestamp end;
        lock (_gate)
        {
            if (term != _term)
                return Task.FromResult(true);           // the caller looks again
            if (_extension is not null)
                return _extension;
            ulong from = Math.Max(_last + 1, (ulong)_clock.Milliseconds() << Timestamp.CounterBits);
            end = new(from + (ulong)count + ((ulong)WindowMilliseconds << Timestamp.CounterBits));
            extended = new(TaskCreationOptions.RunContinuationsAsynchronously);
            _extension = extended.Task;
        }

        _ = ExtendAsync(term, end, extended);
        return extended.Task;
    }

    /// <summary>Never fails: what goes wrong is the end of this leadership, or of the group, and both show in the next attempt.</summary>
    private async Task ExtendAsync(Term term, Timestamp end, TaskCompletionSource<bool> extended)
    {
        bool grown = false;
        try
        {
            grown = await _group.PersistWindowAsync(term, end).ConfigureAwait(false);
        }
        finally
        {
            lock (_gate)
            {
                if (term == _term)
                {
                    _extension = null;
                    if (grown)
                        _windowEnd = Math.Max(_windowEnd, end.Value);
                }
            }

            extended.SetResult(grown);
        }
    }
}

/// <summary>What the oracle needs of group 0's replica on this node.</summary>
internal interface IOracleGroup
{
    /// <summary>Upper end of the last window that this replica has applied; zero: none yet.</summary>
    Timestamp PersistedWindow { get; }

    /// <summary>True where this replica leads and has applied an entry of its own term (R10).</summary>
    bool TryGetServingTerm(out Term term);

    /// <summary>As <see cref="Consensus.IRaftGroup.HasLease"/>.</summary>
    bool HasLease(Term term);

    /// <summary>A majority confirmed, in a round begun after the call, that this replica leads in the term.</summary>
    ValueTask<bool> ConfirmLeadershipAsync(Term term, CancellationToken cancellationToken);

    /// <summary>Completes when a window up to <paramref name="end"/> was proposed in the term and is applied here; false: it was not. Ends with the leadership.</summary>
    Task<bool> PersistWindowAsync(Term term, Timestamp end);
}
