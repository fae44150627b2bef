using Microsoft.Extensions.Logging;

namespace ShardForge.Consensus.NodeLog;

/// <summary>Log lines of the node log: 3100 to 3199.</summary>
internal static partial class NodeLogMessages
{
    [LoggerMessage(3100, LogLevel.Information, "Node log in {Directory}: recovered {Replicas} replicas from {Segments} segments; it goes on at offset {Offset} of segment {Segment}")]
    public static partial void Recovered(ILogger logger, string directory, int replicas, int segments, long offset, long segment);

    [LoggerMessage(3101, LogLevel.Warning, "Node log in {Directory}: a torn tail of up to {Bytes} bytes at offset {Offset} of segment {Segment} was cut off; nobody was told of it")]
    public static partial void CutOff(ILogger logger, string directory, long bytes, long offset, long segment);

    [LoggerMessage(3102, LogLevel.Error, "Node log in {Directory}: stopped for good; what was not durable is unknown until the next open")]
    public static partial void Stopped(ILogger logger, string directory, Exception error);

    [LoggerMessage(3103, LogLevel.Warning, "Node log in {Directory}: the disk is full; commands are refused when the reserve is reached")]
    public static partial void DiskIsFull(ILogger logger, string directory);

    [LoggerMessage(3104, LogLevel.Information, "Node log in {Directory}: there is room again")]
    public static partial void HasRoomAgain(ILogger logger, string directory);

    [LoggerMessage(3105, LogLevel.Information, "Node log in {Directory}: {Bytes} bytes of slow replicas in segment {Segment} are written again further on")]
    public static partial void Rewriting(ILogger logger, string directory, long bytes, long segment);

    [LoggerMessage(3106, LogLevel.Error, "Node log in {Directory}: who listens to its events threw an error")]
    public static partial void ListenerFailed(ILogger logger, string directory, Exception error);

    [LoggerMessage(3107, LogLevel.Warning, "Disk of {Directory}: it is full, puts are refused; deletes and the log have the reserve")]
    public static partial void RefusesPuts(ILogger logger, string directory);

    [LoggerMessage(3108, LogLevel.Information, "Disk of {Directory}: there is room again, puts are admitted")]
    public static partial void AdmitsAgain(ILogger logger, string directory);

    [LoggerMessage(3109, LogLevel.Warning, "Disk of {Directory}: the reserve for a full disk cannot be kept")]
    public static partial void NoReserve(ILogger logger, string directory, Exception error);
}
