namespace ShardForge.Replication;

/// <summary>What a replica keeps while it leads in one term: <c>highestRead</c>, registered writes with their latches, and what waits to be proposed (R06-R13).</summary>
/// <remarks>
/// Decides only: no clock, engine, oracle or consensus. Every member named <c>…Locked</c> wants the replica's gate; what they hand out to be completed is completed
/// outside of it.
/// <para>A write is put into the queues of all its keys in one critical section, so queues agree on the order of any two writes and no latch is waited for in a
/// circle. Fixing M and taking a place in the proposal queue are one critical section too, so versions of a key are proposed in ascending order; only a
/// validating transaction is fixed before it is queued (<see cref="Validating"/>), and it holds its keys alone.</para>
/// </remarks>
internal sealed class LeaderState(Term term, TaskCreationOptions continuations)
{
    private readonly Dictionary<byte[], KeyQueue> _queues = new(KeyComparer.Instance);
    private readonly TaskCompletionSource<bool> _serving = new(continuations);
    // Bounds what dead transactions can leave here until their locks expire.
    private const int HeardMax = 65_536;
    private readonly Dictionary<OperationId, long> _heard = [];
    private RegisteredWrite? _first;
    private int _registeredCount;
    private volatile bool _isServing, _isLost;

    public Term Term { get; } = term;

    /// <summary>Highest timestamp at which something was read here.</summary>
    public Timestamp HighestRead { get; set; }

    public RecentVersions Recent { get; } = new();

    /// <summary>Evaluated commands that are in no entry yet, in the order in which they will be proposed.</summary>
    public Queue<PendingCommand> ToPropose { get; } = new();

    /// <summary>Transactions whose M is fixed and whose reads are being validated (R16).</summary>
    public List<RegisteredWrite> Validating { get; } = [];

    /// <summary>Entries proposed and not yet applied.</summary>
    public int EntriesInFlight { get; set; }

    /// <summary>Somebody is proposing: commands that come meanwhile are left to it.</summary>
    public bool IsProposing { get; set; }

    /// <summary>Highest timestamp closed by an entry of this leader (R13).</summary>
    public Timestamp Closed { get; set; }

    /// <summary>R10: an own entry is applied and <c>highestRead</c> has started.</summary>
    public bool IsServing => _isServing && !_isLost;

    /// <summary>Another term began, or the replica stopped.</summary>
    public bool IsLost => _isLost;

    /// <summary>True once it serves, false once it is lost.</summary>
    public Task<bool> Serving => _serving.Task;

    /// <summary>No write at all is registered: a read that sees this came before those that follow.</summary>
    public bool IsIdle => Volatile.Read(ref _registeredCount) == 0;

    /// <summary>Writes from their registration to their end.</summary>
    public int RegisteredCount => Volatile.Read(ref _registeredCount);

    public void StartServingLocked(Timestamp fresh)
    {
        HighestRead = Timestamp.Later(HighestRead, fresh);
        Recent.Start(fresh);
        _isServing = true;
    }

    public void CompleteServing(bool serving) => _serving.TrySetResult(serving);

    // ---- registration and latches

    /// <summary>Registers a write, open, on its keys (R06), and queues it for them (R09).</summary>
    /// <returns>Whether it holds all of them at once.</returns>
    public bool RegisterLocked(RegisteredWrite write)
    {
        Dictionary<byte[], KeyQueue>.AlternateLookup<ReadOnlySpan<byte>> queues = _queues.GetAlternateLookup<ReadOnlySpan<byte>>();
        foreach (KeyWrite keyWrite in write.Request.Writes)
        {
            if (!queues.TryGetValue(keyWrite.Key.Span, out KeyQueue? queue))
            {
                queue = new KeyQueue(keyWrite.Key.ToArray());
                _queues.Add(queue.Key, queue);
            }

            queue.Add(write);
        }

        write.Next = _first;
        if (_first is not null)
            _first.Previous = write;
        _first = write;
        Volatile.Write(ref _registeredCount, _registeredCount + 1);
        return write.BlockedKeyCount == 0;
    }

