using System.Collections.Concurrent;
using ShardForge.Common;
using ShardForge.Mvcc;
using ShardForge.Replication;
using ShardForge.Routing;

namespace ShardForge.Transactions;

/// <summary>Finds out, at its primary, what became of a transaction whose lock somebody met, and ends it where its owner is gone (R17).</summary>
/// <remarks><code>
/// primary says    decided ─────────────────────────────────────────────► that
///                 live ────────────────────────────────────────────────► undecided
///                 missing ── mark at the primary ── none comes ── abort ► aborted
///                 expired ── explicit ─────────────────────────── abort ► what the decision says: the first one counts
///                            else mark at all others ── all there ─ commit at the largest M
///                                                    └─ one missing, marked durably ─ abort
/// </code>
/// Nobody is told "aborted" before both the mark and the abort are durable. Everything here may be repeated, by several at once, and stopped anywhere.
/// Threads: safe for concurrent use; those who meet locks of one transaction share one question.</remarks>
internal sealed class LockResolver(TransactionContext context) : ILockResolver
{
    private readonly TransactionContext _context = context;
    private readonly ConcurrentDictionary<OperationId, Task<DecidedTransaction?>> _asking = new();

    public async ValueTask<DecidedTransaction?> MeetAsync(LockRecord met, byte[] key, bool resolve, Deadline deadline)
    {
        DecidedTransaction? decided = _context.Known.Find(met.Transaction);
        decided ??= await AskOnceAsync(met).WaitAsync(deadline.Token).ConfigureAwait(false);
        if (decided is not { } known)
            return null;
        if (resolve)
            return await ResolveAsync(known, [key], deadline).ConfigureAwait(false) ? known : null;

        // R23: a read passes; the resolution is left to the background.
        if (_context.HasRoomInBackground)
            _context.Background.Track(ResolveLaterAsync(known, key));
        return known;
    }

    public async Task<bool> FindOutAsync(WriteRequest request, CancellationToken cancellationToken)
    {
        // The mark finds the write, or keeps it from coming. All keys of the request are in one entry, so the first one tells for all.
        _context.ThrowIfDisposed();
        WriteRequest mark = NewStep(WriteStep.Mark, request.Id, [request.Writes[0].Key.ToArray()]) with { Age = request.KnownTimestamp, KnownTimestamp = request.KnownTimestamp };
        using Deadline deadline = _context.StartCall(TimeSpan.MaxValue, cancellationToken);
        ShardResponse response = await _context.Router.WriteAsync(mark, SingleShard.Find, deadline).ConfigureAwait(false);
        return response.Status switch
        {
            ShardStatus.Decided => true,
            ShardStatus.Missing => false,
            _ => throw new ShardUnavailableException($"What became of {request.Id} is not decided yet ({response.Status}). Ask again."),
        };
    }

    /// <summary>Resolves locks of a decided transaction in one shard.</summary>
    /// <returns>False: it may still be there.</returns>
    public async ValueTask<bool> ResolveAsync(DecidedTransaction decided, IReadOnlyList<byte[]> keys, Deadline deadline)
    {
        WriteRequest request = NewStep(WriteStep.Resolve, decided.Id, keys) with { CommitAt = decided.Commit };
        try
        {
            await _context.Router.WriteAsync(request, SingleShard.Find, deadline).ConfigureAwait(false);
            return true;
        }
        catch (SpansShardsException)
        {
            // A split came between: each key for itself.
            foreach (byte[] key in keys)
            {
                if (keys.Count == 1 || !await ResolveAsync(decided, [key], deadline).ConfigureAwait(false))
                    return false;
            }

            return true;
        }
        catch (ShardForgeException)
        {
            return false;
        }
    }

    /// <summary>Asks for the decision, or makes it.</summary>
    /// <param name="id">The transaction.</param>
    /// <param name="age">Its age: it committed above it.</param>
    /// <param name="known">A timestamp from before the question began, for the horizon.</param>
    /// <param name="keys">The primary, and other keys in its shard.</param>
    /// <param name="commit">C; zero: abort.</param>
    /// <param name="deadline">Bound.</param>
    /// <returns>The first decision; null: it is not known.</returns>
    public async ValueTask<DecidedTransaction?> DecideAsync(OperationId id, Timestamp age, Timestamp known, IReadOnlyList<byte[]> keys, Timestamp commit, Deadline deadline)
    {
        WriteRequest request = NewStep(WriteStep.Decide, id, keys) with { Age = age, KnownTimestamp = known, CommitAt = commit };
        try
        {
            ShardResponse response;
            try
            {
                response = await _context.Router.WriteAsync(request, SingleShard.Find, deadline).ConfigureAwait(false);
            }
            catch (SpansShardsException) when (keys.Count > 1)
            {
                return await DecideAsync(id, age, known, [keys[0]], commit, deadline).ConfigureAwait(false);
            }

            if (response.Status != ShardStatus.Decided)
                return null;
            DecidedTransaction decided = new(id, response.Timestamp);
            _context.Known.Add(id, decided.Commit);
            return decided;
        }
        catch (ShardForgeException)
        {
            return null;
        }
    }

