namespace ShardForge.Transactions;

/// <summary>The snapshots that are open on this node, for the limit of history (R28). Threads: safe for concurrent use.</summary>
/// <remarks>A snapshot is registered with the last known timestamp before its own is asked for, so they come in ascending order and the first of the list is the oldest.</remarks>
internal sealed class OpenSnapshots
{
    private readonly Lock _gate = new();
    // Longer than any transaction may take: one that was forgotten without a Dispose does not hold history for ever.
    private static readonly long s_boundedMillisecondsMax = (long)(TransactionOptions.TimeoutMax + TimeSpan.FromMinutes(1)).TotalMilliseconds;
    private readonly LinkedList<(Timestamp At, bool IsBounded)> _open = new();

    /// <summary>The oldest one; null: none is open.</summary>
    /// <param name="now">The last timestamp known here.</param>
    public Timestamp? Oldest(Timestamp now)
    {
        lock (_gate)
        {
            while (_open.First is { Value.IsBounded: true } first && now.Milliseconds - first.Value.At.Milliseconds > s_boundedMillisecondsMax)
                _open.RemoveFirst();
            return _open.First?.Value.At;
        }
    }

    /// <summary>Registers one; disposed, it is closed.</summary>
    /// <param name="lastKnown">The last timestamp known here.</param>
    /// <param name="isBounded">It is a transaction's, which ends by itself.</param>
    public Registration Open(Timestamp lastKnown, bool isBounded)
    {
        lock (_gate)
        {
            // Two that read the last known timestamp side by side may come the other way round.
            LinkedListNode<(Timestamp At, bool IsBounded)>? after = _open.Last;
            while (after is not null && after.Value.At > lastKnown)
                after = after.Previous;
            return new Registration(this, after is null ? _open.AddFirst((lastKnown, isBounded)) : _open.AddAfter(after, (lastKnown, isBounded)));
        }
    }

    internal sealed class Registration(OpenSnapshots owner, LinkedListNode<(Timestamp At, bool IsBounded)> node) : IDisposable
    {
        public void Dispose()
        {
            lock (owner._gate)
            {
                if (node.List is not null)
                    owner._open.Remove(node);
            }
        }
    }
}
