using System.Globalization;
using HdrHistogram;
using Spectre.Console;

namespace ShardForge.Samples.Quickstart;

/// <summary>What the run shows: a live line on a terminal, plain lines where the output goes elsewhere.</summary>
internal static class Display
{
    private static readonly TimeSpan s_livePeriod = TimeSpan.FromMilliseconds(100), s_plainPeriod = TimeSpan.FromSeconds(1);

    private static bool IsLive => !Console.IsOutputRedirected && AnsiConsole.Profile.Capabilities.Interactive;

    public static void Line(string text) => Console.WriteLine(text);

    /// <summary>Shows the progress until the work has ended.</summary>
    public static async Task FollowAsync(Task work, Ingest ingest, Func<string> state)
    {
        if (IsLive)
        {
            await AnsiConsole.Progress().AutoClear(false)
                .Columns(new ProgressBarColumn(), new PercentageColumn(), new TaskDescriptionColumn { Alignment = Justify.Left })
                .StartAsync(async context =>
                {
                    ProgressTask task = context.AddTask("ingest", maxValue: 1);
                    while (await IsRunningAsync(work, s_livePeriod))
                    {
                        task.Value = ingest.Progress;
                        task.Description = Markup.Escape(Describe(ingest, state()));
                    }

                    task.Value = 1;
                });
        }
        else
        {
            while (await IsRunningAsync(work, s_plainPeriod))
                Line($"  {ingest.Progress,4:P0}  {Describe(ingest, state())}");
        }

        await work;
    }

    /// <summary>The shards, their slots, and who leads them.</summary>
    public static void ShardMap(ClusterStatus status)
    {
        Line($"Shard map, version {status.Version}, as {status.NodeId} knows it:");
        Line("  shard  slots       epoch  term  leader  replicas");
        foreach (ShardGroupStatus shard in status.Shards)
        {
            string replicas = string.Join(" ", shard.Replicas.Select(static replica => replica.NodeId).Order(StringComparer.Ordinal));
            Line(string.Create(CultureInfo.InvariantCulture,
                $"  {shard.ShardId,5}  {shard.FirstSlot:X4}-{shard.LastSlot:X4}  {shard.Epoch,6}  {shard.Term,4}  {shard.LeaderNodeId ?? "none",-6}  {replicas}"));
        }

        Line($"  the metadata group is led by {status.Metadata?.LeaderNodeId ?? "nobody that is known"}");
    }

    public static string Percentiles(HistogramBase histogram) => string.Create(CultureInfo.InvariantCulture,
        $"p50 {Milliseconds(histogram, 50)}  p90 {Milliseconds(histogram, 90)}  p99 {Milliseconds(histogram, 99)}  p99.9 {Milliseconds(histogram, 99.9)}  max {Milliseconds(histogram, 100)} ms");

    private static string Milliseconds(HistogramBase histogram, double percentile) =>
        (histogram.GetValueAtPercentile(percentile) / 1000.0).ToString("0.0", CultureInfo.InvariantCulture);

    private static string Describe(Ingest ingest, string state) => string.Create(CultureInfo.InvariantCulture,
        $"{ingest.Elapsed.TotalSeconds,5:0.0} s  {ingest.Acknowledged,7:N0} writes  {ingest.Bytes / 1048576.0,7:0.0} MiB  {state}");

    private static async Task<bool> IsRunningAsync(Task work, TimeSpan period)
    {
        await Task.WhenAny(work, Task.Delay(period));
        return !work.IsCompleted;
    }
}
