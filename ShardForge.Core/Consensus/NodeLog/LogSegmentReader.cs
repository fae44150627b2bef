using ShardForge.Common;

namespace ShardForge.Consensus.NodeLog;

/// <summary>Reads entries back from segments; every record is checked again.</summary>
/// <remarks>Any thread. The caller has pinned the segments.</remarks>
internal static class LogSegmentReader
{
    private const int RunBytesMax = 1024 * 1024, GapBytesMax = 16 * 1024;

    /// <summary>Reads the payload of a durable entry.</summary>
    public static ReadOnlyMemory<byte> ReadEntry(LogEntry entry)
    {
        ReadOnlyMemory<byte>[] payload = new ReadOnlyMemory<byte>[1];
        ReadEntries([new LogReadRequest(entry, entry.Place, entry.Parts, 0)], (_, bytes) => payload[0] = bytes);
        return payload[0];
    }

    /// <summary>Reads many: neighbours in one segment with one call of the file.</summary>
    public static void ReadEntries(List<LogReadRequest> requests, Action<int, ReadOnlyMemory<byte>> found)
    {
        for (int i = 0; i < requests.Count;)
        {
            LogReadRequest request = requests[i];
            if (request.Parts is not null)
            {
                found(request.Position, ReadParts(request));
                i++;
                continue;
            }

            int end = i + 1;
            long runEnd = request.Place.Offset + request.Place.RecordBytes;
            for (; end < requests.Count && requests[end].Parts is null; end++)
            {
                LogPlace next = requests[end].Place;
                if (!ReferenceEquals(next.Segment, request.Place.Segment) || next.Offset < runEnd || next.Offset > runEnd + GapBytesMax ||
                    next.Offset + next.RecordBytes - request.Place.Offset > RunBytesMax)
                    break;
                runEnd = next.Offset + next.RecordBytes;
            }

            byte[] run = ReadBytes(request.Place.Segment, request.Place.Offset, (int)(runEnd - request.Place.Offset));
            for (; i < end; i++)
            {
                LogPlace place = requests[i].Place;
                Memory<byte> record = run.AsMemory((int)(place.Offset - request.Place.Offset), place.RecordBytes);
                LogRecordView view = Check(record.Span, place, requests[i].Entry.Owner.Replica);
                CheckEntry(view.Kind, view.Body, requests[i].Entry, place);
                found(requests[i].Position, record[(LogFormat.RecordHeaderBytes + LogFormat.EntryHeadBytes)..]);
            }
        }
    }

    private static ReadOnlyMemory<byte> ReadParts(LogReadRequest request)
    {
        byte[] body = new byte[request.Entry.BodyBytes];
        LogRecordKind kind = default;
        int done = 0;
        foreach (LogPlace place in request.Parts!)
        {
            byte[] record = ReadBytes(place.Segment, place.Offset, place.RecordBytes);
            LogRecordView view = Check(record, place, request.Entry.Owner.Replica);
            if (view.Kind != LogRecordKind.Fragment || !LogBody.TryReadFragment(view.Body, out int totalBytes, out int at, out kind) || totalBytes != body.Length || at != done)
                throw new CorruptionException(place.Segment.Path, place.Offset, $"a part of entry {request.Entry.Index} of {request.Entry.Owner.Replica} at {done:N0} was written here.");
            view.Body[LogFormat.FragmentHeadBytes..].CopyTo(body.AsSpan(done));
            done += view.Body.Length - LogFormat.FragmentHeadBytes;
        }

        CheckEntry(kind, body, request.Entry, request.Place);
        return body.AsMemory(LogFormat.EntryHeadBytes);
    }

    private static byte[] ReadBytes(LogSegment segment, long offset, int bytes)
    {
        byte[] buffer = new byte[bytes];
        int read = segment.File.Read(buffer, offset);
        return read == bytes ? buffer : throw new CorruptionException(segment.Path, offset + read, "the file ends inside a record.");
    }

    private static LogRecordView Check(ReadOnlySpan<byte> record, LogPlace place, ReplicaId replica)
    {
        if (!LogFormat.TryReadRecord(record, place.Segment.Seed, place.Offset, out LogRecordView view, out LogRecordFault fault))
            throw new CorruptionException(place.Segment.Path, place.Offset, $"record of {replica}: the {(fault == LogRecordFault.Length ? "length" : "CRC-32C")} does not fit.");
        if (view.Replica != replica || view.RecordBytes != place.RecordBytes)
            throw new CorruptionException(place.Segment.Path, place.Offset, $"a record of {replica} with {place.RecordBytes:N0} bytes was written here; this one is of {view.Replica} with {view.RecordBytes:N0}.");
        return view;
    }

    private static void CheckEntry(LogRecordKind kind, ReadOnlySpan<byte> body, LogEntry entry, LogPlace place)
    {
        if (kind is not (LogRecordKind.Entry or LogRecordKind.RewrittenEntry) || !LogBody.TryReadEntry(body, out LogIndex index, out Term term, out _) ||
            index != entry.Index || term != entry.Term || body.Length != entry.BodyBytes)
            throw new CorruptionException(place.Segment.Path, place.Offset, $"entry {entry.Index} of term {entry.Term} of {entry.Owner.Replica} was written here.");
    }
}

/// <summary>An entry to read, with the places it had when its replica's lock was held.</summary>
internal readonly record struct LogReadRequest(LogEntry Entry, LogPlace Place, LogPlace[]? Parts, int Position);
