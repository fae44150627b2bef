using System.Globalization;

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>What the kernel says about this process.</summary>
internal static class ProcessFigures
{
    /// <summary>Highest resident memory so far, in bytes.</summary>
    public static long PeakMemory => Read("/proc/self/status", "VmHWM:") * 1024;

    /// <summary>Bytes given to write calls.</summary>
    public static long BytesWritten => Read("/proc/self/io", "wchar:");

    /// <summary>Sets the highest resident memory back to the present one.</summary>
    public static void ResetPeakMemory()
    {
        try
        {
            File.WriteAllText("/proc/self/clear_refs", "5");
        }
        catch (IOException)
        {
            // Then the peak is that of the whole process.
            return;
        }
    }

    public static long DirectoryBytes(string directory) => new DirectoryInfo(directory).EnumerateFiles("*", SearchOption.AllDirectories).Sum(file => file.Length);

    private static long Read(string path, string name)
    {
        foreach (string line in File.ReadLines(path))
        {
            if (line.StartsWith(name, StringComparison.Ordinal))
                return long.Parse(line.AsSpan(name.Length).Trim().ToString().Split(' ')[0], CultureInfo.InvariantCulture);
        }

        return 0;
    }
}
