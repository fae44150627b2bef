using Microsoft.Extensions.Logging;

namespace ShardForge.Storage.Lsm;

/// <summary>Log lines of the engine: changes of state only. Event ids 4000 to 4049.</summary>
internal static partial class LsmLog
{
    [LoggerMessage(4000, LogLevel.Information, "{Engine}: opened with {Tables} tables of {Bytes} bytes, {Replayed} operations replayed from logs")]
    public static partial void Opened(ILogger logger, string engine, int tables, long bytes, long replayed);

    [LoggerMessage(4001, LogLevel.Warning, "{Engine}: keys have a version suffix of {Stored} bytes since the directory was made; {Given} is ignored")]
    public static partial void SuffixDiffers(ILogger logger, string engine, int stored, int given);

    [LoggerMessage(4002, LogLevel.Error, "{Engine}: takes no more writes")]
    public static partial void Failed(ILogger logger, Exception error, string engine);

    [LoggerMessage(4003, LogLevel.Warning, "{Engine}: the disk is full; writes are refused until there is room")]
    public static partial void DiskIsFull(ILogger logger, Exception error, string engine);

    [LoggerMessage(4004, LogLevel.Information, "{Engine}: the disk has room again")]
    public static partial void DiskHasRoom(ILogger logger, string engine);

    [LoggerMessage(4005, LogLevel.Warning, "{Engine}: an obsolete file could not be deleted; the next open does it")]
    public static partial void NotDeleted(ILogger logger, Exception error, string engine);
}
