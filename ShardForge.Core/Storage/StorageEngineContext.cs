using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using ShardForge.Common;

namespace ShardForge.Storage;

/// <summary>What a node gives to an engine that it opens.</summary>
public sealed record StorageEngineContext
{
    /// <summary>The engine's own directory; null: in memory.</summary>
    public string? Directory { get; init; }

    /// <summary>Files, as the node sees them.</summary>
    public IFileSystem FileSystem { get; init; } = PhysicalFileSystem.Instance;

    /// <summary>Budgets and workers that all engines of a node share; null: the engine makes its own and disposes them.</summary>
    public StorageResources? Resources { get; init; }

    /// <summary>Time.</summary>
    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;

    /// <summary>Where log lines go.</summary>
    public ILoggerFactory LoggerFactory { get; init; } = NullLoggerFactory.Instance;

    /// <summary>Name for threads, log lines and metrics, e.g. <c>n1/shard-0003</c>.</summary>
    public string Name { get; init; } = "engine";

    /// <summary>How many bytes at the end of a key are its version, newest first; 0: keys have none. Filters leave the suffix out.</summary>
    public int VersionSuffixBytes { get; init; }

    /// <summary>
    /// Whether the engine keeps a log of its own. Off inside a node: the node log carries durability, and the engine only has to
    /// come back as a prefix of what was written (R32); then a write is <see cref="StorageDurability.Buffered"/> in memory until
    /// <see cref="IStorageEngine.FlushAsync"/>.
    /// </summary>
    public bool WriteAheadLog { get; init; } = true;

    /// <summary>Decides what compactions drop; null: only what is overwritten or deleted.</summary>
    internal ICompactionFilterSource? CompactionFilter { get; init; }
}
