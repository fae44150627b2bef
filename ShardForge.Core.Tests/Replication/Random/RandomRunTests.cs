using NUnit.Framework;
using ShardForge.Replication;

namespace ShardForge.Tests.Replication.Random;

/// <summary>Hundreds of random histories over two shards with elections, lost proposals, cancellations and retries. `SHARDFORGE_SEED` runs one seed, `SHARDFORGE_RUNS` more of them.</summary>
internal sealed class RandomRunTests
{
    [Test]
    public void Random_histories_are_strictly_serializable()
    {
        int first = Number("SHARDFORGE_SEED", 1), count = Environment.GetEnvironmentVariable("SHARDFORGE_SEED") is null ? Number("SHARDFORGE_RUNS", 400) : 1;
        for (int seed = first; seed < first + count; seed++)
        {
            string? wrong = RandomRun.Execute(seed);
            Assert.That(wrong, Is.Null, $"again: SHARDFORGE_SEED={seed} dotnet test --filter Random_histories_are_strictly_serializable\n{wrong}");
        }
    }

    private static int Number(string variable, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), System.Globalization.CultureInfo.InvariantCulture, out int number) ? number : otherwise;
}
