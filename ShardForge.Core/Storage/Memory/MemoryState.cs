namespace ShardForge.Storage.Memory;

/// <summary>All entries as of one write. Immutable: readers, snapshots, iterators and images keep the one they took.</summary>
/// <param name="Map">The entries; no value is null.</param>
/// <param name="Sequence">Number of the last write that is in it.</param>
internal sealed record MemoryState(SortedMap Map, long Sequence)
{
    public static MemoryState Empty { get; } = new(SortedMap.Empty, 0);

    /// <summary>Applies a batch to the next state.</summary>
    public static void Apply(SortedMapEditor editor, ReadOnlySpan<byte> encodedBatch)
    {
        StorageBatchReader reader = new(encodedBatch);
        while (reader.MoveNext())
        {
            switch (reader.Kind)
            {
                case StorageOperationKind.Put:
                    editor.Put(reader.Key.ToArray(), reader.Value.ToArray());
                    break;
                case StorageOperationKind.Delete:
                    editor.Remove(reader.Key);
                    break;
                default:
                    editor.RemoveRange(reader.Key, reader.Value.ToArray());
                    break;
            }
        }
    }
}
