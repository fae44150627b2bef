using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using NUnit.Framework;
using NUnit.Framework.Interfaces;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>A process that writes, flushes and compacts is killed with SIGKILL at a random moment, again and again: what is left is a prefix with all that was acknowledged.</summary>
/// <remarks>SHARDFORGE_ROUNDS sets the rounds of each style; the moments are drawn from SHARDFORGE_SEED, which is printed.</remarks>
[Category("Processes")]
[FixtureLifeCycle(LifeCycle.InstancePerTestCase)]
internal sealed class LsmKillTests : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);
    private readonly string _directory = Directory.CreateTempSubdirectory("shardforge-lsm-kill-").FullName;
    private readonly int _rounds = ReadVariable("SHARDFORGE_ROUNDS") ?? 2;
    private readonly int _seed = ReadVariable("SHARDFORGE_SEED") ?? Environment.TickCount & 0xFFFFFF;

    public void Dispose()
    {
        if (TestContext.CurrentContext.Result.Outcome.Status == TestStatus.Failed)
            TestContext.Out.WriteLine($"kept: {_directory}");
        else
            Directory.Delete(_directory, recursive: true);
    }

    [Test]
    public async Task What_a_killed_process_leaves_is_a_prefix_with_all_that_was_acknowledged([Values] LsmCompactionStyle style)
    {
        TestContext.Out.WriteLine($"again: SHARDFORGE_SEED={_seed} SHARDFORGE_ROUNDS={_rounds} dotnet test --filter FullyQualifiedName~{nameof(LsmKillTests)}");
        Random random = new(_seed);
        long before = 0;
        for (int round = 0; round < _rounds; round++)
        {
            (long acknowledged, long tried) = await RunAndKillAsync(style, before + random.Next(1, 4000));
            await using IStorageEngine engine = await StorageEngines.Lsm(StorageLoad.Options(style)).OpenAsync(_directory);
            long last = StorageLoad.ReadCounter(engine);
            Assert.That(last, Is.InRange(acknowledged, Math.Max(acknowledged, tried)), $"round {round}: writes acknowledged and tried");
            Assert.That(StorageLoad.Compare(engine, last), Is.Null, $"round {round}, after write {last}");
            before = last;
        }

        Assert.That((await StorageEngines.VerifyAsync(_directory)).Damage, Is.Empty);
    }

    /// <returns>The last write that was acknowledged, and the last that may have begun.</returns>
    private async Task<(long Acknowledged, long Tried)> RunAndKillAsync(LsmCompactionStyle style, long killAt)
    {
        ProcessStartInfo start = new(DotnetPath()) { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        foreach (string argument in new[] { "exec", Path.Combine(AppContext.BaseDirectory, "ShardForge.NodeHost.dll"), "storage", _directory, style.ToString() })
            start.ArgumentList.Add(argument);
        using Process process = Process.Start(start) ?? throw new InvalidOperationException("The process was not started.");
        try
        {
            long acknowledged = 0, tried = 0;
            bool killed = false;
            using CancellationTokenSource limit = new(s_patience);
            while (await process.StandardOutput.ReadLineAsync(limit.Token) is { } line)
            {
                // A line without its dot was cut off by the kill.
                string[] words = line.Split(' ');
                if (words[^1] != ".")
                    continue;
                long number = long.Parse(words[1], CultureInfo.InvariantCulture);
                if (words[0] == "ack")
                    acknowledged = number;
                else
                    tried = number;
                if (killed || acknowledged < killAt)
                    continue;
                process.Kill();
                killed = true;
            }

            Assert.That(killed, $"The process ended by itself: {await process.StandardError.ReadToEndAsync(limit.Token)}");
            await process.WaitForExitAsync(limit.Token);
            return (acknowledged, tried);
        }
        finally
        {
            if (!process.HasExited)
                process.Kill();
        }
    }

    private static int? ReadVariable(string name) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : null;

    private static string DotnetPath()
    {
        string beside = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet"));
        return File.Exists(beside) ? beside : "dotnet";
    }
}