    /// <summary>Ends latches and registration of a write.</summary>
    /// <param name="write">Registered; nothing happens if it is not any more.</param>
    /// <param name="released">Gets whom to wake.</param>
    public void RemoveLocked(RegisteredWrite write, ReleasedWaiters released)
    {
        if (write.IsRemoved)
            return;
        write.IsRemoved = true;
        Dictionary<byte[], KeyQueue>.AlternateLookup<ReadOnlySpan<byte>> queues = _queues.GetAlternateLookup<ReadOnlySpan<byte>>();
        foreach (KeyWrite keyWrite in write.Request.Writes)
        {
            KeyQueue queue = queues[keyWrite.Key.Span];
            queue.Remove(write, released.Granted);
            if (queue.IsEmpty)
                _queues.Remove(queue.Key);
        }

        if (write.Previous is null)
            _first = write.Next;
        else
            write.Previous.Next = write.Next;
        if (write.Next is not null)
            write.Next.Previous = write.Previous;
        Volatile.Write(ref _registeredCount, _registeredCount - 1);
        foreach (ReadWaiter waiter in write.Waiters ?? [])
        {
            if (--waiter.Remaining == 0)
                released.Reads.Add(waiter);
        }
    }

    public Timestamp HighestFixedLocked(ReadOnlySpan<byte> key) =>
        _queues.GetAlternateLookup<ReadOnlySpan<byte>>().TryGetValue(key, out KeyQueue? queue) ? queue.HighestFixed : default;

    /// <summary>Locks become versions at C: later writes of the keys land above it (R06).</summary>
    public void NoteResolvedLocked(RegisteredWrite write, Timestamp commit)
    {
        Invariant.Check(!write.IsRemoved && write.BlockedKeyCount == 0);
        foreach (ulong hash in write.KeyHashes)
            Recent.Note(hash, commit);
    }

    /// <summary>Fixes M. From now on reads at or above it wait.</summary>
    public void FixLocked(RegisteredWrite write, Timestamp commit)
    {
        Invariant.Check(write.CommitTimestamp.IsZero && !write.IsRemoved && write.BlockedKeyCount == 0);
        write.CommitTimestamp = commit;
        Dictionary<byte[], KeyQueue>.AlternateLookup<ReadOnlySpan<byte>> queues = _queues.GetAlternateLookup<ReadOnlySpan<byte>>();
        for (int i = 0; i < write.KeyHashes.Length; i++)
        {
            Recent.Note(write.KeyHashes[i], commit);
            KeyQueue queue = queues[write.Request.Writes[i].Key.Span];
            queue.HighestFixed = Timestamp.Later(queue.HighestFixed, commit);
        }
    }

    // ---- reads meet writes

    /// <summary>Whether any write is registered on a key.</summary>
    public bool IsRegisteredLocked(ReadOnlySpan<byte> key) => _queues.GetAlternateLookup<ReadOnlySpan<byte>>().ContainsKey(key);

    /// <summary>R08: those that a plain get waits for; null: none.</summary>
    public ReadWaiter? WaitForKeyLocked(ReadOnlySpan<byte> key)
    {
        ReadWaiter? waiter = null;
        if (_queues.GetAlternateLookup<ReadOnlySpan<byte>>().TryGetValue(key, out KeyQueue? queue))
        {
            foreach (RegisteredWrite write in queue.Writes)
                Await(ref waiter, write);
        }

        return waiter;
    }

    /// <summary>R07: those that a read at R waits for; null: none.</summary>
    public ReadWaiter? WaitForKeyLocked(ReadOnlySpan<byte> key, Timestamp readAt)
    {
        ReadWaiter? waiter = null;
        if (_queues.GetAlternateLookup<ReadOnlySpan<byte>>().TryGetValue(key, out KeyQueue? queue))
        {
            foreach (RegisteredWrite write in queue.Writes)
            {
                if (IsFixedAtOrBelow(write, readAt))
                    Await(ref waiter, write);
            }
        }

        return waiter;
    }

    /// <summary>R07: those that a scan at R waits for; null: none.</summary>
    public ReadWaiter? WaitForRangeLocked(KeyRange range, Timestamp readAt)
    {
        ReadWaiter? waiter = null;
        WaitForRangeLocked(range, readAt, ref waiter);
        return waiter;
    }

    /// <summary>R16: those that a validation at C waits for; null: none.</summary>
    public ReadWaiter? WaitForReadsLocked(IReadOnlyList<ReadOnlyMemory<byte>> keys, IReadOnlyList<KeyRange> ranges, Timestamp readAt)
    {
        ReadWaiter? waiter = null;
        Dictionary<byte[], KeyQueue>.AlternateLookup<ReadOnlySpan<byte>> queues = _queues.GetAlternateLookup<ReadOnlySpan<byte>>();
        foreach (ReadOnlyMemory<byte> key in keys)
        {
            if (!queues.TryGetValue(key.Span, out KeyQueue? queue))
                continue;
            foreach (RegisteredWrite write in queue.Writes)
            {
                if (IsFixedAtOrBelow(write, readAt))
                    Await(ref waiter, write);
            }
        }

        foreach (KeyRange range in ranges)
            WaitForRangeLocked(range, readAt, ref waiter);
        return waiter;
    }

