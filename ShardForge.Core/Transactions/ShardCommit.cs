using ShardForge.Common;
using ShardForge.Mvcc;
using ShardForge.Replication;
using ShardForge.Routing;

namespace ShardForge.Transactions;

/// <summary>One attempt to commit a transaction or batch: in one shard as one entry, else over shards (R14-R16, R20, R21). Used once.</summary>
/// <remarks><code>
/// one shard        write ──────────────────────────────────────────────────► done
/// several          prewrites, in parallel ─ all durable: committed at C ───► the caller goes on
///                                            then  hints, decision at the primary, resolutions: in the background
/// explicit         prewrites ─ validate the reads up to C ─ decision ──────► the caller goes on; then resolutions
/// a prewrite fails for certain: the transaction can never be complete ─────► the error; then decision (abort) and resolutions
/// ... or in doubt  decision (abort) at the primary: the first one counts ──► what it says; unreachable: unknown
/// </code>
/// What is left behind wherever this stops is ended by whoever meets it (<see cref="LockResolver"/>); <see cref="OpenCommits"/> tells them that the owner lives.
/// Threads: one caller; the prewrites run side by side.</remarks>
internal sealed class ShardCommit
{
    // What the question to the primary may add to a call whose time is over.
    private static readonly TimeSpan s_askLimit = TimeSpan.FromSeconds(1);

    // After a refusal: what the other prewrites get to become durable, before those that wait for somebody's lock are stopped.
    private static readonly TimeSpan s_prewriteGrace = TimeSpan.FromMilliseconds(50);

    private readonly TransactionContext _context;
    private readonly CommitSpec _spec;
    private readonly List<Part> _parts = [];
    private readonly Lock _gate = new();
    private readonly TaskCompletionSource<Exception> _failed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool _isInDoubt;
    private byte[] _primary = [];
    private PrewriteSpec? _prewrite;

    public ShardCommit(TransactionContext context, CommitSpec spec)
    {
        _context = context;
        _spec = spec;
        _isInDoubt = spec.IsInDoubt;
    }

    /// <summary>Completes when everything that this attempt leaves to the background is done; a re-run waits for it, so that it does not meet its own locks.</summary>
    public Task Afterwards { get; private set; } = Task.CompletedTask;

    /// <summary>Keys of one shard, as of the map by which they were grouped.</summary>
    private sealed class Part
    {
        public List<KeyWrite> Writes { get; } = [];

        /// <summary>Its prewrite was answered with an M.</summary>
        public bool IsLocked { get; set; }

        public byte[][] Keys()
        {
            byte[][] keys = new byte[Writes.Count][];
            for (int i = 0; i < keys.Length; i++)
                keys[i] = Writes[i].Key.ToArray();
            return keys;
        }
    }

