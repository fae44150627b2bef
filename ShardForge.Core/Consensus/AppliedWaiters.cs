namespace ShardForge.Consensus;

/// <summary>Who waits until an index is applied. Wakes only those whose index was reached.</summary>
/// <remarks>
/// A waiter names the term of the entry it waits for, and fails if another one was applied in its place: an index alone proves nothing, since a
/// leader that lost its term may see the next leader's entry arrive there. For the same reason the token, which the library cancels before any foreign
/// append, is looked at first.
/// </remarks>
internal sealed class AppliedWaiters(LogIndex applied)
{
    private readonly Lock _gate = new();
    private readonly PriorityQueue<Waiter, long> _waiters = new();
    private long _applied = applied.Value;

    public LogIndex Applied => new(Volatile.Read(ref _applied));

    public async ValueTask WaitAsync(LogIndex index, Term? term, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        Waiter waiter;
        lock (_gate)
        {
            if (index.Value <= _applied)
                return;
            waiter = new(index, term);
            _waiters.Enqueue(waiter, index.Value);
        }

        await waiter.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
    }

    public ValueTask WaitForNextAsync(CancellationToken cancellationToken) => WaitAsync(Applied.Next, null, cancellationToken);

    /// <summary>Entries up to the last of these are applied.</summary>
    public void Advance(LogIndex first, ReadOnlySpan<CommittedEntry> entries)
    {
        LogIndex last = new(first.Value + entries.Length - 1);
        while (TryTake(last, out Waiter? waiter))
        {
            long at = waiter.Index.Value - first.Value;
            waiter.Complete(at >= 0 ? entries[(int)at].Term : null);
        }
    }

    /// <summary>A snapshot covers everything up to an index; what the entries were is not known any more.</summary>
    public void Advance(LogIndex snapshotIndex)
    {
        while (TryTake(snapshotIndex, out Waiter? waiter))
            waiter.Complete(null);
    }

    private bool TryTake(LogIndex last, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Waiter? waiter)
    {
        lock (_gate)
        {
            Volatile.Write(ref _applied, Math.Max(_applied, last.Value));
            if (_waiters.TryPeek(out waiter, out long index) && index <= last.Value)
            {
                _waiters.Dequeue();
                return true;
            }

            waiter = null;
            return false;
        }
    }

    private sealed class Waiter(LogIndex index, Term? term) : TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)
    {
        public LogIndex Index { get; } = index;

        /// <summary>Null of an applied entry: it is not known; null of a waiter: any will do.</summary>
        public void Complete(Term? applied)
        {
            if (term is null || term == applied)
                TrySetResult();
            else
                TrySetException(new OperationCanceledException($"Another entry than that of term {term} was applied at index {Index} (its term: {applied?.ToString() ?? "unknown"})."));
        }
    }
}
