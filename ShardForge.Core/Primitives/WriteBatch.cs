namespace ShardForge;

/// <summary>Puts and deletes that are written all or nothing. Copies what it is given. The same key twice: the last one wins. Not thread-safe; reusable.</summary>
public sealed class WriteBatch
{
    private readonly List<(byte[] Key, byte[]? Value)> _operations = [];

    /// <summary>How many operations it has, each key as often as it was given.</summary>
    public int Count => _operations.Count;

    internal IReadOnlyList<(byte[] Key, byte[]? Value)> Operations => _operations;

    /// <summary>Adds a write of a key.</summary>
    /// <returns>The batch.</returns>
    public WriteBatch Put(ReadOnlyMemory<byte> key, ReadOnlyMemory<byte> value)
    {
        _operations.Add((key.ToArray(), value.ToArray()));
        return this;
    }

    /// <summary>Adds the removal of a key.</summary>
    /// <returns>The batch.</returns>
    public WriteBatch Delete(ReadOnlyMemory<byte> key)
    {
        _operations.Add((key.ToArray(), null));
        return this;
    }

    /// <summary>Takes everything out.</summary>
    public void Clear() => _operations.Clear();
}
