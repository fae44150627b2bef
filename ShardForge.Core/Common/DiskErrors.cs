namespace ShardForge.Common;

/// <summary>The one disk error that is told apart from all others, because waiting helps: no space left.</summary>
internal static class DiskErrors
{
    private const int WindowsDiskFull = unchecked((int)0x80070070), WindowsHandleDiskFull = unchecked((int)0x80070027), UnixNoSpace = 28, MacQuota = 69, LinuxQuota = 122;

    public static bool IsDiskFull(Exception error) => error is IOException &&
        (OperatingSystem.IsWindows()
            ? error.HResult is WindowsDiskFull or WindowsHandleDiskFull
            : error.HResult is UnixNoSpace || error.HResult == (OperatingSystem.IsMacOS() ? MacQuota : LinuxQuota));

    /// <summary>The error that the real file system gives on this platform.</summary>
    public static IOException DiskFull(string path, long bytes, long free) =>
        new($"No space left for {bytes:N0} more bytes of {path}: {free:N0} are free.", OperatingSystem.IsWindows() ? WindowsDiskFull : UnixNoSpace);
}
