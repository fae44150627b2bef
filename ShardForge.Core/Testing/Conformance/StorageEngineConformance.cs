using System.Text;
using ShardForge.Storage;

namespace ShardForge.Testing;

/// <summary>What every <see cref="IStorageEngine"/> must do, as cases that run against any <see cref="IStorageEngineFactory"/>.</summary>
/// <remarks>
/// <para>Needs no test framework: a case that fails throws <see cref="ConformanceException"/>. To run an engine of your own through it:</para>
/// <code>
/// await StorageEngineConformance.RunAllAsync(new MyEngineFactory());
/// </code>
/// <para>or, with a test framework that takes its cases from a list (here NUnit):</para>
/// <code>
/// public static IEnumerable&lt;StorageEngineConformanceCase&gt; Cases => StorageEngineConformance.Cases;
///
/// [TestCaseSource(nameof(Cases))]
/// public async Task Engine_conforms(StorageEngineConformanceCase conformanceCase)
/// {
///     string directory = Directory.CreateTempSubdirectory().FullName;
///     try { await conformanceCase.RunAsync(new MyEngineFactory(), directory); }
///     finally { Directory.Delete(directory, recursive: true); }
/// }
/// </code>
/// <para>
/// Every case works in a directory of its own and leaves its files there. What the suite cannot see from outside, it does not test: power
/// cuts, damage on the disk, and what a full disk does.
/// </para>
/// </remarks>
public static partial class StorageEngineConformance
{
    /// <summary>All cases. Their names stay; more are added.</summary>
    public static IReadOnlyList<StorageEngineConformanceCase> Cases { get; } =
    [
        .. PointCases(), .. BatchCases(), .. IteratorCases(), .. SnapshotCases(), .. TransactionCases(), .. MaintenanceCases(), .. MisuseCases(), .. ConcurrencyCases(), .. ModelCases(),
    ];

    /// <summary>Runs all cases one after the other, each in a temporary directory that is removed.</summary>
    /// <param name="factory">Opens the engine under test.</param>
    /// <param name="seed">Of the randomness in the cases.</param>
    /// <param name="cancellationToken">Ends the run.</param>
    /// <exception cref="ConformanceException">The first case that fails.</exception>
    public static async Task RunAllAsync(IStorageEngineFactory factory, int seed = 1, CancellationToken cancellationToken = default)
    {
        foreach (StorageEngineConformanceCase conformanceCase in Cases)
        {
            string directory = Directory.CreateTempSubdirectory("shardforge-conformance-").FullName;
            try
            {
                await conformanceCase.RunAsync(factory, directory, seed, cancellationToken).ConfigureAwait(false);
            }
            finally
            {
                Directory.Delete(directory, recursive: true);
            }
        }
    }

    private static StorageEngineConformanceCase Case(string name, Func<ConformanceRun, Task> body) => new(name, requiresDirectory: false, body);

    private static StorageEngineConformanceCase DurableCase(string name, Func<ConformanceRun, Task> body) => new(name, requiresDirectory: true, body);

    private static byte[] B(string text) => Encoding.UTF8.GetBytes(text);

    private static byte[] K(int number) => [(byte)'k', (byte)(number >> 16), (byte)(number >> 8), (byte)number];

    private static StorageBatch Puts(params ReadOnlySpan<string> keys)
    {
        StorageBatch batch = new();
        foreach (string key in keys)
            batch.Put(B(key), B("value of " + key));
        return batch;
    }

    private static Task PutAsync(this ConformanceRun run, IStorageEngine engine, params ReadOnlySpan<string> keys) =>
        engine.WriteAsync(Puts(keys), StorageDurability.Buffered, run.CancellationToken).AsTask();
}
