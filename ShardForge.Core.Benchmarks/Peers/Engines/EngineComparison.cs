using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>Runs the workloads on our engine and its peers by turns, each run in a fresh process, and prints medians and ratios.</summary>
/// <remarks>
/// Workloads that read start from a directory that a process of the same engine loaded, in shuffled order, flushed and left to settle; those that also write get a copy of it.
/// A missing peer (a native library that does not load) is named, and the rest goes on.
/// </remarks>
internal static class EngineComparison
{
    private static readonly TimeSpan s_childMax = TimeSpan.FromMinutes(10);

    public static int Run(string[] arguments)
    {
        EngineOptions options;
        Workload[] workloads;
        try
        {
            options = EngineOptions.Parse(arguments);
            workloads = [.. options.Workloads.Select(Workload.Of)];
        }
        catch (FormatException error)
        {
            Console.Error.WriteLine($"{error.Message}\n{EngineOptions.Usage}");
            return 2;
        }

        Console.WriteLine($"{RuntimeInformation.OSDescription}, {RuntimeInformation.FrameworkDescription}, {Environment.ProcessorCount} processors; {options.Keys:N0} keys ({options.Shape}) of {KeySource.KeyBytes} bytes, values of {ValueSource.ValueBytes}; medians of {options.Runs}{(options.Fresh ? "; read in the process that wrote" : "")}");
        List<string> engines = [ShardForgePeer.Name, .. options.Peers];
        Dictionary<string, string> templates = [];
        bool keeps = Directory.Exists(options.Directory);
        Directory.CreateDirectory(options.Directory);
        try
        {
            List<RunResult> all = [];
            ResultTable.PrintHeader();
            foreach (Workload workload in workloads)
            {
                Dictionary<string, List<RunResult>> results = engines.ToDictionary(engine => engine, _ => new List<RunResult>());
                for (int run = 0; run < options.Runs; run++)
                {
                    foreach (string engine in engines.ToArray())
                    {
                        RunResult result = RunOne(options, workload, engine, templates);
                        results[engine].Add(result);
                        if (result.Failure is null)
                            continue;
                        Console.WriteLine($"{engine}, {workload.Name}: {result.Failure}");
                        if (result.Failure.Contains("does not load", StringComparison.Ordinal))
                            engines.Remove(engine);
                    }
                }

                ResultTable.Print(workload, results);
                all.AddRange(results.Values.SelectMany(list => list));
            }

            if (options.Json is not null)
                File.WriteAllText(options.Json, JsonSerializer.Serialize(all));
            return 0;
        }
        finally
        {
            if (!keeps)
                Directory.Delete(options.Directory, recursive: true);
        }
    }

    private static RunResult RunOne(EngineOptions options, Workload workload, string engine, Dictionary<string, string> templates)
    {
        RunOrder order = new() { Engine = engine, Workload = workload.Name, Keys = options.Keys, Operations = options.Operations, Seconds = options.Seconds, Shape = options.Shape };
        string work = Path.Combine(options.Directory, "run");
        if (Directory.Exists(work))
            Directory.Delete(work, recursive: true);
        if (!workload.Loaded || options.Fresh)
        {
            Directory.CreateDirectory(work);
            return RunChild(order with { Directory = work, LoadsFirst = workload.Loaded });
        }

        if (!templates.TryGetValue(engine, out string? template))
        {
            template = Path.Combine(options.Directory, $"{engine}-{options.Shape}-{options.Keys.ToString(CultureInfo.InvariantCulture)}");
            if (!File.Exists(template + ".loaded"))
            {
                if (Directory.Exists(template))
                    Directory.Delete(template, recursive: true);
                Directory.CreateDirectory(template);
                RunResult loaded = RunChild(order with { Directory = template, Workload = null });
                if (loaded.Failure is not null)
                    return loaded;
                File.WriteAllText(template + ".loaded", "");
            }

            templates.Add(engine, template);
        }

        if (workload.OnlyReads)
            return RunChild(order with { Directory = template });
        Copy(template, work);
        return RunChild(order with { Directory = work });
    }

    private static void Copy(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (string directory in Directory.GetDirectories(from, "*", SearchOption.AllDirectories))
            Directory.CreateDirectory(Path.Combine(to, Path.GetRelativePath(from, directory)));
        foreach (string file in Directory.GetFiles(from, "*", SearchOption.AllDirectories))
            File.Copy(file, Path.Combine(to, Path.GetRelativePath(from, file)));
    }

    private static RunResult RunChild(RunOrder order)
    {
        ProcessStartInfo start = new(Environment.ProcessPath ?? "dotnet") { RedirectStandardOutput = true, UseShellExecute = false };

        // Run through `dotnet run` this process is the program itself; run as `dotnet x.dll` it is the host, which needs to be told.
        if (Path.GetFileNameWithoutExtension(start.FileName).Equals("dotnet", StringComparison.OrdinalIgnoreCase))
            start.ArgumentList.Add(typeof(EngineComparison).Assembly.Location);
        start.ArgumentList.Add(EngineRun.Argument);
        start.ArgumentList.Add(JsonSerializer.Serialize(order));
        using Process child = Process.Start(start) ?? throw new InvalidOperationException("The process was not started.");
        RunResult? result = null;
        using Timer limit = new(static state => ((Process)state!).Kill(), child, s_childMax, Timeout.InfiniteTimeSpan);
        while (child.StandardOutput.ReadLine() is { } line)
        {
            if (line.StartsWith(EngineRun.ResultLine, StringComparison.Ordinal))
                result = JsonSerializer.Deserialize<RunResult>(line.AsSpan(EngineRun.ResultLine.Length));
            else
                Console.WriteLine(line);
        }

        child.WaitForExit();
        return result ?? new RunResult { Engine = order.Engine, Workload = order.Workload ?? "", Failure = $"The process ended with {child.ExitCode} and no result." };
    }
}
