using ShardForge.Common;

namespace ShardForge.Consensus.NodeLog;

/// <summary>Reads a log from its files and decides where it ends (R29). Changes nothing on disk; <see cref="LogRepair"/> does, once nothing can refuse the open any more.</summary>
/// <remarks>
/// Batches are read one after the other, through all segments, up to the first boundary without a whole valid batch: the break.
/// <code>
/// there is an end file                      → the break must be exactly there, else damage
/// the next segment starts with a promise
///   that names the break                    → that segment was begun here: reading goes on in it
/// a later boundary, here or in any later
///   segment, has a promise beyond the break → damage: what is missing was durable
/// otherwise                                 → the torn tail of a batch nobody was told of: cut off
/// </code>
/// A whole batch counts or none of it. The last batch may have come from the operating system's cache after a failed flush: it is written again
/// before anything relies on it.</remarks>
internal sealed class LogRecovery : IDisposable
{
    private readonly string _directory;
    private readonly Dictionary<ReplicaId, RecoveredReplica> _replicas = [];

    private LogRecovery(string directory) => _directory = directory;

    /// <summary>Segments of the log, the last one current.</summary>
    public List<LogSegment> Segments { get; private set; } = [];

    /// <summary>A segment behind the current one, empty; null: there is none.</summary>
    public LogSegment? Ready { get; private set; }

    /// <summary>More of them, which a crash may have left.</summary>
    public List<LogSegment> Surplus { get; } = [];

    public bool HasEndFile { get; private set; }

    /// <summary>Where the log goes on.</summary>
    public LogPoint End { get; private set; }

    /// <summary>End of the last batch: the same place, or the end of the segment before where the log goes on at the start of one.</summary>
    public LogPoint Durable { get; private set; }

    /// <summary>Start of the last batch, which no promise covers; null: there is none such.</summary>
    public LogPoint? Unpromised { get; private set; }

    public byte[] UnpromisedBytes { get; private set; } = [];

    public Dictionary<ReplicaId, LogSegment> RemovedIds { get; } = [];

    public IEnumerable<RecoveredReplica> Replicas => _replicas.Values.Where(static replica => !replica.IsRemoved);

    /// <summary>Null: there is no log in the directory.</summary>
    public static LogRecovery? Read(LogSegmentStore store)
    {
        LogRecovery recovery = new(store.Directory);
        List<LogSegment> segments = store.OpenAll();
        if (segments.Count == 0)
        {
            if (LogEndFile.Exists(store.Files, store.Directory))
                throw new CorruptionException(store.Directory, 0, "there is the end of a log and no segment.");
            return null;
        }

        try
        {
            LogPoint? end = LogEndFile.Read(store.Files, store.Directory, segments[0].LogId);
            recovery.HasEndFile = end is not null;
            recovery.ReadBatches(segments, end);
            foreach (RecoveredReplica replica in recovery._replicas.Values)
                replica.Complete(store.Directory);
            return recovery;
        }
        catch
        {
            segments.ForEach(static segment => segment.Dispose());
            throw;
        }
    }

    /// <summary>Closes the segments; only where nobody took them over.</summary>
    public void Dispose()
    {
        Segments.ForEach(static segment => segment.Dispose());
        Ready?.Dispose();
        Surplus.ForEach(static segment => segment.Dispose());
    }

    private void ReadBatches(List<LogSegment> segments, LogPoint? end)
    {
        int at = 0;
        Durable = new(segments[0].Number, LogFormat.HeaderBytes);
        while (true)
        {
            LogBatchReader reader = new(segments[at]);
            LogPoint broken = ReadSegment(reader, isFirst: at == 0, end);
            if (end is not null && broken < end.Value && (broken.Segment == end.Value.Segment || at + 1 == segments.Count))
                throw Damage(segments[at], broken, $"the log was closed at offset {end.Value.Offset:N0} of segment {end.Value.Segment}");
            End = broken;
            if (broken == end)
                break;
            if (at + 1 < segments.Count && new LogBatchReader(segments[at + 1]).TryReadPromise(LogFormat.HeaderBytes, out LogPromise promise) && promise.Durable == broken)
            {
                Durable = broken;
                at++;
                continue;
            }

            if (FindPromiseBeyond(segments, at, broken) is { } later)
                throw Damage(segments[at], broken, $"the batch at offset {later.Offset:N0} of segment {later.Segment} promises that it was durable");
            break;
        }

        if (end is not null)
        {
            if (End != end)
                throw Damage(segments[at], End, $"the log was closed at offset {end.Value.Offset:N0} of segment {end.Value.Segment}");
            Unpromised = null;
        }

        Segments = segments.GetRange(0, at + 1);
        Ready = at + 1 < segments.Count ? segments[at + 1] : null;
        Surplus.AddRange(segments.Skip(at + 2));
        if (Unpromised is { } last)
            UnpromisedBytes = new LogBatchReader(segments[at]).ReadPadded(last.Offset, (int)(End.Offset - last.Offset));
    }

