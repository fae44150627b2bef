using System.Buffers;

namespace ShardForge.Consensus.NodeLog;

/// <summary>One replica as recovery puts it together, record by record.</summary>
/// <remarks>
/// The log may begin in the middle of a replica's life: what is older was dropped, or stands further on as carried state and rewritten entries.
/// So until its state is told, a replica's first index is unknown, and holes may be filled later. At the end there must be none.
/// </remarks>
internal sealed class RecoveredReplica(ReplicaId replica)
{
    private bool _isTold;                                                   // created or carried: the state is whole
    private long? _last;
    private LogFragments? _fragments;

    public ReplicaId Replica => replica;

    public Term Term { get; private set; }

    public ReplicaId VotedFor { get; private set; }

    public long CompactedIndex { get; private set; }

    public Term CompactedTerm { get; private set; }

    public byte[] CompactedConfiguration { get; private set; } = [];

    public long Generation { get; private set; }

    public byte[] Descriptor { get; private set; } = [];

    public bool IsRemoved { get; private set; }

    public LogSegment? StateSegment { get; private set; }

    public long LastIndex => _last ?? CompactedIndex;

    public Dictionary<long, RecoveredEntry> Entries { get; } = [];

    /// <summary>Takes a record in. <see cref="CorruptionException"/> where it does not follow from those before it.</summary>
    public void Apply(in LogRecordView record, LogPlace place)
    {
        if (record.Kind == LogRecordKind.Fragment)
        {
            ApplyFragment(record, place);
            return;
        }

        // A record between the parts of another means that the rest of those was cut off: they are void (R29).
        _fragments = null;
        Apply(record.Kind, record.Body, place, parts: null);
    }

    /// <summary>At the end of the log: nothing may be missing.</summary>
    public void Complete(string directory)
    {
        if (IsRemoved)
            return;
        if (!_isTold)
            throw new CorruptionException(directory, 0, $"the log has records of replica {replica}, and none that tells its state.");
        for (long index = CompactedIndex + 1; index <= LastIndex; index++)
        {
            if (!Entries.ContainsKey(index))
                throw new CorruptionException(directory, 0, $"entry {index} of replica {replica} is missing; the log has {CompactedIndex + 1} to {LastIndex}.");
        }

        if (LastIndex > CompactedIndex && Entries[LastIndex].Term > Term)
            throw new CorruptionException(directory, 0, $"the last entry of replica {replica} has term {Entries[LastIndex].Term}, its hard state {Term}.");
    }

    private static CorruptionException Wrong(LogPlace place, string reason) => new(place.Segment.Path, place.Offset, reason);

    private void ApplyFragment(in LogRecordView record, LogPlace place)
    {
        if (!LogBody.TryReadFragment(record.Body, out int totalBytes, out int at, out LogRecordKind kind))
            throw Wrong(place, $"a part of a record of {replica} cannot be read.");
        ReadOnlySpan<byte> part = record.Body[LogFormat.FragmentHeadBytes..];
        if (at == 0)
            _fragments = new LogFragments(totalBytes, kind);
        else if (_fragments is null && _last is null && !_isTold)
            return;                                                         // its beginning was dropped with an older segment
        if (_fragments is null || !_fragments.TryAdd(totalBytes, at, kind, part, place))
            throw Wrong(place, $"a part at {at:N0} of a record of {replica} does not follow the part before it.");
        if (!_fragments.IsComplete)
            return;
        LogFragments whole = _fragments;
        _fragments = null;
        Apply(kind, whole.Body, whole.Parts[0], [.. whole.Parts]);
    }

    private void Apply(LogRecordKind kind, ReadOnlySpan<byte> body, LogPlace place, LogPlace[]? parts)
    {
        bool isRead;
        if (IsRemoved)
            throw Wrong(place, $"a record of replica {replica}, which was removed before.");
        switch (kind)
        {
            case LogRecordKind.Entry or LogRecordKind.RewrittenEntry:
                isRead = LogBody.TryReadEntry(body, out LogIndex index, out Term term, out RaftEntryKind entryKind);
                if (isRead)
                    ApplyEntry(kind, index.Value, new RecoveredEntry(term, entryKind, body.Length - LogFormat.EntryHeadBytes, place, parts,
                        entryKind == RaftEntryKind.Configuration ? body[LogFormat.EntryHeadBytes..].ToArray() : null));
                break;
            case LogRecordKind.HardState:
                isRead = LogBody.TryReadHardState(body, out Term hardTerm, out ReplicaId votedFor);
                if (isRead)
                    RaiseHardState(hardTerm, votedFor, place);
                break;
            case LogRecordKind.Truncation:
                isRead = LogBody.TryReadTruncation(body, out LogIndex lastKept);
                if (isRead)
                    Truncate(lastKept.Value, place);
                break;
            case LogRecordKind.CompactionMark:
                isRead = LogBody.TryReadCompactionMark(body, out LogIndex markIndex, out Term markTerm, out byte[] markConfiguration);
                if (isRead)
                    Compact(markIndex.Value, markTerm, markConfiguration);
                break;
            case LogRecordKind.ReplicaCreated:
                isRead = LogBody.TryReadReplicaCreated(body, out byte[] descriptor, out byte[] configuration);
                if (isRead)
                    Create(descriptor, configuration, place);
                break;
            case LogRecordKind.ReplicaRemoved:
                isRead = true;
                IsRemoved = true;
                StateSegment = place.Segment;
                Entries.Clear();
                break;
            case LogRecordKind.Generation:
                isRead = LogBody.TryReadGeneration(body, out LogIndex snapshotIndex, out Term snapshotTerm, out long generation, out bool keepsTail, out byte[] snapshotConfiguration);
                if (isRead)
                    Reset(snapshotIndex.Value, snapshotTerm, snapshotConfiguration, generation, keepsTail);
                break;
            case LogRecordKind.CarriedState:
                isRead = LogBody.TryReadCarriedState(body, out LogCarriedState state);
                if (isRead)
                    Carry(state, place);
                break;
            default:
                throw new ConfigurationException("DataDirectory",
                    $"{place.Segment.Path} has a record of kind {(int)kind} at offset {place.Offset:N0}, which this build does not know. Nothing was changed.");
        }

        if (!isRead)
            throw Wrong(place, $"a record of kind {kind} of replica {replica} has {body.Length:N0} bytes.");
    }

