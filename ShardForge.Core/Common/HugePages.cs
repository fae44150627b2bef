using System.Runtime.InteropServices;

namespace ShardForge.Common;

/// <summary>Asks the system for huge pages under large native blocks. Only a wish: where there are none, nothing changes.</summary>
internal static unsafe partial class HugePages
{
    /// <summary>Size and alignment that a block needs for one; that of x64 and arm64.</summary>
    public const int Bytes = 2 * 1024 * 1024;

    private const int LinuxHugePage = 14;    // MADV_HUGEPAGE

    /// <param name="address">On a multiple of <see cref="Bytes"/>.</param>
    /// <param name="bytes">A multiple of <see cref="Bytes"/>.</param>
    public static void Advise(void* address, nuint bytes)
    {
        // Its result says whether the kernel knows huge pages at all, which changes nothing here.
        if (OperatingSystem.IsLinux())
            _ = Advise(address, bytes, LinuxHugePage);
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(void* address, nuint bytes, int advice);
}
