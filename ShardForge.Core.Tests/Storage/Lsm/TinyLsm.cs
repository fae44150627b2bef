using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>Engines so small that a few hundred writes go through all levels.</summary>
internal static class TinyLsm
{
    public static LsmOptions Options { get; } = new()
    {
        MemtableBytes = 4096,
        BlockBytes = 128,
        RestartInterval = 3,
        LevelZeroTables = 2,
        LevelZeroSlowdownTables = 12,
        LevelZeroStopTables = 16,
        LevelBaseBytes = 8192,
        LevelMultiplier = 2,
        TableBytes = 2048,
    };

    public static IStorageEngineFactory Factory { get; } = StorageEngines.Lsm(Options);
}

/// <summary>Opens engines whose keys have a version suffix.</summary>
internal sealed class SuffixedFactory(IStorageEngineFactory inner, int suffixBytes) : IStorageEngineFactory
{
    public string Name => inner.Name;

    public ValueTask<IStorageEngine> OpenAsync(string? directory, CancellationToken cancellationToken = default) =>
        OpenAsync(new StorageEngineContext { Directory = directory }, cancellationToken);

    public ValueTask<IStorageEngine> OpenAsync(StorageEngineContext context, CancellationToken cancellationToken = default) =>
        inner.OpenAsync(context with { VersionSuffixBytes = suffixBytes }, cancellationToken);
}
