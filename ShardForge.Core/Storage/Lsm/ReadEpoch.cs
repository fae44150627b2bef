using System.Runtime.InteropServices;

namespace ShardForge.Storage.Lsm;

/// <summary>Lets readers use shared memory without counting references: what was unlinked is given back when nobody can be reading it any more.</summary>
/// <remarks><code>
/// using ReadEpoch epoch = ReadEpoch.Enter();      // what is reachable from now on stays until the end of the scope
/// </code>
/// Epoch-based reclamation (Fraser, "Practical lock-freedom", 2004), with an asymmetric fence as in user-space RCU:
/// 1. A reader stores the present epoch in its thread's slot, a line that only this thread writes, and then loads shared pointers.
/// 2. Who unlinks something afterwards raises the epoch; the thing is stamped with the raised value.
/// 3. A process-wide barrier, then a look at all slots: every reader whose store is not seen yet loads its pointers after the barrier, so after the
///    unlinking. What is stamped at or below the smallest epoch in a slot is reachable by nobody.
/// The reader pays two stores and no fence. Scopes nest (a caller's buffer writer may read again); the outermost one counts. A reader that stays long holds back
/// memory, never a writer. Kept per process, since that is what the barrier and a thread's slot are.
/// <para>What is retired goes as soon as it is safe: in <see cref="Retire"/>, or on the pool as the reader leaves that was in the way; a reader is never held up by it.</para></remarks>
internal readonly unsafe ref struct ReadEpoch
{
    /// <summary>Two cache lines, so that neighbours are not fetched in pairs.</summary>
    private const int SlotBytes = 128;

    private static readonly Lock s_gate = new();
    private static readonly List<nint> s_slots = [];                                  // never freed: there are as many as threads were at once
    private static readonly Stack<int> s_freeSlots = new();
    private static readonly Queue<(long Stamp, IRetired Item)> s_retired = new();
    private static readonly Collector s_collector = new();
    private static int s_isCollectQueued;
    private static long s_epoch = 1;
    private static long s_waitingStamp;                                               // of the first that is retired and not yet safe; 0: none

    [ThreadStatic]
    private static Slot* s_threadSlot;

    [ThreadStatic]
    private static SlotOwner? s_threadOwner;

    private readonly Slot* _slot;                                                     // null: an inner scope

    private ReadEpoch(Slot* slot) => _slot = slot;

    /// <summary>Small number of this thread that no other living thread has: for counters of its own.</summary>
    public static int ThreadNumber => (s_threadSlot == null ? Register() : s_threadSlot)->Number;

    public static ReadEpoch Enter()
    {
        Slot* slot = s_threadSlot;
        if (slot == null)
            slot = Register();
        if (slot->Epoch != 0)
            return default;
        Volatile.Write(ref slot->Epoch, Volatile.Read(ref s_epoch));
        return new ReadEpoch(slot);
    }

    public void Dispose()
    {
        if (_slot == null)
            return;
        long epoch = _slot->Epoch;
        Volatile.Write(ref _slot->Epoch, 0);

        // Only a reader that may have been in the way looks, so that one that stays long does not make all others look.
        if (epoch < Volatile.Read(ref s_waitingStamp) && Interlocked.Exchange(ref s_isCollectQueued, 1) == 0)
            ThreadPool.UnsafeQueueUserWorkItem(s_collector, preferLocal: false);
    }

    /// <summary>The stamp of all that was unlinked before the call.</summary>
    public static long Stamp() => Interlocked.Increment(ref s_epoch);

    /// <summary>What is stamped at or below the result cannot be reached any more. Costs a barrier over all processors.</summary>
    public static long SafeStamp()
    {
        lock (s_gate)
            return SafeStampLocked();
    }

    /// <summary>Hands over what was unlinked before the call.</summary>
    public static void Retire(IRetired item)
    {
        lock (s_gate)
            s_retired.Enqueue((Stamp(), item));
        Collect();
    }

    /// <summary>Gives back what is safe by now.</summary>
    private static void Collect()
    {
        while (true)
        {
            IRetired item;
            lock (s_gate)
            {
                if (!s_retired.TryPeek(out (long Stamp, IRetired Item) first))
                {
                    Volatile.Write(ref s_waitingStamp, 0);
                    return;
                }

                // Before the look at the slots: whoever is seen there sees this as it leaves.
                Volatile.Write(ref s_waitingStamp, first.Stamp);
                if (SafeStampLocked() < first.Stamp)
                    return;
                item = s_retired.Dequeue().Item;
            }

            item.OnUnreachable();
        }
    }

    private static long SafeStampLocked()
    {
        long safe = Volatile.Read(ref s_epoch);
        Interlocked.MemoryBarrierProcessWide();
        foreach (nint address in CollectionsMarshal.AsSpan(s_slots))
        {
            long epoch = Volatile.Read(ref ((Slot*)address)->Epoch);
            if (epoch != 0 && epoch < safe)
                safe = epoch;
        }

        return safe;
    }

    private static Slot* Register()
    {
        lock (s_gate)
        {
            if (!s_freeSlots.TryPop(out int number))
            {
                number = s_slots.Count;
                Slot* made = (Slot*)NativeMemory.AlignedAlloc(SlotBytes, SlotBytes);
                *made = new Slot { Number = number };
                s_slots.Add((nint)made);
            }

            s_threadOwner = new SlotOwner(number);
            return s_threadSlot = (Slot*)s_slots[number];
        }
    }

    [StructLayout(LayoutKind.Explicit, Size = SlotBytes)]
    private struct Slot
    {
        [FieldOffset(0)]
        public long Epoch;       // 0: not reading

        [FieldOffset(8)]
        public int Number;
    }

    private sealed class Collector : IThreadPoolWorkItem
    {
        public void Execute()
        {
            // Before the look: a reader that leaves from now on queues it again.
            Volatile.Write(ref s_isCollectQueued, 0);
            Collect();
        }
    }

    /// <summary>Only its thread refers to it: when that has ended, the slot goes to another thread.</summary>
    private sealed class SlotOwner(int number)
    {
        ~SlotOwner()
        {
            lock (s_gate)
            {
                ((Slot*)s_slots[number])->Epoch = 0;
                s_freeSlots.Push(number);
            }
        }
    }
}

/// <summary>What is given back when no reader can reach it any more.</summary>
internal interface IRetired
{
    /// <summary>Called once, on any thread, under no latch. Never fails: there is nobody to tell.</summary>
    void OnUnreachable();
}