    private void WaitForRangeLocked(KeyRange range, Timestamp readAt, ref ReadWaiter? waiter)
    {
        for (RegisteredWrite? write = _first; write is not null; write = write.Next)
        {
            if (IsFixedAtOrBelow(write, readAt) && Meets(write, range))
                Await(ref waiter, write);
        }
    }

    /// <summary>R16: another write, fixed at or below <paramref name="readAt"/>, on what a transaction read. It is above the transaction's start, so if it commits it is a conflict.</summary>
    public bool HasFixedLocked(RegisteredWrite own, Timestamp readAt)
    {
        for (RegisteredWrite? write = _first; write is not null; write = write.Next)
        {
            if (write == own || !IsFixedAtOrBelow(write, readAt))
                continue;
            foreach (ReadOnlyMemory<byte> key in own.Request.ReadKeys)
            {
                if (write.Writes(key.Span))
                    return true;
            }

            foreach (KeyRange range in own.Request.ReadRanges)
            {
                if (Meets(write, range))
                    return true;
            }
        }

        return false;
    }

    /// <summary>Lowest M that is fixed and in no entry yet; <see cref="Timestamp.Max"/>: none.</summary>
    public Timestamp LowestUnproposedLocked()
    {
        Timestamp lowest = Timestamp.Max;
        foreach (RegisteredWrite write in Validating)
            lowest = Timestamp.Earlier(lowest, write.CommitTimestamp);
        foreach (PendingCommand command in ToPropose)
        {
            if (command is RegisteredWrite { CommitTimestamp.IsZero: false } write)
                lowest = Timestamp.Earlier(lowest, write.CommitTimestamp);
        }

        return lowest;
    }

    /// <summary>Lowest M that is fixed and not applied; <see cref="Timestamp.Max"/>: none.</summary>
    public Timestamp LowestFixedLocked()
    {
        Timestamp lowest = Timestamp.Max;
        for (RegisteredWrite? write = _first; write is not null; write = write.Next)
        {
            if (!write.CommitTimestamp.IsZero)
                lowest = Timestamp.Earlier(lowest, write.CommitTimestamp);
        }

        return lowest;
    }

    // ---- owners of locks

    /// <summary>R19: when the owner of a transaction was last heard of, on this leader's clock; the counting starts with the first question.</summary>
    /// <param name="id">The transaction.</param>
    /// <param name="now">The present moment.</param>
    /// <param name="isHeard">It is the owner that speaks.</param>
    public long HeardLocked(OperationId id, long now, bool isHeard)
    {
        ref long heard = ref System.Runtime.InteropServices.CollectionsMarshal.GetValueRefOrAddDefault(_heard, id, out bool exists);
        if (!exists || isHeard)
            heard = now;
        long answer = heard;
        if (_heard.Count > HeardMax)
            ForgetOldestHeardLocked();
        return answer;
    }

    public void ForgetHeardLocked(OperationId id) => _heard.Remove(id);

    // A forgotten one is counted afresh, so its locks live a little longer.
    private void ForgetOldestHeardLocked()
    {
        long[] moments = [.. _heard.Values];
        Array.Sort(moments);
        long median = moments[moments.Length / 2];
        foreach ((OperationId id, long heard) in _heard)
        {
            if (heard <= median)
                _heard.Remove(id);
        }
    }

    // ---- the end

    /// <summary>Ends the leadership (R09): whoever waits here goes to the next leader. What waits in <see cref="ToPropose"/> is left to the caller.</summary>
    /// <param name="released">Gets whom to wake.</param>
    public void LoseLocked(ReleasedWaiters released)
    {
        if (_isLost)
            return;
        _isLost = true;
        released.Lost = this;
        for (RegisteredWrite? write = _first; write is not null; write = write.Next)
        {
            if (write.BlockedKeyCount > 0)
                released.Refused.Add(write);
            released.LostReads.AddRange(write.Waiters ?? []);
            write.Waiters = null;
        }
    }

    private static bool IsFixedAtOrBelow(RegisteredWrite write, Timestamp readAt) => !write.CommitTimestamp.IsZero && write.CommitTimestamp <= readAt;

    private static bool Meets(RegisteredWrite write, KeyRange range)
    {
        foreach (KeyWrite keyWrite in write.Request.Writes)
        {
            if (range.Contains(keyWrite.Key.Span))
                return true;
        }

        return false;
    }

    private void Await(ref ReadWaiter? waiter, RegisteredWrite write)
    {
        waiter ??= new ReadWaiter(continuations);
        waiter.Remaining++;
        (write.Waiters ??= []).Add(waiter);
    }
}