    /// <returns>C.</returns>
    /// <exception cref="OutcomeUnknownException">It may or may not be committed.</exception>
    public async ValueTask<Timestamp> RunAsync(TimeSpan limit, CancellationToken cancellationToken)
    {
        using (Deadline deadline = _context.StartCall(limit, cancellationToken))
        {
            ShardMap map = await GetMapAsync(deadline).ConfigureAwait(false);
            if (SingleShard.TryFind(_spec.Writes, _spec.ReadKeys, _spec.ReadRanges, map) is not null)
            {
                try
                {
                    return await CommitInOneShardAsync(deadline).ConfigureAwait(false);
                }
                catch (SpansShardsException)
                {
                    // The shard was split. An attempt may have been written before: the prewrites find what it left (R14).
                    _isInDoubt = true;
                }
            }
        }

        return await CommitOverShardsAsync(limit, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask<ShardMap> GetMapAsync(Deadline deadline)
    {
        try
        {
            return await _context.Router.GetMapAsync(deadline).ConfigureAwait(false);
        }
        catch (OperationCanceledException error)
        {
            deadline.ThrowIfCallerCancelled(error);
            deadline.ThrowIfOwnerStopped();
            throw new ShardUnavailableException($"The cluster was not formed within {deadline.Limit.TotalSeconds:0.###} s. Nothing was written.", error);
        }
    }

    private async ValueTask<Timestamp> CommitInOneShardAsync(Deadline deadline)
    {
        WriteRequest request = new()
        {
            Shard = default,
            Epoch = default,
            Id = _spec.Id,
            Age = _spec.Age,
            KnownTimestamp = _spec.Known,
            Writes = _spec.Writes,
            Start = _spec.Start,
            ReadKeys = _spec.ReadKeys,
            ReadRanges = _spec.ReadRanges,
        };
        ShardResponse response = await _context.Router.WriteAsync(request, SingleShard.Find, deadline).ConfigureAwait(false);
        return response.Timestamp;
    }

    // ---- several shards

    private async ValueTask<Timestamp> CommitOverShardsAsync(TimeSpan limit, CancellationToken cancellationToken)
    {
        // Cancelled by the caller, or here once the attempt has failed: nobody waits for a lock any longer then.
        CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Deadline deadline = _context.StartCall(limit, stop.Token);
        ShardMap map = _context.Router.Maps.Current!;
        Group(_spec.Writes, map, _parts);
        ChoosePrimary();
        _context.Open.Add(_spec.Id, _primary, _context.TimeProvider.GetTimestamp());
        Task<Timestamp>[] prewrites = new Task<Timestamp>[_parts.Count];
        for (int i = 0; i < prewrites.Length; i++)
            prewrites[i] = PrewriteAsync(_parts[i], deadline);

        if (!_context.Rules.R15WaitsForAll && !_spec.HasReads && await prewrites[0].ConfigureAwait(false) is { IsZero: false } first)
            return first;
        Task<Timestamp[]> all = Task.WhenAll(prewrites);
        await Task.WhenAny(all, _failed.Task).ConfigureAwait(false);
        if (_failed.Task.IsCompleted)
        {
            return await FailAsync(await _failed.Task.ConfigureAwait(false), all, deadline, stop, cancellationToken).ConfigureAwait(false);
        }

        Timestamp commit = default;
        foreach (Timestamp minimum in await all.ConfigureAwait(false))
            commit = _context.Rules.R14LargestM || commit.IsZero ? Timestamp.Later(commit, minimum) : commit;
        if (!_spec.HasReads)
        {
            // R15: it is committed, whatever happens from here on.
            _context.Known.Add(_spec.Id, commit);
            EndCall(deadline, stop);
            await LeaveToBackgroundAsync(FinishAsync(commit, isDecided: false)).ConfigureAwait(false);
            return commit;
        }

        return await CommitExplicitAsync(commit, all, deadline, stop, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask<Timestamp> CommitExplicitAsync(Timestamp commit, Task<Timestamp[]> all, Deadline deadline, CancellationTokenSource stop, CancellationToken cancellationToken)
    {
        try
        {
            if (_context.Rules.R16Validates)
                await new ReadValidation(_context, _spec, commit).RunAsync(deadline).ConfigureAwait(false);
        }
        catch (Exception error) when (error is ShardForgeException or OperationCanceledException)
        {
            // Only this one decides: not validated is not committed, unless an earlier attempt was.
            return await FailAsync(error, all, deadline, stop, cancellationToken).ConfigureAwait(false);
        }

        DecidedTransaction? decided = await DecideAsync(commit, deadline).ConfigureAwait(false);
        if (decided is not { } known)
        {
            _isInDoubt = true;
            return await FailAsync(new ShardUnavailableException($"The decision of transaction {_spec.Id} got no answer."), all, deadline, stop, cancellationToken).ConfigureAwait(false);
        }

        EndCall(deadline, stop);
        await LeaveToBackgroundAsync(FinishAsync(known.Commit, isDecided: true)).ConfigureAwait(false);
        return known.IsCommitted ? known.Commit
            : throw new TransactionConflictException($"Transaction {_spec.Id} took longer than its locks live and was rolled back by another that met them. Nothing was written.");
    }

    // M of a part; zero: it failed, and _failed says why.
    private async Task<Timestamp> PrewriteAsync(Part part, Deadline deadline)
    {
        WriteRequest request = new()
        {
            Shard = default,
            Epoch = default,
            Step = WriteStep.Prewrite,
            Prewrite = _prewrite,
            Id = _spec.Id,
            Age = _context.Rules.R20OldestWaits ? _spec.Age : default,
            KnownTimestamp = _spec.Known,
            Writes = part.Writes,
            Start = _spec.Start,
        };
        try
        {
            ShardResponse response = await _context.Router.WriteAsync(request, SingleShard.Find, deadline).ConfigureAwait(false);
            part.IsLocked = true;
            return response.Timestamp;
        }
        catch (SpansShardsException)
        {
            return await PrewriteSplitAsync(part, deadline).ConfigureAwait(false);
        }
        catch (Exception error) when (error is ShardForgeException or OperationCanceledException or ObjectDisposedException)
        {
            // Refused for certain, the key's lock is not there and will not come, so the transaction can never be complete. Else only the primary knows (R21).
            lock (_gate)
                _isInDoubt |= error is not ShardForgeException { IsTransient: true };
            _failed.TrySetResult(error);
            return default;
        }
    }

    // The part's shard was split meanwhile.
    private async Task<Timestamp> PrewriteSplitAsync(Part part, Deadline deadline)
    {
        List<Part> smaller = [];
        Group(part.Writes, _context.Router.Maps.Current!, smaller);
        if (smaller.Count == 1)
        {
            // The map that said so is older than the present one.
            return await PrewriteAsync(part, deadline).ConfigureAwait(false);
        }

        lock (_gate)
        {
            _isInDoubt = true;
            _parts.Remove(part);
            _parts.AddRange(smaller);
        }

        Task<Timestamp>[] prewrites = new Task<Timestamp>[smaller.Count];
        for (int i = 0; i < prewrites.Length; i++)
            prewrites[i] = PrewriteAsync(smaller[i], deadline);
        Timestamp commit = default;
        bool hasFailed = false;
        foreach (Timestamp minimum in await Task.WhenAll(prewrites).ConfigureAwait(false))
        {
            commit = Timestamp.Later(commit, minimum);
            hasFailed |= minimum.IsZero;
        }

        return hasFailed ? default : commit;
    }

    private static void Group(IReadOnlyList<KeyWrite> writes, ShardMap map, List<Part> parts)
    {
        Dictionary<ShardId, Part> byShard = [];
        foreach (KeyWrite write in writes)
        {
            ShardId shard = map.Find(write.Key.Span).Shard;
            if (!byShard.TryGetValue(shard, out Part? part))
            {
                part = new Part();
                byShard.Add(shard, part);
                parts.Add(part);
            }

            part.Writes.Add(write);
        }
    }

    // A shard that is led here saves a message for the decision; the other shards come in turn by the id, so that no shard decides for all.
    private void ChoosePrimary()
    {
        int chosen = (int)(_spec.Id.Low % (ulong)_parts.Count);
        for (int i = 0; i < _parts.Count; i++)
        {
            int at = (chosen + i) % _parts.Count;
            if (_context.IsLocal(_parts[at].Writes[0].Key))
            {
                chosen = at;
                break;
            }
        }

        (_parts[0], _parts[chosen]) = (_parts[chosen], _parts[0]);
        _primary = _parts[0].Writes[0].Key.ToArray();
        List<byte[]> others = new(_spec.Writes.Count - 1);
        foreach (Part part in _parts)
        {
            for (int i = part == _parts[0] ? 1 : 0; i < part.Writes.Count; i++)
                others.Add(part.Writes[i].Key.ToArray());
        }

        _prewrite = new PrewriteSpec { Primary = _primary, Others = others, IsExplicit = _spec.HasReads };
    }

    // ---- the end

    // R21.
    private async ValueTask<Timestamp> FailAsync(Exception error, Task<Timestamp[]> all, Deadline deadline, CancellationTokenSource stop, CancellationToken cancellationToken)
    {
        bool isInDoubt;
        lock (_gate)
            isInDoubt = _isInDoubt;
        if (!isInDoubt || !_context.Rules.R21AsksPrimary)
        {
            // Reads may pass its locks at once.
            if (!isInDoubt)
                _context.Known.Add(_spec.Id, default);
            await LeaveToBackgroundAsync(RollBackAsync(all, deadline, stop, isCertain: !isInDoubt)).ConfigureAwait(false);
            throw Rethrown(error);
        }

        // Nobody waits for a lock any longer.
        await stop.CancelAsync().ConfigureAwait(false);

        if (cancellationToken.IsCancellationRequested)
        {
            await LeaveToBackgroundAsync(RollBackAsync(all, deadline, stop, isCertain: false)).ConfigureAwait(false);
            throw new OperationCanceledException("The caller cancelled. The commit was in flight and may still happen.", error, cancellationToken);
        }

        DecidedTransaction? decided;
        using (Deadline asking = _context.StartCall(s_askLimit, cancellationToken))
            decided = await DecideAsync(default, asking).ConfigureAwait(false);
        await LeaveToBackgroundAsync(decided is { } known ? FinishAfterAsync(known, all, deadline, stop) : RollBackAsync(all, deadline, stop, isCertain: false)).ConfigureAwait(false);
        if (decided is not { } outcome)
            throw new OutcomeUnknownException($"Commit of transaction {_spec.Id} over {_parts.Count} shards, primary {ByteOrder.Show(_primary)}: {error.Message} Its primary was not reached. It may or may not have happened.", error)
            {
                Resolver = AskAgainAsync,
            };
        if (outcome.IsCommitted)
            return outcome.Commit;
        throw error is OutcomeUnknownException or OperationCanceledException or ObjectDisposedException
            ? new ShardUnavailableException($"Commit of transaction {_spec.Id} over {_parts.Count} shards was rolled back, since a shard did not answer in time: {error.Message} Nothing was written after all.", error)
            : Rethrown(error);
    }

    private async Task<bool> AskAgainAsync(CancellationToken cancellationToken)
    {
        _context.ThrowIfDisposed();
        using Deadline deadline = _context.StartCall(TimeSpan.MaxValue, cancellationToken);
        DecidedTransaction? decided = await DecideAsync(default, deadline).ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
        return decided?.IsCommitted ?? throw new ShardUnavailableException($"The primary of transaction {_spec.Id}, {ByteOrder.Show(_primary)}, was not reached. Ask again.");
    }

    private static Exception Rethrown(Exception error)
    {
        System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(error);
        return error;
    }

    private async ValueTask<DecidedTransaction?> DecideAsync(Timestamp commit, Deadline deadline)
    {
        byte[][] keys = [_primary];
        foreach (Part part in Parts())
        {
            // The primary is the first key of its part, and stays so through splits of it.
            byte[][] inPart = part.Keys();
            if (inPart[0].AsSpan().SequenceEqual(_primary))
                keys = inPart;
        }

        try
        {
            return await _context.Resolver.DecideAsync(_spec.Id, _spec.Age, _spec.Known, keys, commit, deadline).ConfigureAwait(false);
        }
        catch (Exception error) when (error is OperationCanceledException or ObjectDisposedException)
        {
            return null;
        }
    }

    private Part[] Parts()
    {
        lock (_gate)
            return [.. _parts];
    }

    // Certain: it can never be complete, so reads pass its locks from now on, and where no part is in doubt there is nothing to decide either: its locks are taken away.
    private async Task RollBackAsync(Task<Timestamp[]> all, Deadline deadline, CancellationTokenSource stop, bool isCertain)
    {
        await Task.Yield();
        if (isCertain)
            Hint(Parts(), default);

        // Those that are still on their way come first: a lock must not come after its resolution. Only those that wait for another's lock are stopped.
        await Task.WhenAny(all, Task.Delay(s_prewriteGrace, _context.TimeProvider, deadline.Token)).ConfigureAwait(false);
        await stop.CancelAsync().ConfigureAwait(false);
        await all.ConfigureAwait(false);
        EndCall(deadline, stop);
        bool isInDoubt;
        lock (_gate)
            isInDoubt = _isInDoubt;
        if (!isInDoubt)
        {
            await FinishAsync(default, isDecided: true, resolvesPrimary: true).ConfigureAwait(false);
            return;
        }

        using Deadline background = _context.StartBackground();
        DecidedTransaction? decided = await DecideAsync(default, background).ConfigureAwait(false);
        if (decided is { } known)
            await FinishAsync(known.Commit, isDecided: true).ConfigureAwait(false);
        else
            _context.Open.Remove(_spec.Id);
    }

    private async Task FinishAfterAsync(DecidedTransaction decided, Task<Timestamp[]> all, Deadline deadline, CancellationTokenSource stop)
    {
        await all.ConfigureAwait(false);
        EndCall(deadline, stop);
        await FinishAsync(decided.Commit, isDecided: true).ConfigureAwait(false);
    }

    // The decision, where it is not made yet, and then the other locks.
    private async Task FinishAsync(Timestamp commit, bool isDecided, bool resolvesPrimary = false)
    {
        // The caller goes on first.
        await Task.Yield();
        try
        {
            Part[] parts = Parts();
            if (!commit.IsZero)
                Hint(parts, commit);
            using Deadline deadline = _context.StartBackground();
            if (!_context.Rules.R15DecidesFirst)
                await ResolveAsync(parts, new DecidedTransaction(_spec.Id, commit), deadline).ConfigureAwait(false);
            if (!isDecided)
            {
                if (await DecideAsync(commit, deadline).ConfigureAwait(false) is not { } decided)
                    return;    // left to whoever meets the locks
                Invariant.Require(decided.Commit == commit);
            }

            _context.Open.Remove(_spec.Id);
            await ResolveAsync(parts, new DecidedTransaction(_spec.Id, commit), deadline, resolvesPrimary).ConfigureAwait(false);
        }
        catch (Exception error) when (error is OperationCanceledException or ObjectDisposedException or ShardForgeException)
        {
            // Left to whoever meets the locks.
        }
        finally
        {
            _context.Open.Remove(_spec.Id);
        }
    }

    private Task ResolveAsync(Part[] parts, DecidedTransaction decided, Deadline deadline, bool resolvesPrimary = false)
    {
        List<Task> resolving = [];
        foreach (Part part in parts)
        {
            // The primary's own locks ended with the decision; with none made, only what was locked is there to be taken away.
            byte[][] keys = part.Keys();
            if (resolvesPrimary ? !part.IsLocked : keys.Length == 1 && keys[0].AsSpan().SequenceEqual(_primary))
                continue;
            resolving.Add(_context.Resolver.ResolveAsync(decided, keys, deadline).AsTask());
        }

        return Task.WhenAll(resolving);
    }

    // R15: irrevocable from here on. It only saves questions, so nobody waits for it.
    private void Hint(Part[] parts, Timestamp commit)
    {
        foreach (Part part in parts)
        {
            if (part.IsLocked || !commit.IsZero)
                _context.Background.Track(HintAsync(part, commit));
        }
    }

    private async Task HintAsync(Part part, Timestamp commit)
    {
        TransactionRequest hint = new()
        {
            Shard = default,
            Epoch = default,
            Question = TransactionQuestion.Hint,
            Transaction = _spec.Id,
            Keys = [.. part.Writes.Select(static write => write.Key)],
            Timestamp = commit,
        };
        try
        {
            using Deadline deadline = _context.StartBackground();
            await _context.Router.ReadAsync(hint, static (request, map) => map.Find(request.Keys[0].Span), deadline).ConfigureAwait(false);
        }
        catch (Exception error) when (error is OperationCanceledException or ObjectDisposedException or ShardForgeException)
        {
            // Who meets the lock asks.
        }
    }

    private ValueTask LeaveToBackgroundAsync(Task work)
    {
        Afterwards = work;
        _context.Background.Track(work);

        // A caller that commits faster than its locks are resolved waits for its own.
        return _context.HasRoomInBackground ? default : new ValueTask(work);
    }

    private static void EndCall(Deadline deadline, CancellationTokenSource stop)
    {
        deadline.Dispose();
        stop.Dispose();
    }
}