    // Applies the batches of a segment. Returns its break: the boundary behind the last one.
    private LogPoint ReadSegment(LogBatchReader reader, bool isFirst, LogPoint? end)
    {
        LogSegment segment = reader.Segment;
        LogPoint at = new(segment.Number, LogFormat.HeaderBytes);
        Unpromised = null;
        while (at != end && reader.TryReadBatch(at.Offset, out LogPromise promise, out ReadOnlySpan<byte> batch))
        {
            // The first batch of the oldest segment names the end of one that is gone.
            if (promise.Durable != Durable && !(isFirst && at.Offset == LogFormat.HeaderBytes && promise.Durable.Segment == segment.Number - 1))
                throw new CorruptionException(segment.Path, at.Offset, $"the batch names {promise.Durable} as what was durable before it; the log has {Durable}.");
            Apply(segment, at.Offset, batch);
            Unpromised = at;
            at = Durable = new LogPoint(segment.Number, at.Offset + LogFormat.AlignUp(promise.BatchBytes));
        }

        return at;
    }

    private void Apply(LogSegment segment, long offset, ReadOnlySpan<byte> batch)
    {
        for (int at = LogFormat.PromiseBytes; at < batch.Length;)
        {
            LogFormat.TryReadRecord(batch[at..], segment.Seed, offset + at, out LogRecordView record, out _);
            LogPlace place = new(segment, offset + at, record.RecordBytes);
            if (record.Kind == LogRecordKind.RemovedIds && record.Replica.IsNone)
                ApplyRemovedIds(record, place);
            else
                ApplyRecord(record, place);
            at += record.RecordBytes;
        }
    }

    private void ApplyRecord(in LogRecordView record, LogPlace place)
    {
        if (!_replicas.TryGetValue(record.Replica, out RecoveredReplica? replica))
            _replicas.Add(record.Replica, replica = new RecoveredReplica(record.Replica));
        replica.Apply(record, place);
        if (replica.IsRemoved)
            RemovedIds[record.Replica] = replica.StateSegment!;
    }

    private void ApplyRemovedIds(in LogRecordView record, LogPlace place)
    {
        if (record.Body.Length % 8 != 0)
            throw new CorruptionException(place.Segment.Path, place.Offset, $"ids of removed replicas have {record.Body.Length:N0} bytes.");
        for (int i = 0; i < record.Body.Length / 8; i++)
            RemovedIds[LogBody.ReadRemovedId(record.Body, i)] = place.Segment;
    }

    private static LogPoint? FindPromiseBeyond(List<LogSegment> segments, int at, LogPoint broken)
    {
        for (; at < segments.Count; at++)
        {
            LogSegment segment = segments[at];
            LogBatchReader reader = new(segment);
            long first = segment.Number == broken.Segment ? broken.Offset + LogFormat.BlockBytes : LogFormat.HeaderBytes;
            for (long offset = first; offset < segment.Bytes; offset += LogFormat.BlockBytes)
            {
                if (reader.TryReadPromise(offset, out LogPromise promise) && promise.Durable > broken)
                    return new LogPoint(segment.Number, offset);
            }
        }

        return null;
    }

    private CorruptionException Damage(LogSegment segment, LogPoint broken, string why) => new(segment.Path, broken.Offset,
        $"no whole batch is here, and {why}. The node log in {_directory} was left as it is: restore the disk, or let the node join again as a replacement.");
}

/// <summary>Reads batches of one segment through a window over the file.</summary>
internal sealed class LogBatchReader(LogSegment segment)
{
    private const int WindowBytes = 1024 * 1024;
    private byte[] _window = [];
    private long _windowOffset;
    private int _windowLength;

    public LogSegment Segment => segment;

    public bool TryReadPromise(long offset, out LogPromise promise)
    {
        promise = default;
        return offset + LogFormat.BlockBytes <= segment.Bytes && LogFormat.TryReadPromise(Peek(offset, LogFormat.PromiseBytes), segment.Seed, offset, out promise);
    }

    /// <summary>Reads the batch that starts at a boundary, if it is there whole.</summary>
    public bool TryReadBatch(long offset, out LogPromise promise, out ReadOnlySpan<byte> batch)
    {
        batch = default;
        if (!TryReadPromise(offset, out promise) || offset + promise.BatchBytes > segment.Bytes)
            return false;
        batch = Peek(offset, promise.BatchBytes);
        int at = LogFormat.PromiseBytes;
        while (at < batch.Length)
        {
            if (!LogFormat.TryReadRecord(batch[at..], segment.Seed, offset + at, out LogRecordView record, out _))
                return false;
            at += record.RecordBytes;
        }

        return at == batch.Length && batch.Length == promise.BatchBytes;
    }

    /// <summary>Copies a batch with its zeros.</summary>
    public byte[] ReadPadded(long offset, int bytes) => Peek(offset, bytes).ToArray();

    private ReadOnlySpan<byte> Peek(long offset, int bytes)
    {
        if (offset < _windowOffset || offset + bytes > _windowOffset + _windowLength)
        {
            int wanted = (int)Math.Min(Math.Max(bytes, WindowBytes), segment.Bytes - offset);
            if (_window.Length < wanted)
                _window = new byte[wanted];
            _windowLength = segment.File.Read(_window.AsSpan(0, wanted), offset);
            _windowOffset = offset;
        }

        int start = (int)(offset - _windowOffset);
        return _window.AsSpan(start, Math.Min(bytes, _windowLength - start));
    }
}
