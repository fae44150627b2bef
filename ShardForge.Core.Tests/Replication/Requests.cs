using System.Text;
using ShardForge.Replication;

namespace ShardForge.Tests.Replication;

/// <summary>Requests with text for keys and values.</summary>
internal static class Requests
{
    private static ulong s_lastId;

    public static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    public static string? Text(byte[]? bytes) => bytes is null ? null : Encoding.UTF8.GetString(bytes);

    public static OperationId NewId() => new(1, Interlocked.Increment(ref s_lastId));

    public static GetRequest Get(string key, ulong? at = null, int shard = 1) =>
        new() { Shard = new(shard), Epoch = default, Key = Bytes(key), ReadAt = at is { } timestamp ? new Timestamp(timestamp) : null };

    public static WriteRequest Put(string key, string? value, int shard = 1) => Batch([(key, value)], shard);

    public static WriteRequest Batch((string Key, string? Value)[] writes, int shard = 1) => new()
    {
        Shard = new(shard),
        Epoch = default,
        Id = NewId(),
        KnownTimestamp = default,
        Writes = [.. writes.Select(write => new KeyWrite(Bytes(write.Key), write.Value is null ? null : (ReadOnlyMemory<byte>?)Bytes(write.Value)))],
    };

    public static WriteRequest CompareAndSet(string key, string? expected, string? value, int shard = 1) =>
        Put(key, value, shard) with { HasCondition = true, ExpectedValue = expected is null ? null : (ReadOnlyMemory<byte>?)Bytes(expected) };

    public static ScanRequest Scan(ulong at, KeyRange range = default, bool reverse = false, int entriesMax = 1000, int shard = 1) =>
        new() { Shard = new(shard), Epoch = default, Range = range, ReadAt = new(at), Reverse = reverse, EntriesMax = entriesMax, BytesMax = 1 << 20 };

    public static string Page(ShardResponse response) => string.Join(' ', response.Entries.Select(entry => $"{Text(entry.Key)}={Text(entry.Value)}"));
}
