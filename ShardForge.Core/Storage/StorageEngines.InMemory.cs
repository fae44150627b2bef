using ShardForge.Storage.Memory;

namespace ShardForge.Storage;

public static partial class StorageEngines
{
    /// <summary>The engine that keeps everything in memory, with its default settings.</summary>
    public static IStorageEngineFactory InMemory() => InMemory(null);

    /// <summary>
    /// The engine that keeps everything in memory. With a directory it is durable all the same: opened alone through a redo log and an
    /// image, inside a node through the node's log and an image at each flush.
    /// </summary>
    /// <param name="options">Null: the defaults.</param>
    /// <exception cref="ConfigurationException">A setting is out of its range.</exception>
    public static IStorageEngineFactory InMemory(MemoryOptions? options) => new MemoryEngineFactory(options ?? new MemoryOptions());
}
