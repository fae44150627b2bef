using NUnit.Framework;
using ShardForge.Replication;

namespace ShardForge.Tests.Replication.Random;

/// <summary>Hundreds of random histories over two shards with elections, lost proposals, cancellations and retries. `SHARDFORGE_SEED` runs one seed, `SHARDFORGE_RUNS` more of them.</summary>
internal sealed class RandomRunTests
{
    [Test]
    public void Random_histories_are_strictly_serializable()
    {
        int first = Number("SHARDFORGE_SEED", 1), count = Number("SHARDFORGE_RUNS", Environment.GetEnvironmentVariable("SHARDFORGE_SEED") is null ? 400 : 1);
        for (int seed = first; seed < first + count; seed++)
        {
            string? wrong = RandomRun.Execute(seed);
            Assert.That(wrong, Is.Null, $"again: SHARDFORGE_SEED={seed} dotnet test --filter Random_histories_are_strictly_serializable\n{wrong}");
        }
    }

    // The clients and the checker would be worth nothing if they found nothing.
    [TestCase(nameof(ReplicationRules.R06AboveHighestRead))]
    [TestCase(nameof(ReplicationRules.R07WaitsForRegistered))]
    [TestCase(nameof(ReplicationRules.R07ReadsAfterTheWait))]
    [TestCase(nameof(ReplicationRules.R08NeedsLease))]
    [TestCase(nameof(ReplicationRules.R09StaysRegistered))]
    [TestCase(nameof(ReplicationRules.R10WaitsForOwnEntry))]
    [TestCase(nameof(ReplicationRules.R12ConflictsAboveStart))]
    [TestCase(nameof(ReplicationRules.R16Validates))]
    [TestCase(nameof(ReplicationRules.R22FindsOwnTraces))]
    public void Random_histories_find_what_a_rule_prevents(string rule)
    {
        ReplicationRules rules = new();
        typeof(ReplicationRules).GetProperty(rule)!.SetValue(rules, value: false);
        for (int seed = 1; seed < 2000; seed++)
        {
            if (RandomRun.Execute(seed, rules) is { } wrong)
            {
                TestContext.Out.WriteLine($"seed {seed}: {wrong[..Math.Min(wrong.Length, 300)]}");
                return;
            }
        }

        Assert.Fail($"2,000 seeds without {rule} show nothing.");
    }

    private static int Number(string variable, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), System.Globalization.CultureInfo.InvariantCulture, out int number) ? number : otherwise;
}
