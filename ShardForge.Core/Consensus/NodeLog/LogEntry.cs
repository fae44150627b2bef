namespace ShardForge.Consensus.NodeLog;

/// <summary>An entry as its replica's log knows it: always its place in the group's log, its bytes as long as they are cached.</summary>
/// <remarks>Guarded by its replica's lock; the places are written by the log thread before the entry is durable, and read only after.</remarks>
internal sealed class LogEntry(ReplicaLog owner, LogIndex index, Term term, RaftEntryKind kind, int payloadBytes)
{
    public ReplicaLog Owner { get; } = owner;

    public LogIndex Index { get; } = index;

    public Term Term { get; } = term;

    public RaftEntryKind Kind { get; } = kind;

    public int PayloadBytes { get; } = payloadBytes;

    /// <summary>The payload while <see cref="IsCached"/>.</summary>
    public ReadOnlyMemory<byte> Payload { get; private set; }

    public bool IsCached { get; private set; }

    /// <summary>Compacted or truncated: the replica's log does not have it any more.</summary>
    public bool IsDropped { get; private set; }

    public bool IsDurable { get; set; }

    /// <summary>Number of the replica's record that carries it; waiting for that number is waiting for the entry.</summary>
    public long Ticket { get; init; }

    /// <summary>Where its record lies; the first part of one that was cut.</summary>
    public LogPlace Place { get; private set; }

    /// <summary>All parts of one that was cut (R36); null: it is in one piece.</summary>
    public LogPlace[]? Parts { get; private set; }

    public int BodyBytes => LogFormat.EntryHeadBytes + PayloadBytes;

    public void SetPlace(LogPlace place, LogPlace[]? parts)
    {
        Place = place;
        Parts = parts;
    }

    public void Cache(ReadOnlyMemory<byte> payload)
    {
        Payload = payload;
        IsCached = true;
    }

    /// <summary>Gives the bytes up.</summary>
    /// <returns>How many.</returns>
    public int Evict()
    {
        int bytes = IsCached ? PayloadBytes : 0;
        Payload = default;
        IsCached = false;
        return bytes;
    }

    public void Drop() => IsDropped = true;

    public bool LiesIn(LogSegment segment)
    {
        if (!IsDurable)
            return false;
        if (Parts is null)
            return ReferenceEquals(Place.Segment, segment);
        foreach (LogPlace part in Parts)
        {
            if (ReferenceEquals(part.Segment, segment))
                return true;
        }

        return false;
    }

    // Counts of the segments it lies in. On the log thread only.
    public void Hold()
    {
        foreach (LogPlace part in Parts ?? [Place])
        {
            part.Segment.LiveEntryCount++;
            part.Segment.LiveBytes += part.RecordBytes;
        }
    }

    public void Release()
    {
        foreach (LogPlace part in Parts ?? [Place])
        {
            part.Segment.LiveEntryCount--;
            part.Segment.LiveBytes -= part.RecordBytes;
            Invariant.Check(part.Segment.LiveEntryCount >= 0);
        }
    }
}

/// <summary>A record on its way to the disk.</summary>
internal struct PendingRecord
{
    public required ReplicaLog Owner { get; init; }

    public required LogRecordKind Kind { get; init; }

    /// <summary>Counts the records of one replica; they are written, and become durable, in this order.</summary>
    public required long Ticket { get; init; }

    /// <summary>The entry it carries; its body is encoded from it unless it is rewritten.</summary>
    public LogEntry? Entry { get; init; }

    /// <summary>The encoded body of every other kind.</summary>
    public byte[]? Body { get; init; }

    /// <summary>Entries that nobody needs once this record is durable.</summary>
    public IReadOnlyList<LogEntry>? Released { get; init; }

    /// <summary>How much of the body has gone out in fragments.</summary>
    public int FragmentedBytes { get; set; }

    /// <summary>Where they lie.</summary>
    public List<LogPlace>? Parts { get; set; }

    /// <summary>Where the record lies once it was placed.</summary>
    public LogPlace Place { get; set; }

    public readonly int BodyBytes => Body?.Length ?? Entry!.BodyBytes;

    /// <summary>Copies a part of the body.</summary>
    public readonly void CopyBody(int at, Span<byte> target)
    {
        if (Body is not null)
        {
            Body.AsSpan(at, target.Length).CopyTo(target);
            return;
        }

        LogEntry entry = Entry!;
        if (at < LogFormat.EntryHeadBytes)
        {
            Span<byte> head = stackalloc byte[LogFormat.EntryHeadBytes];
            LogBody.WriteEntryHead(head, entry.Index, entry.Term, entry.Kind);
            int count = Math.Min(target.Length, LogFormat.EntryHeadBytes - at);
            head.Slice(at, count).CopyTo(target);
            target = target[count..];
            at += count;
        }

        entry.Payload.Span.Slice(at - LogFormat.EntryHeadBytes, target.Length).CopyTo(target);
    }
}
