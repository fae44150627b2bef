namespace ShardForge.Consensus.NodeLog;

/// <summary>Lays out one batch: the records that go to the disk with one write and one flush. Format: <see cref="LogFormat"/>.</summary>
/// <remarks>The buffer is kept from batch to batch. Used by the log thread only.</remarks>
internal sealed class LogBatch
{
    /// <summary>With less room than this, no part of a long record is placed.</summary>
    public const int PartRoomBytes = PartBytesMin + LogFormat.RecordHeaderBytes + LogFormat.FragmentHeadBytes;

    private const int PartBytesMin = 512;
    private byte[] _buffer = new byte[16 * LogFormat.BlockBytes];
    private LogSegment? _segment;
    private long _offset;
    private LogPoint _durable;
    private int _bytes, _bytesMax;

    /// <summary>Records, or parts of one that was cut, in the order of the disk.</summary>
    public List<PendingRecord> Placed { get; } = [];

    public bool IsEmpty => _bytes == LogFormat.PromiseBytes;

    /// <summary>Bytes that still fit.</summary>
    public int RoomBytes => (int)Math.Min(_bytesMax, _segment!.Bytes - _offset) - _bytes;

    /// <summary>Bytes that still fit into the segment.</summary>
    public long SegmentRoomBytes => _segment!.Bytes - _offset - _bytes;

    /// <summary>Starts a batch at a boundary with room for at least one block.</summary>
    public void Begin(LogSegment segment, long offset, LogPoint durable, int bytesMax)
    {
        Invariant.Require(offset % LogFormat.BlockBytes == 0 && offset + LogFormat.BlockBytes <= segment.Bytes);
        // Recovery zeroes no further than this behind a torn batch's start.
        Invariant.Require(bytesMax <= segment.BatchBytesMax);
        Placed.Clear();
        _bytesMax = bytesMax;
        _segment = segment;
        _offset = offset;
        _durable = durable;
        _bytes = LogFormat.PromiseBytes;
    }

    /// <summary>Adds a whole record. False: it does not fit.</summary>
    public bool TryPlace(PendingRecord record)
    {
        int recordBytes = LogFormat.RecordHeaderBytes + record.BodyBytes;
        if (recordBytes > RoomBytes)
            return false;
        Span<byte> target = Reserve(recordBytes);
        record.CopyBody(0, target[LogFormat.RecordHeaderBytes..]);
        record.Place = Seal(target, record.Owner.Replica, record.Kind);
        Placed.Add(record);
        return true;
    }

    /// <summary>Adds the next part of a long record. 0: not even a small part fits.</summary>
    public int PlacePart(ref PendingRecord record, int partBytesMax)
    {
        int left = record.BodyBytes - record.FragmentedBytes;
        const int headBytes = LogFormat.RecordHeaderBytes + LogFormat.FragmentHeadBytes;
        int part = Math.Min(Math.Min(left, partBytesMax), RoomBytes - headBytes);
        if (part < Math.Min(left, PartBytesMin))
            return 0;
        Span<byte> target = Reserve(headBytes + part);
        LogBody.WriteFragmentHead(target[LogFormat.RecordHeaderBytes..], record.BodyBytes, record.FragmentedBytes, record.Kind);
        record.CopyBody(record.FragmentedBytes, target[headBytes..]);
        record.FragmentedBytes += part;
        record.Parts ??= [];
        record.Parts.Add(Seal(target, record.Owner.Replica, LogRecordKind.Fragment));
        if (record.FragmentedBytes == record.BodyBytes)
        {
            record.Place = record.Parts[0];
            Placed.Add(record);
        }

        return part;
    }

    /// <summary>The batch with its promise, filled up with zeros to a multiple of a block.</summary>
    public ReadOnlySpan<byte> Finish()
    {
        LogFormat.WritePromise(_buffer, _segment!.Seed, _offset, new LogPromise(_durable, _bytes));
        int padded = (int)LogFormat.AlignUp(_bytes);
        Grow(padded);
        _buffer.AsSpan(_bytes, padded - _bytes).Clear();
        return _buffer.AsSpan(0, padded);
    }

    private LogPlace Seal(Span<byte> target, ReplicaId replica, LogRecordKind kind)
    {
        long at = _offset + _bytes - target.Length;
        LogFormat.SealRecord(target, _segment!.Seed, at, replica, kind);
        return new LogPlace(_segment, at, target.Length);
    }

    private Span<byte> Reserve(int bytes)
    {
        Grow(_bytes + bytes);
        Span<byte> target = _buffer.AsSpan(_bytes, bytes);
        _bytes += bytes;
        return target;
    }

    private void Grow(int bytes)
    {
        if (bytes > _buffer.Length)
            Array.Resize(ref _buffer, (int)LogFormat.AlignUp(Math.Max(bytes, Math.Min(_bytesMax, 2 * _buffer.Length))));
    }
}
