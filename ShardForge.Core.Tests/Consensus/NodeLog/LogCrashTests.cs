using CsCheck;
using NUnit.Framework;
using ShardForge.Consensus.NodeLog;
using ShardForge.Testing;

namespace ShardForge.Tests.Consensus.NodeLog;

/// <summary>A crash, or a failing disk, at every operation; and long random runs against a model.</summary>
public sealed class LogCrashTests
{
    private static readonly NodeLogOptions s_small = new()
    {
        SegmentBytes = 64 * 1024,
        FragmentBytes = 4 * 1024,
        LargeBytesPerBatch = 8 * 1024,
        CacheBytesMax = 2_000,
        RetainedBytesMax = 128 * 1024,
    };

    [Test]
    public async Task A_power_cut_at_any_operation_loses_nothing_acknowledged_and_changes_no_vote([Values(1, 2, 3)] int seed)
    {
        const int steps = 60;
        long operations = await RunAsync(seed, steps, failAt: long.MaxValue, FileFault.PowerOff);
        // Each operation of the first run once; the play of the power cut differs each time.
        for (long n = seed % 3; n <= operations; n += 3)
            await RunAsync(seed, steps, n + 1, FileFault.PowerOff);
    }

    [Test]
    public async Task A_failing_operation_anywhere_stops_the_log_or_does_no_harm([Values] bool cutsPower)
    {
        const int steps = 60;
        long operations = await RunAsync(4, steps, failAt: long.MaxValue, FileFault.Error);
        for (long n = 1; n <= operations; n += 2)
            await RunAsync(4, steps, n, n % 4 == 0 ? FileFault.Denied : FileFault.Error, cutsPower);
    }

    [Test]
    public void Random_calls_reopens_and_crashes_agree_with_the_model()
    {
        Gen.Int[0, 1_000_000].Sample(seed =>
        {
            using LogRun run = new(seed, s_small, replicas: 6);
            run.RunAsync(rounds: 6, stepsPerRound: 40).GetAwaiter().GetResult();
        }, iter: 25, threads: 1);
    }

    // Runs the script until an operation fails, then looks at what is left, goes on, and cuts the power once more.
    private static async Task<long> RunAsync(int seed, int steps, long failAt, FileFault fault, bool cutsPower = true)
    {
        LogFixture fixture = new(s_small);
        LogScript script = new(seed, replicaCount: 3, largeBytes: 20_000);
        if (failAt != long.MaxValue)
            fixture.Files.FailAt(failAt, fault);
        long before = fixture.Files.OperationCount;
        try
        {
            for (int i = 0; i < steps; i++)
                await script.StepAsync(fixture.Log);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException && failAt != long.MaxValue)
        {
            Assert.That(fixture.Log.Failure, Is.Not.Null);
        }

        long operations = fixture.Files.OperationCount - before;
        for (int round = 0; round < 2; round++)
        {
            if (cutsPower)
            {
                await fixture.CutPowerAndReopenAsync((int)failAt + round);
            }
            else
            {
                fixture.Files.FailNothing();
                await fixture.KillAndReopenAsync();
            }

            Assert.That(script.Check(fixture.Log), Is.Null, $"seed {seed}, operation {failAt} {fault}, round {round}, calls: {string.Join("; ", script.Calls)}");
            for (int i = 0; i < 5; i++)
                await script.StepAsync(fixture.Log);
        }

        await fixture.ReopenAsync();
        Assert.That(script.Check(fixture.Log), Is.Null, $"seed {seed}, operation {failAt} {fault}, at the end");
        await fixture.DisposeAsync();
        return operations;
    }

    private sealed class LogRun(int seed, NodeLogOptions options, ulong replicas) : IDisposable
    {
        private readonly LogFixture _fixture = new(options);
        private readonly LogScript _script = new(seed, replicas, largeBytes: 30_000);
        private readonly Random _random = new(seed);

        public async Task RunAsync(int rounds, int stepsPerRound)
        {
            for (int round = 0; round < rounds; round++)
            {
                for (int i = 0; i < stepsPerRound; i++)
                    await _script.StepAsync(_fixture.Log);
                switch (_random.Next(3))
                {
                    case 0:
                        await _fixture.ReopenAsync();
                        break;
                    case 1:
                        await _fixture.KillAndReopenAsync();
                        break;
                    default:
                        await _fixture.CutPowerAndReopenAsync(_random.Next());
                        break;
                }

                if (_script.Check(_fixture.Log) is { } wrong)
                    throw new AssertionException($"seed {seed}, round {round}: {wrong}");
            }
        }

        public void Dispose() => _fixture.DisposeAsync().AsTask().GetAwaiter().GetResult();
    }
}