    private async Task<DecidedTransaction?> AskOnceAsync(LockRecord met)
    {
        while (true)
        {
            TaskCompletionSource<DecidedTransaction?> asked = new(TaskCreationOptions.RunContinuationsAsynchronously);
            Task<DecidedTransaction?> asking = _asking.GetOrAdd(met.Transaction, asked.Task);
            if (asking != asked.Task)
                return await asking.ConfigureAwait(false);
            try
            {
                using Deadline deadline = _context.StartBackground();
                DecidedTransaction? decided = await SettleAsync(met, deadline).ConfigureAwait(false);
                if (decided is { } known)
                    _context.Known.Add(known.Id, known.Commit);
                asked.TrySetResult(decided);
                return decided;
            }
            catch (Exception error) when (error is ShardForgeException or OperationCanceledException or ObjectDisposedException)
            {
                asked.TrySetResult(null);
                return null;
            }
            catch (Exception error)
            {
                asked.TrySetException(error);
                _ = asked.Task.Exception;
                throw;
            }
            finally
            {
                _asking.TryRemove(met.Transaction, out _);
            }
        }
    }

    private async ValueTask<DecidedTransaction?> SettleAsync(LockRecord met, Deadline deadline)
    {
        // Before the first question: what is older than the horizon may be forgotten where it is asked.
        Timestamp known = _context.Timestamps.LastKnown;
        TransactionRequest status = new()
        {
            Shard = default,
            Epoch = default,
            Question = TransactionQuestion.Status,
            Transaction = met.Transaction,
            Keys = [met.Primary],
            Timestamp = met.Start,
        };
        ShardResponse response = await _context.Router.ReadAsync(status, static (request, map) => map.Find(request.Keys[0].Span), deadline).ConfigureAwait(false);
        switch (response.Status)
        {
            case ShardStatus.Decided:
                return new DecidedTransaction(met.Transaction, response.Timestamp);
            case ShardStatus.Missing:
                // It may have come meanwhile: check and mark are one step (R17).
                ShardResponse? marked = await MarkAsync(met, known, met.Primary, deadline).ConfigureAwait(false);
                if (marked is { Status: ShardStatus.Decided })
                    return new DecidedTransaction(met.Transaction, marked.Timestamp);
                return marked is { Status: ShardStatus.Missing }
                    ? await DecideAsync(met.Transaction, met.Start, known, [met.Primary], default, deadline).ConfigureAwait(false)
                    : null;
            case ShardStatus.Expired:
                return await EndAsync(response.Lock!, known, deadline).ConfigureAwait(false);
            default:
                return null;
        }
    }

    private async ValueTask<DecidedTransaction?> EndAsync(LockRecord primary, Timestamp known, Deadline deadline)
    {
        Timestamp commit = primary.MinimumCommit;
        if (primary.IsExplicit && _context.Rules.R16RollsBackExplicit)
            return await DecideAsync(primary.Transaction, primary.Start, known, [primary.Primary], default, deadline).ConfigureAwait(false);
        Task<ShardResponse?>[] asking = new Task<ShardResponse?>[primary.Others.Count];
        for (int i = 0; i < asking.Length; i++)
            asking[i] = MarkAsync(primary, known, primary.Others[i], deadline);
        ShardResponse?[] others = await Task.WhenAll(asking).ConfigureAwait(false);
        bool isMissing = false, isUnknown = false;
        foreach (ShardResponse? other in others)
        {
            switch (other?.Status)
            {
                case ShardStatus.Ok:
                    if (_context.Rules.R14LargestM)
                        commit = Timestamp.Later(commit, other.Timestamp);
                    break;
                case ShardStatus.Decided:
                    // Resolved already, so it is committed, and was so before this asked: the primary knows it now.
                    return new DecidedTransaction(primary.Transaction, other.Timestamp);
                case ShardStatus.Missing:
                    isMissing = true;
                    break;
                default:
                    isUnknown = true;
                    break;
            }
        }

        // One marked key is enough: the transaction can never be complete.
        if (isMissing)
            commit = default;
        else if (isUnknown)
            return null;
        return await DecideAsync(primary.Transaction, primary.Start, known, [primary.Primary], commit, deadline).ConfigureAwait(false);
    }

    private async Task<ShardResponse?> MarkAsync(LockRecord of, Timestamp known, byte[] key, Deadline deadline)
    {
        WriteRequest request = NewStep(WriteStep.Mark, of.Transaction, [key]) with { Age = of.Start, KnownTimestamp = known };
        try
        {
            return await _context.Router.WriteAsync(request, SingleShard.Find, deadline).ConfigureAwait(false);
        }
        catch (ShardForgeException)
        {
            return null;
        }
    }

    private async Task ResolveLaterAsync(DecidedTransaction decided, byte[] key)
    {
        try
        {
            using Deadline deadline = _context.StartBackground();
            await ResolveAsync(decided, [key], deadline).ConfigureAwait(false);
        }
        catch (Exception error) when (error is OperationCanceledException or ObjectDisposedException or ShardForgeException)
        {
            // Whoever meets it next tries again.
        }
    }

    private static WriteRequest NewStep(WriteStep step, OperationId id, IReadOnlyList<byte[]> keys)
    {
        KeyWrite[] writes = new KeyWrite[keys.Count];
        for (int i = 0; i < writes.Length; i++)
            writes[i] = new KeyWrite(keys[i], null);
        return new WriteRequest { Shard = default, Epoch = default, Step = step, Id = id, KnownTimestamp = default, Writes = writes };
    }
}
