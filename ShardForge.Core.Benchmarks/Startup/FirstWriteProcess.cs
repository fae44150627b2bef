using System.Diagnostics;
using System.Globalization;

namespace ShardForge.Benchmarks.Startup;

/// <summary>A fresh process that opens a single node and writes once: the child of <see cref="StartupBenchmark"/>.</summary>
/// <remarks>Prints <c>main</c> when its own code begins and <c>acknowledged {ms since then}</c> when the write is durable; the parent takes the times.</remarks>
internal static class FirstWriteProcess
{
    public const string Argument = "first-write";
    public const string MainLine = "main", AcknowledgedLine = "acknowledged";

    public static async Task<int> RunAsync(string directory)
    {
        long begun = Stopwatch.GetTimestamp();
        Say(MainLine);
        await using ShardForgeCluster db = ShardForgeCluster.Open(new ShardForgeConfig { DataDirectory = directory });
        await db.PutAsync("first", "write");
        Say(string.Create(CultureInfo.InvariantCulture, $"{AcknowledgedLine} {Stopwatch.GetElapsedTime(begun).TotalMilliseconds:0.0}"));
        return 0;
    }

    private static void Say(string line)
    {
        Console.Out.WriteLine(line);
        Console.Out.Flush();
    }
}
