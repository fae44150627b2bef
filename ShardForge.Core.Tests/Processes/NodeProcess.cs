using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading.Channels;

namespace ShardForge.Tests.Processes;

/// <summary>A node in a process of its own (the project NodeHost), and what its writers are known to have done. Owns the process: disposing kills it.</summary>
/// <remarks>What the child had printed before it was killed is still in the pipe, and is read to its end: <see cref="KillAsync"/> returns after that.</remarks>
internal sealed class NodeProcess : IAsyncDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(120);
    private readonly Process _process;
    private readonly Task _reading, _readingErrors;
    private readonly StringBuilder _errors = new();
    private readonly ConcurrentQueue<string> _failures = new();
    private readonly Channel<string[]> _answers = Channel.CreateUnbounded<string[]>();
    private readonly WriteRecord _record;

    private NodeProcess(Process process, WriteRecord record)
    {
        _process = process;
        _record = record;
        _reading = ReadAsync();
        _readingErrors = ReadErrorsAsync();
    }

    /// <summary>Starts it and waits until it is ready.</summary>
    public static async Task<NodeProcess> StartAsync(WriteRecord record, string directory, string nodeId, int shardCount, IReadOnlyDictionary<string, int> ports)
    {
        NodeProcess node = Start(record, directory, nodeId, shardCount, ports);
        try
        {
            await node.WaitUntilReadyAsync();
            return node;
        }
        catch
        {
            await node.DisposeAsync();
            throw;
        }
    }

    /// <summary>Starts it; members of one cluster have to be started before the first of them can be ready.</summary>
    public static NodeProcess Start(WriteRecord record, string directory, string nodeId, int shardCount, IReadOnlyDictionary<string, int> ports)
    {
        ProcessStartInfo start = new(DotnetPath())
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        start.ArgumentList.Add("exec");
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "ShardForge.NodeHost.dll"));
        start.ArgumentList.Add(directory);
        start.ArgumentList.Add(nodeId);
        start.ArgumentList.Add(shardCount.ToString(CultureInfo.InvariantCulture));
        foreach ((string member, int port) in ports)
            start.ArgumentList.Add($"{member}={port}");
        return new NodeProcess(Process.Start(start) ?? throw new InvalidOperationException("The process was not started."), record);
    }

    public async Task WaitUntilReadyAsync() => await AnswerAsync("ready");

    public async Task StartWritersAsync(int writerCount, long first) => await CommandAsync($"write {writerCount} {first}");

    public async Task StopWritersAsync()
    {
        await CommandAsync("stop");
        await AnswerAsync("stopped");
    }

    /// <summary>Everything the node gives by scan and get: key to number; -1 where the value is not whole or the two differ.</summary>
    public async Task<Dictionary<string, long>> DumpAsync()
    {
        await CommandAsync("dump");
        Dictionary<string, long> numberByKey = [];
        while (true)
        {
            string[] words = await NextAnswerAsync();
            if (words[0] == "end")
                return numberByKey.Count == Number(words[1]) ? numberByKey : throw new InvalidOperationException($"{numberByKey.Count} of {words[1]} keys were printed.");
            if (words[0] != "has" || !numberByKey.TryAdd(words[1], Number(words[2])))
                throw new InvalidOperationException($"'{string.Join(' ', words)}' in a dump, after {numberByKey.Count} keys.");
        }
    }

    /// <summary>SIGKILL; returns when the process is gone and what it said is taken in.</summary>
    public async Task KillAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync().WaitAsync(s_patience);
        await Task.WhenAll(_reading, _readingErrors).WaitAsync(s_patience);
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
            await KillAsync();
        _process.Dispose();
    }

    /// <summary>What the child reported besides its answers: errors of calls, by type.</summary>
    public IReadOnlyCollection<string> Failures => _failures;

    private async Task CommandAsync(string command)
    {
        await _process.StandardInput.WriteLineAsync(command);
        await _process.StandardInput.FlushAsync();
    }

    private async Task AnswerAsync(string expected)
    {
        string[] words = await NextAnswerAsync();
        if (words[0] != expected)
            throw new InvalidOperationException($"The child said '{string.Join(' ', words)}' where '{expected}' was due.");
    }

    private async Task<string[]> NextAnswerAsync()
    {
        using CancellationTokenSource limit = new(s_patience);
        try
        {
            return await _answers.Reader.ReadAsync(limit.Token);
        }
        catch (Exception error) when (error is ChannelClosedException or OperationCanceledException)
        {
            throw new InvalidOperationException($"The child {(error is ChannelClosedException ? "ended" : $"said nothing for {s_patience.TotalSeconds:0} s")}. Its errors: {Errors()}", error);
        }
    }

    private string Errors()
    {
        lock (_errors)
            return _errors.ToString();
    }

    private async Task ReadAsync()
    {
        while (await _process.StandardOutput.ReadLineAsync() is { } line)
        {
            // A line without its dot was cut off by the kill.
            string[] words = line.Split(' ');
            if (words[^1] != ".")
                continue;
            switch (words[0])
            {
                case "try":
                    _record.Tried(int.Parse(words[1], CultureInfo.InvariantCulture), Number(words[2]));
                    break;
                case "ack":
                    _record.Acknowledged(int.Parse(words[1], CultureInfo.InvariantCulture), Number(words[2]));
                    break;
                case "failed":
                    _failures.Enqueue(words[1]);
                    break;
                default:
                    _answers.Writer.TryWrite(words);
                    break;
            }
        }

        _answers.Writer.Complete();
    }

    private async Task ReadErrorsAsync()
    {
        while (await _process.StandardError.ReadLineAsync() is { } line)
        {
            lock (_errors)
                _errors.AppendLine(line);
        }
    }

    private static long Number(string word) => long.Parse(word, CultureInfo.InvariantCulture);

    /// <summary>The host that runs this process's runtime, wherever it is installed.</summary>
    private static string DotnetPath()
    {
        string name = OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet";
        string beside = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", name));
        return File.Exists(beside) ? beside : name;
    }
}
