using ShardForge.Common;

namespace ShardForge.Consensus.NodeLog;

/// <summary>One open segment file, and how many things in it are still needed.</summary>
/// <remarks>Counts belong to the log thread; readers pin a segment from any thread, always through something in it that is still needed, so a
/// segment without needed things gets no new readers.</remarks>
internal sealed class LogSegment(string path, IFile file, in LogSegmentHeader header) : IDisposable
{
    private int _readerCount;

    public string Path { get; } = path;

    public IFile File { get; } = file;

    public Guid LogId { get; } = header.LogId;

    public long Number { get; } = header.Number;

    public long Bytes { get; } = header.Bytes;

    public long StartPosition { get; } = header.StartPosition;

    /// <summary>How far behind a torn batch's start bytes of the same life can lie.</summary>
    public int BatchBytesMax { get; } = header.BatchBytesMax;

    public uint Seed { get; } = LogFormat.Seed(header.LogId, header.Number);

    /// <summary>Entries that lie here, wholly or in part, and are needed.</summary>
    public int LiveEntryCount { get; set; }

    public long LiveBytes { get; set; }

    /// <summary>Replicas whose last created or carried record lies here, and removed ids that are named here last.</summary>
    public int LiveStateCount { get; set; }

    public bool IsNeeded => LiveEntryCount > 0 || LiveStateCount > 0;

    public bool HasReaders => Volatile.Read(ref _readerCount) > 0;

    public void Pin() => Interlocked.Increment(ref _readerCount);

    public void Unpin() => Interlocked.Decrement(ref _readerCount);

    public void Dispose() => File.Dispose();
}

/// <summary>Where a record lies.</summary>
internal readonly record struct LogPlace(LogSegment Segment, long Offset, int RecordBytes);
