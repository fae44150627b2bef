namespace ShardForge.Consensus.NodeLog;

/// <summary>Gets rid of old segments: frees what nobody needs, and sees to it that a slow replica does not pin the disk (R30).</summary>
/// <remarks>
/// A segment may go when all that is needed in it has been dropped or lies durably further on: entries, the record that last told a replica's whole
/// state, the ids of removed replicas. Segments go oldest first. What happens to an oldest one that is still needed:
/// <code>
/// only for states and ids           → they are written again, at once
/// for entries, log over budget      → when a new segment is begun, their replicas are asked to compact; at the one after it, if less than half
///                                     of the old one is needed, that is written again; if more, writing it again would free too little
/// </code>
/// On the log thread only.</remarks>
internal sealed partial class LogWriter
{
    private readonly Dictionary<ReplicaId, LogSegment> _removedIds;
    private long _askedFor, _carriedFor;

    private void Trim()
    {
        while (_segments.Count > 1 && !_segments[0].IsNeeded && !_segments[0].HasReaders)
        {
            LogSegment oldest = _segments[0];
            _segments.RemoveAt(0);
            Volatile.Write(ref _retainedBytes, RetainedNow());
            _supply.Free(oldest);
        }

        LogSegment pinned = _segments[0];
        if (_segments.Count > 1 && pinned.LiveEntryCount == 0 && pinned.LiveStateCount > 0 && _carriedFor != pinned.Number)
        {
            _carriedFor = pinned.Number;
            CarryStates(pinned);
        }
    }

    private void OnRolled()
    {
        Volatile.Write(ref _retainedBytes, RetainedNow());
        Trim();
        LogSegment oldest = _segments[0];
        if (ReferenceEquals(oldest, _current) || oldest.LiveEntryCount == 0)
            return;
        if (_retainedBytes <= _options.RetainedBytesMax && !_supply.IsDiskFull)
            return;
        if (_askedFor == oldest.Number && oldest.LiveBytes * 2 <= oldest.Bytes)
        {
            NodeLogMessages.Rewriting(_options.Logger, _store.Directory, oldest.LiveBytes, oldest.Number);
            foreach (ReplicaLog replica in _log.AllReplicas())
                replica.RewriteEntriesIn(oldest);
            return;
        }

        _askedFor = oldest.Number;
        foreach (ReplicaLog replica in _log.AllReplicas())
        {
            if (replica.NeedsEntriesIn(oldest))
                _log.WantCompaction(replica.Replica);
        }
    }

    private void CarryStates(LogSegment oldest)
    {
        foreach (ReplicaLog replica in _log.AllReplicas())
        {
            if (ReferenceEquals(replica.StateSegment, oldest))
                replica.CarryState();
        }

        if (_removedIds.ContainsValue(oldest))
            _log.System.CarryRemovedIds(_removedIds.Keys);
    }

    // Where each replica's state, and each removed id, was told last.
    private void CountState(in PendingRecord record)
    {
        LogSegment segment = record.Place.Segment;
        switch (record.Kind)
        {
            case LogRecordKind.ReplicaCreated or LogRecordKind.CarriedState:
                MoveState(record.Owner, segment);
                break;
            case LogRecordKind.ReplicaRemoved:
                MoveState(record.Owner, to: null);
                _removedIds.Add(record.Owner.Replica, segment);
                segment.LiveStateCount++;
                break;
            case LogRecordKind.RemovedIds:
                for (int i = 0; i < record.BodyBytes / 8; i++)
                {
                    ReplicaId id = LogBody.ReadRemovedId(record.Body, i);
                    _removedIds[id].LiveStateCount--;
                    _removedIds[id] = segment;
                    segment.LiveStateCount++;
                }

                break;
        }
    }

    private static void MoveState(ReplicaLog replica, LogSegment? to)
    {
        if (replica.StateSegment is { } from)
            from.LiveStateCount--;
        if (to is not null)
            to.LiveStateCount++;
        replica.StateSegment = to;
    }
}
