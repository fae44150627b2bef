namespace ShardForge.Storage;

/// <summary>Settings of the engine in memory (<see cref="StorageEngines.InMemory()"/>).</summary>
public sealed record MemoryOptions
{
    /// <summary>With a directory and opened alone: how large the redo log may grow, in bytes, before an image takes its place. Default 64 MiB.</summary>
    public long RedoLogBytesMax { get; init; } = 64L * 1024 * 1024;
}
