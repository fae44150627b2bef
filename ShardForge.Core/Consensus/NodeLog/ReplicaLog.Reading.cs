namespace ShardForge.Consensus.NodeLog;

/// <summary>Reading: recent entries from memory, others from segments, which are pinned meanwhile.</summary>
internal sealed partial class ReplicaLog
{
    public ReplicaLogLease Read(LogIndex first, LogIndex last, long bytesMax)
    {
        ReplicaLogEntry[] entries;
        List<LogReadRequest>? onDisk = null;
        lock (_gate)
        {
            CheckUsableLocked();
            if (first.Value <= _compactedIndex || last.Value > _lastIndex || first > last)
                throw new ArgumentOutOfRangeException(nameof(first), $"{first} to {last}", $"The log of {Replica} has {_compactedIndex + 1} to {_lastIndex}.");
            int count = CountLocked(first.Value, last.Value, bytesMax);
            entries = new ReplicaLogEntry[count];
            for (int i = 0; i < count; i++)
            {
                LogEntry entry = _entries[first.Value - _compactedIndex - 1 + i];
                entries[i] = new ReplicaLogEntry(entry.Term, entry.Kind, entry.Payload);
                if (!entry.IsCached)
                    (onDisk ??= []).Add(new LogReadRequest(entry, entry.Place, entry.Parts, i));
            }

            // Pinned under the lock: while an entry is here, its segment cannot have gone.
            if (onDisk is not null)
                Pin(onDisk, static segment => segment.Pin());
        }

        if (onDisk is not null)
        {
            try
            {
                LogSegmentReader.ReadEntries(onDisk, (position, payload) => entries[position] = entries[position] with { Payload = payload });
            }
            finally
            {
                Pin(onDisk, static segment => segment.Unpin());
            }
        }

        return new Lease(first, entries);
    }

    private static void Pin(List<LogReadRequest> requests, Action<LogSegment> pin)
    {
        foreach (LogReadRequest request in requests)
        {
            foreach (LogPlace part in request.Parts ?? [request.Place])
                pin(part.Segment);
        }
    }

    private int CountLocked(long first, long last, long bytesMax)
    {
        long bytes = 0;
        int count = 0;
        for (long index = first; index <= last; index++, count++)
        {
            bytes += _entries[index - _compactedIndex - 1].PayloadBytes;
            if (count > 0 && bytes > bytesMax)
                break;
        }

        return count;
    }

    // The bytes are shared with the log or were read for this lease; the collector frees them.
    private sealed class Lease(LogIndex first, ReplicaLogEntry[] entries) : ReplicaLogLease
    {
        public override LogIndex First => first;

        public override ReadOnlyMemory<ReplicaLogEntry> Entries => entries;

        public override void Dispose() { }
    }
}
