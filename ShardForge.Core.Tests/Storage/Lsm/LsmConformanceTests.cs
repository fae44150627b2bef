using NUnit.Framework;
using ShardForge.Storage;
using ShardForge.Testing;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>The shared suite over engines that flush and compact all the time; the defaults run with the other engines.</summary>
[Parallelizable(ParallelScope.Children)]
internal sealed class LsmConformanceTests
{
    private const string TimeToLive = "Tiny with a time to live";

    private static readonly (string Name, IStorageEngineFactory Factory)[] s_engines =
    [
        ("Tiny", TinyLsm.Factory),
        ("Tiny with a version suffix", new SuffixedFactory(TinyLsm.Factory, 8)),
        (TimeToLive, StorageEngines.Lsm(TinyLsm.Options with { TimeToLive = TimeSpan.FromDays(1) })),
        ("Tiny, tiered", StorageEngines.Lsm(TinyLsm.Options with { CompactionStyle = LsmCompactionStyle.Tiered })),
        ("Tiny, universal", new SuffixedFactory(StorageEngines.Lsm(TinyLsm.Options with { CompactionStyle = LsmCompactionStyle.Universal, LevelZeroTables = 3 }), 8)),
        ("Tiny without filters and compression", StorageEngines.Lsm(TinyLsm.Options with { BloomBitsPerKey = 0, Compression = LsmCompression.None, RestartInterval = 1 })),
    ];

    private static IEnumerable<TestCaseData> Cases()
    {
        foreach ((string name, IStorageEngineFactory factory) in s_engines)
        {
            // A time to live is for engines of their own, and that case is a node's.
            foreach (StorageEngineConformanceCase conformanceCase in StorageEngineConformance.Cases.Where(one => name != TimeToLive || !one.Name.StartsWith("Without a log", StringComparison.Ordinal)))
                yield return new TestCaseData(factory, conformanceCase).SetArgDisplayNames(name, conformanceCase.Name);
        }
    }

    [TestCaseSource(nameof(Cases))]
    public async Task Engine_conforms(IStorageEngineFactory factory, StorageEngineConformanceCase conformanceCase)
    {
        int seed = int.TryParse(Environment.GetEnvironmentVariable("SHARDFORGE_SEED"), out int given) ? given : 1;
        TestContext.Out.WriteLine($"SHARDFORGE_SEED={seed}");
        string directory = Directory.CreateTempSubdirectory("shardforge-lsm-").FullName;
        try
        {
            await conformanceCase.RunAsync(factory, directory, seed);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }
}
