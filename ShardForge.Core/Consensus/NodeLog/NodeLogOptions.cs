using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace ShardForge.Consensus.NodeLog;

/// <summary>Settings of a node log. Sizes of segments are stored in them, so all may change from one open to the next.</summary>
internal sealed record NodeLogOptions
{
    /// <summary>For the names of the log's threads and log lines.</summary>
    public string NodeName { get; init; } = "node";

    /// <summary>Size of a segment. Default 64 MiB.</summary>
    public int SegmentBytes { get; init; } = 64 * 1024 * 1024;

    /// <summary>
    /// Size of a fresh log's first segment; each next one is twice as large, up to <see cref="SegmentBytes"/>. A segment is filled with zeros before it
    /// is used, and a node that has little to say should not wait for 64 MiB of them. Default 1 MiB.
    /// </summary>
    public int FirstSegmentBytes { get; init; } = 1024 * 1024;

    /// <summary>Most bytes in one batch, i.e. for one write and flush. Default 4 MiB.</summary>
    public int BatchBytesMax { get; init; } = 4 * 1024 * 1024;

    /// <summary>A longer record is cut into parts of this size (R36); a quarter of the segment where that is less. Default 256 KiB.</summary>
    public int FragmentBytes { get; init; } = 256 * 1024;

    /// <summary>Most bytes of long records in one batch, so that they do not hold up everybody's flush. Default 1 MiB.</summary>
    public int LargeBytesPerBatch { get; init; } = 1024 * 1024;

    /// <summary>Over it the replicas that hold back the oldest segment are asked to compact, and in the end are written again further on (R30). Default 256 MiB.</summary>
    public long RetainedBytesMax { get; init; } = 256L * 1024 * 1024;

    /// <summary>Entries kept in memory for readers, in bytes; those that are not durable come on top. Default 32 MiB.</summary>
    public long CacheBytesMax { get; init; } = 32L * 1024 * 1024;

    /// <summary>Room that commands may not use when the disk is full; a quarter of the segment where that is less (R34). Default 4 MiB.</summary>
    public int ReserveBytes { get; init; } = 4 * 1024 * 1024;

    /// <summary>How long nothing must have been appended for the log to count as idle (R29); <see cref="Timeout.InfiniteTimeSpan"/>: never. Default 10 ms.</summary>
    public TimeSpan IdleDelay { get; init; } = TimeSpan.FromMilliseconds(10);

    /// <summary>How long after a full disk the next try to get room comes. Default 100 ms.</summary>
    public TimeSpan FullDiskRetryDelay { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>Whether segments are made ready by a thread of their own. Off for tests that need one order of file operations.</summary>
    public bool PreparesInBackground { get; init; } = true;

    /// <summary>Whether a log must be there already: a data directory that was in use and has no log has lost it.</summary>
    public bool MustExist { get; init; }

    /// <summary>Whether a log that is there must have no replica: a data directory without an identity that has replicas has lost it.</summary>
    public bool MustBeFresh { get; init; }

    /// <summary>Id of a fresh log; null: a random one. Part of every checksum.</summary>
    public Guid? NewLogId { get; init; }

    /// <summary>Room that the data directory keeps for a full disk (R34), see <see cref="DiskReserve"/>; 0: none. Default 0.</summary>
    public long DiskReserveBytes { get; init; }

    /// <summary>Told, on any thread, each time that a segment could not be made since the disk is full.</summary>
    public Action? DiskIsFull { get; init; }

    public ILogger Logger { get; init; } = NullLogger.Instance;

    /// <summary>Least size of a segment: header, and room for a few blocks.</summary>
    public const int SegmentBytesMin = 16 * LogFormat.BlockBytes;

    /// <summary>For a node without a data directory: what the log retains is memory.</summary>
    public static NodeLogOptions InMemory { get; } = new()
    {
        SegmentBytes = 4 * 1024 * 1024,
        FirstSegmentBytes = 1024 * 1024,
        RetainedBytesMax = 32 * 1024 * 1024,
        CacheBytesMax = 8 * 1024 * 1024,
        IdleDelay = Timeout.InfiniteTimeSpan,
    };

    public NodeLogOptions Validated()
    {
        Check(nameof(SegmentBytes), SegmentBytes, SegmentBytesMin, int.MaxValue - LogFormat.BlockBytes);
        Check(nameof(FirstSegmentBytes), FirstSegmentBytes, SegmentBytesMin, SegmentBytes);
        Check(nameof(FragmentBytes), FragmentBytes, 1024, int.MaxValue / 2);
        Check(nameof(BatchBytesMax), BatchBytesMax, LogFormat.BlockBytes, int.MaxValue / 2);
        Check(nameof(LargeBytesPerBatch), LargeBytesPerBatch, 1024, int.MaxValue);
        if (SegmentBytes % LogFormat.BlockBytes != 0 || FirstSegmentBytes % LogFormat.BlockBytes != 0)
            throw new ConfigurationException(nameof(SegmentBytes), $"Sizes of segments are multiples of {LogFormat.BlockBytes:N0}: {SegmentBytes:N0} and {FirstSegmentBytes:N0} are not.");
        return this;
    }

    private static void Check(string name, long value, long least, long most)
    {
        if (value < least || value > most)
            throw new ConfigurationException(name, $"{name} is {value:N0}; allowed are {least:N0} to {most:N0}.");
    }
}
