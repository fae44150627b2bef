namespace ShardForge.Replication;

/// <summary>Keys in borrowed memory as dictionary keys.</summary>
internal sealed class MemoryKeyComparer : IEqualityComparer<ReadOnlyMemory<byte>>
{
    public static MemoryKeyComparer Instance { get; } = new();

    public bool Equals(ReadOnlyMemory<byte> x, ReadOnlyMemory<byte> y) => x.Span.SequenceEqual(y.Span);

    public int GetHashCode(ReadOnlyMemory<byte> obj) => (int)KeyComparer.Hash(obj.Span);
}
