namespace ShardForge.Storage;

/// <summary>What the <c>lsm</c> engine can do beyond <see cref="IStorageEngine"/>; the engines that <see cref="StorageEngines.Lsm(LsmOptions?)"/> opens are of this type.</summary>
public interface ILsmEngine : IStorageEngine
{
    /// <summary>Rewrites what the range holds, without what is deleted or overwritten, and tells how far it is.</summary>
    /// <param name="range">The keys.</param>
    /// <param name="progress">Called on a worker after each piece; null: nobody wants to know. What it throws ends the task, not the compaction.</param>
    /// <param name="cancellationToken">Stops it between two entries; what was merged until then stays merged.</param>
    ValueTask CompactAsync(KeyRange range, IProgress<StorageCompactionProgress>? progress, CancellationToken cancellationToken = default);

    /// <summary>Takes in sorted tables as one write: all of their entries become visible together, as if put and deleted now.</summary>
    /// <remarks>
    /// Every checksum of the tables is checked first. They get a second name in the engine's directory and are not copied, if they are on its volume; the files are left as
    /// they are, and must not be changed. The memtable is flushed before them; while they take their place, writes wait. Durable once the task has ended.
    /// </remarks>
    /// <param name="paths">Files of <see cref="LsmTableWriter"/> on the engine's file system, in any order, which share no key.</param>
    /// <param name="cancellationToken">Stops it until the tables take their place; then nothing was written.</param>
    /// <exception cref="ArgumentException">Two of them share a range of keys, or one is no table.</exception>
    /// <exception cref="CorruptionException">One of them is damaged.</exception>
    ValueTask IngestAsync(IReadOnlyList<string> paths, CancellationToken cancellationToken = default);
}