    private void ApplyEntry(LogRecordKind kind, long index, in RecoveredEntry entry)
    {
        if (kind == LogRecordKind.RewrittenEntry)
        {
            // R30: fills its index, never truncates; at or below the mark nobody needs it.
            if (index <= CompactedIndex)
                return;
            if (Entries.TryGetValue(index, out RecoveredEntry there) && there.Term != entry.Term)
                throw Wrong(entry.Place, $"entry {index} of replica {replica} was rewritten with term {entry.Term}; it has {there.Term}.");
            if (_isTold && index > LastIndex)
                throw Wrong(entry.Place, $"entry {index} of replica {replica} was rewritten behind the end {LastIndex} of its log.");
            // It says nothing about where the log ends: later entries may have been rewritten later still.
        }
        else
        {
            if (_last is not null && index != _last + 1)
                throw Wrong(entry.Place, $"entry {index} of replica {replica} follows {_last}.");
            _last = index;
        }

        Entries[index] = entry;
    }

    // R30: the highest term counts, and a vote in it is never cleared.
    private void RaiseHardState(Term term, ReplicaId votedFor, LogPlace place)
    {
        if (term < Term)
            return;
        if (term == Term && !votedFor.IsNone && !VotedFor.IsNone && votedFor != VotedFor)
            throw Wrong(place, $"replica {replica} voted for {VotedFor} and for {votedFor} in term {term}.");
        if (term > Term || !votedFor.IsNone)
            VotedFor = votedFor;
        Term = term;
    }

    private void Truncate(long lastKept, LogPlace place)
    {
        if (lastKept < CompactedIndex)
            throw Wrong(place, $"replica {replica} is cut back to {lastKept}, below its compaction mark {CompactedIndex}.");
        for (long index = lastKept + 1; index <= _last; index++)
            Entries.Remove(index);
        _last = lastKept;
    }

    private void Compact(long index, Term term, byte[] configuration)
    {
        if (index <= CompactedIndex)
            return;
        DropUpTo(index);
        CompactedIndex = index;
        CompactedTerm = term;
        CompactedConfiguration = configuration;
        _last = _last is { } last ? Math.Max(last, index) : null;
    }

    private void Create(byte[] descriptor, byte[] configuration, LogPlace place)
    {
        if (_isTold || _last is not null)
            throw Wrong(place, $"replica {replica} is created twice.");
        _isTold = true;
        _last = 0;
        Term = new(1);
        Generation = 1;
        Descriptor = descriptor;
        CompactedConfiguration = configuration;
        StateSegment = place.Segment;
    }

    private void Reset(long index, Term term, byte[] configuration, long generation, bool keepsTail)
    {
        if (keepsTail)
            DropUpTo(index);
        else
            Entries.Clear();
        CompactedIndex = index;
        CompactedTerm = term;
        CompactedConfiguration = configuration;
        Generation = generation;
        // A tail that was kept may stand further on; where it ends is not known before the state is told.
        if (!keepsTail)
            _last = index;
    }

    private void Carry(in LogCarriedState state, LogPlace place)
    {
        RaiseHardState(state.Term, state.VotedFor, place);
        if (_last is not null && _last != state.LastIndex.Value)
            throw Wrong(place, $"the state of replica {replica} was carried with last index {state.LastIndex}; the log has {_last}.");
        _last = state.LastIndex.Value;
        if (state.CompactedIndex.Value >= CompactedIndex)
        {
            DropUpTo(state.CompactedIndex.Value);
            CompactedIndex = state.CompactedIndex.Value;
            CompactedTerm = state.CompactedTerm;
            CompactedConfiguration = state.Configuration.ToArray();
        }

        Generation = Math.Max(Generation, state.Generation);
        Descriptor = state.Descriptor.ToArray();
        StateSegment = place.Segment;
        _isTold = true;
    }

    private void DropUpTo(long index)
    {
        if (index - CompactedIndex > Entries.Count)
        {
            foreach (long dropped in Entries.Keys.Where(key => key <= index).ToArray())
                Entries.Remove(dropped);
            return;
        }

        for (long dropped = CompactedIndex + 1; dropped <= index; dropped++)
            Entries.Remove(dropped);
    }
}

/// <summary>An entry that recovery found.</summary>
internal readonly record struct RecoveredEntry(Term Term, RaftEntryKind Kind, int PayloadBytes, LogPlace Place, LogPlace[]? Parts, byte[]? Configuration);

/// <summary>Parts of one record, put together.</summary>
internal sealed class LogFragments(int totalBytes, LogRecordKind kind)
{
    private readonly ArrayBufferWriter<byte> _body = new();

    public List<LogPlace> Parts { get; } = [];

    public ReadOnlySpan<byte> Body => _body.WrittenSpan;

    public bool IsComplete => _body.WrittenCount == totalBytes;

    public bool TryAdd(int total, int at, LogRecordKind partKind, ReadOnlySpan<byte> part, LogPlace place)
    {
        if (total != totalBytes || partKind != kind || at != _body.WrittenCount)
            return false;
        _body.Write(part);
        Parts.Add(place);
        return true;
    }
}
