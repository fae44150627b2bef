using NUnit.Framework;
using ShardForge.Storage;
using ShardForge.Testing;

namespace ShardForge.Tests.Storage;

/// <summary>Every engine of the library, on disk and in memory, through every case of the suite.</summary>
[Parallelizable(ParallelScope.Children)]
internal sealed class StorageEngineConformanceTests
{
    private static readonly (string Name, IStorageEngineFactory Factory)[] s_engines =
    [
        ("InMemory", StorageEngines.InMemory()),
        ("Sqlite", StorageEngines.Sqlite()),
        ("Lsm", StorageEngines.Lsm()),
    ];

    private static IEnumerable<TestCaseData> Cases()
    {
        foreach ((string name, IStorageEngineFactory factory) in s_engines)
        {
            foreach (StorageEngineConformanceCase conformanceCase in StorageEngineConformance.Cases)
            {
                yield return new TestCaseData(factory, conformanceCase, true).SetArgDisplayNames(name, conformanceCase.Name);
                if (!conformanceCase.RequiresDirectory)
                    yield return new TestCaseData(factory, conformanceCase, false).SetArgDisplayNames(name + " without a directory", conformanceCase.Name);
            }
        }
    }

    [TestCaseSource(nameof(Cases))]
    public async Task Engine_conforms(IStorageEngineFactory factory, StorageEngineConformanceCase conformanceCase, bool onDisk)
    {
        int seed = int.TryParse(Environment.GetEnvironmentVariable("SHARDFORGE_SEED"), out int given) ? given : 1;
        TestContext.Out.WriteLine($"SHARDFORGE_SEED={seed}");
        string? directory = onDisk ? Directory.CreateTempSubdirectory("shardforge-conformance-").FullName : null;
        try
        {
            await conformanceCase.RunAsync(factory, directory, seed);
        }
        finally
        {
            if (directory is not null)
                Directory.Delete(directory, recursive: true);
        }
    }
}
