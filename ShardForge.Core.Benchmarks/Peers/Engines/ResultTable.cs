using System.Globalization;

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>Prints a line per workload and peer.</summary>
internal static class ResultTable
{
    public static void PrintHeader() => Console.WriteLine(
        $"{"workload",-18}{"peer",-10}{"ours op/s",12}{"peer op/s",12}{"ratio",7}  {"p50/p99/p99.9 us: ours",-24}{"peer",-24}{"disk MB",-12}{"write amp.",-12}{"peak MB",-11}{"B/op",-12}");

    public static void Print(Workload workload, Dictionary<string, List<RunResult>> results)
    {
        if (Median(results[ShardForgePeer.Name]) is not { } ours)
            return;
        foreach ((string engine, List<RunResult> list) in results)
        {
            if (engine == ShardForgePeer.Name && results.Count > 1)
                continue;
            if (Median(list) is not { } peer)
                continue;
            Line(workload.Name, engine, ours, peer);
            if (ours.WriterOperationsPerSecond > 0)
            {
                Line("  its writer", engine, ours with { OperationsPerSecond = ours.WriterOperationsPerSecond, P50 = 0, P99 = ours.WriterP99, P999 = 0 },
                    peer with { OperationsPerSecond = peer.WriterOperationsPerSecond, P50 = 0, P99 = peer.WriterP99, P999 = 0 });
            }
        }
    }

    private static void Line(string name, string engine, RunResult ours, RunResult peer) => Console.WriteLine(
        $"{name,-18}{engine,-10}{Whole(ours.OperationsPerSecond),12}{Whole(peer.OperationsPerSecond),12}{Number(ours.OperationsPerSecond / peer.OperationsPerSecond, "0.00"),7}  {Latencies(ours),-24}{Latencies(peer),-24}" +
        $"{Pair(ours.DiskBytes / 1e6, peer.DiskBytes / 1e6, "0"),-12}{Pair(ours.WriteAmplification, peer.WriteAmplification, "0.0"),-12}{Pair(ours.PeakMemory / 1e6, peer.PeakMemory / 1e6, "0"),-11}{Pair(ours.AllocatedBytesPerOperation, peer.AllocatedBytesPerOperation, "0.0"),-12}");

    /// <summary>Each figure's own median.</summary>
    private static RunResult? Median(List<RunResult> runs)
    {
        RunResult[] good = [.. runs.Where(run => run.Failure is null)];
        return good.Length == 0 ? null : good[0] with
        {
            OperationsPerSecond = Of(good, run => run.OperationsPerSecond),
            P50 = Of(good, run => run.P50),
            P99 = Of(good, run => run.P99),
            P999 = Of(good, run => run.P999),
            WriterOperationsPerSecond = Of(good, run => run.WriterOperationsPerSecond),
            WriterP99 = Of(good, run => run.WriterP99),
            DiskBytes = (long)Of(good, run => run.DiskBytes),
            WriteAmplification = Of(good, run => run.WriteAmplification),
            PeakMemory = (long)Of(good, run => run.PeakMemory),
            AllocatedBytesPerOperation = Of(good, run => run.AllocatedBytesPerOperation),
        };
    }

    private static double Of(RunResult[] runs, Func<RunResult, double> figure)
    {
        double[] sorted = [.. runs.Select(figure).Order()];
        return sorted[sorted.Length / 2];
    }

    private static string Latencies(RunResult run) => $"{Number(run.P50 / 1000, "0.0")}/{Number(run.P99 / 1000, "0.0")}/{Number(run.P999 / 1000, "0.0")}";

    private static string Pair(double ours, double peer, string format) => $"{Number(ours, format)}/{Number(peer, format)}";

    private static string Whole(double number) => number.ToString("N0", CultureInfo.InvariantCulture);

    private static string Number(double number, string format) => number.ToString(format, CultureInfo.InvariantCulture);
}
