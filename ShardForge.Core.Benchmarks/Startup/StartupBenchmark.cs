using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using ShardForge.Testing;

namespace ShardForge.Benchmarks.Startup;

/// <summary>How long a newcomer waits: a single node from the start of its process to its first durable write, and a three-node test cluster.</summary>
/// <remarks>
/// Each figure is a median of <see cref="Runs"/>, with the fastest and the slowest beside it, except the first start of a test cluster in
/// this process, which there is once. Processes alternate between an empty directory and one that was left behind, which is recovered.
/// </remarks>
internal static class StartupBenchmark
{
    private const int Runs = 10;
    private static readonly TimeSpan s_childLimit = TimeSpan.FromSeconds(60);

    public static async Task<int> RunAsync()
    {
        Console.WriteLine($"{RuntimeInformation.OSDescription}, {RuntimeInformation.FrameworkDescription}, {Environment.ProcessorCount} processors");
        Console.WriteLine($"{"",-62} {"median",8} {"min",8} {"max",8} {"target",8}");
        await MeasureFirstWriteAsync();
        await MeasureTestClusterAsync();
        return 0;
    }

    private static async Task MeasureFirstWriteAsync()
    {
        string root = Directory.CreateTempSubdirectory("shardforge-startup-").FullName;
        try
        {
            List<double> runtime = [], fresh = [], freshInside = [], reopened = [];
            for (int run = 0; run < Runs; run++)
            {
                string directory = Path.Combine(root, run.ToString(CultureInfo.InvariantCulture));
                FirstWrite first = await StartChildAsync(directory), second = await StartChildAsync(directory);
                runtime.Add(first.UntilMain);
                fresh.Add(first.UntilAcknowledged);
                freshInside.Add(first.Inside);
                reopened.Add(second.UntilAcknowledged);
            }

            Print("process start to first durable write, empty directory", fresh, target: 100);
            Print("  of it: until the program's own code runs (.NET)", runtime, target: null);
            Print("  of it: Open and Put", freshInside, target: null);
            Print("process start to first durable write, existing directory", reopened, target: 100);
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }

    private static async Task MeasureTestClusterAsync()
    {
        List<double> starts = [], disposals = [];
        for (int run = 0; run <= Runs; run++)
        {
            long begun = Stopwatch.GetTimestamp();
            ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync();
            starts.Add(Stopwatch.GetElapsedTime(begun).TotalMilliseconds);
            begun = Stopwatch.GetTimestamp();
            await cluster.DisposeAsync();
            disposals.Add(Stopwatch.GetElapsedTime(begun).TotalMilliseconds);
        }

        Print("three-node test cluster, first start in a process", starts[..1], target: 1500);
        Print("three-node test cluster, warm start", starts[1..], target: 250);
        Print("three-node test cluster, dispose", disposals[1..], target: 50);
    }

    private static async Task<FirstWrite> StartChildAsync(string directory)
    {
        string program = typeof(StartupBenchmark).Assembly.Location;
        ProcessStartInfo start = new(Environment.ProcessPath ?? "dotnet") { RedirectStandardOutput = true, UseShellExecute = false };
        // Run through `dotnet run` this process is the program itself; run as `dotnet x.dll` it is the host, which needs to be told.
        if (Path.GetFileNameWithoutExtension(start.FileName).Equals("dotnet", StringComparison.OrdinalIgnoreCase))
            start.ArgumentList.Add(program);
        start.ArgumentList.Add(FirstWriteProcess.Argument);
        start.ArgumentList.Add(directory);

        using CancellationTokenSource limit = new(s_childLimit);
        long begun = Stopwatch.GetTimestamp();
        using Process child = Process.Start(start) ?? throw new InvalidOperationException("The process was not started.");
        try
        {
            string? first = await child.StandardOutput.ReadLineAsync(limit.Token);
            double untilMain = Stopwatch.GetElapsedTime(begun).TotalMilliseconds;
            string? second = await child.StandardOutput.ReadLineAsync(limit.Token);
            double untilAcknowledged = Stopwatch.GetElapsedTime(begun).TotalMilliseconds;
            await child.WaitForExitAsync(limit.Token);
            return first == FirstWriteProcess.MainLine && second?.Split(' ') is [FirstWriteProcess.AcknowledgedLine, string inside] && child.ExitCode == 0
                ? new FirstWrite(untilMain, untilAcknowledged, double.Parse(inside, CultureInfo.InvariantCulture))
                : throw new InvalidOperationException($"The child said '{first}', '{second}' and ended with {child.ExitCode}.");
        }
        finally
        {
            if (!child.HasExited)
                child.Kill();
        }
    }

    private static void Print(string what, IReadOnlyList<double> milliseconds, int? target)
    {
        double[] sorted = [.. milliseconds.Order()];
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{what,-62} {sorted[sorted.Length / 2],5:0} ms {sorted[0],5:0} ms {sorted[^1],5:0} ms {(target is { } ms ? $"{ms} ms" : ""),8}"));
    }

    private readonly record struct FirstWrite(double UntilMain, double UntilAcknowledged, double Inside);
}
