using ShardForge.Storage;

namespace ShardForge.Testing;

public static partial class StorageEngineConformance
{
    private static IEnumerable<StorageEngineConformanceCase> ModelCases() =>
    [
        Case("Random operations give what a sorted dictionary gives", run => RunModelAsync(run, reopens: false)),
        DurableCase("Random operations with reopenings and checkpoints give what a sorted dictionary gives", run => RunModelAsync(run, reopens: true)),
    ];

    private static async Task RunModelAsync(ConformanceRun run, bool reopens)
    {
        const int Operations = 1200;
        EngineModel model = new(run, await run.OpenAsync().ConfigureAwait(false));
        for (int operation = 0; operation < Operations; operation++)
            await model.StepAsync(operation, reopens).ConfigureAwait(false);
        model.CompareAll("at the end");
        model.Close();
    }
}
