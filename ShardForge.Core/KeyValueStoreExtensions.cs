using System.Runtime.CompilerServices;
using System.Text;

namespace ShardForge;

/// <summary>Keys and values as strings, in UTF-8.</summary>
public static class KeyValueStoreExtensions
{
    /// <summary>Reads a value as UTF-8; null where the key is absent.</summary>
    public static async ValueTask<string?> GetStringAsync(this IKeyValueStore store, string key, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(store);
        byte[]? value = await store.GetAsync(Bytes(key), null, cancellationToken).ConfigureAwait(false);
        return value is null ? null : Encoding.UTF8.GetString(value);
    }

    /// <summary>Reads a value; null where the key is absent.</summary>
    public static ValueTask<byte[]?> GetAsync(this IKeyValueStore store, string key, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(store);
        return store.GetAsync(Bytes(key), null, cancellationToken);
    }

    /// <summary>Writes a key and its value as UTF-8.</summary>
    public static ValueTask PutAsync(this IKeyValueStore store, string key, string value, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(store);
        return store.PutAsync(Bytes(key), Bytes(value), null, cancellationToken);
    }

    /// <summary>Writes a key.</summary>
    public static ValueTask PutAsync(this IKeyValueStore store, string key, ReadOnlyMemory<byte> value, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(store);
        return store.PutAsync(Bytes(key), value, null, cancellationToken);
    }

    /// <summary>Removes a key, present or not.</summary>
    public static ValueTask DeleteAsync(this IKeyValueStore store, string key, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(store);
        return store.DeleteAsync(Bytes(key), null, cancellationToken);
    }

    /// <summary>The entries whose key starts with a prefix, as strings.</summary>
    public static async IAsyncEnumerable<KeyValuePair<string, string>> ScanStringsAsync(
        this IKeyValueStore store, string prefix = "", ScanOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(store);
        await foreach (KeyValuePair<byte[], byte[]> entry in store.ScanAsync(KeyRange.Prefix(Bytes(prefix)), options, cancellationToken).ConfigureAwait(false))
            yield return new(Encoding.UTF8.GetString(entry.Key), Encoding.UTF8.GetString(entry.Value));
    }

    /// <summary>Writes a value if the key holds what is expected; null is absent. See <see cref="ShardForgeCluster.CompareAndSetAsync"/>.</summary>
    public static ValueTask<bool> CompareAndSetAsync(this ShardForgeCluster cluster, string key, string? expected, string? value, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(cluster);
        return cluster.CompareAndSetAsync(Bytes(key), expected is null ? null : Bytes(expected), value is null ? null : Bytes(value), cancellationToken);
    }

    /// <summary>Adds a write of a key.</summary>
    public static WriteBatch Put(this WriteBatch batch, string key, string value)
    {
        ArgumentNullException.ThrowIfNull(batch);
        return batch.Put(Bytes(key), Bytes(value));
    }

    /// <summary>Adds the removal of a key.</summary>
    public static WriteBatch Delete(this WriteBatch batch, string key)
    {
        ArgumentNullException.ThrowIfNull(batch);
        return batch.Delete(Bytes(key));
    }

    private static byte[] Bytes(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return Encoding.UTF8.GetBytes(text);
    }
}
