using System.Text;

namespace ShardForge.Tests.Cluster;

/// <summary>Short forms for tests over the public surface.</summary>
internal static class TestData
{
    public static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    public static string? Text(byte[]? bytes) => bytes is null ? null : Encoding.UTF8.GetString(bytes);

    public static async Task<List<string>> ScanAsync(IKeyValueStore store, KeyRange range, ScanOptions? options = null)
    {
        List<string> entries = [];
        await foreach (KeyValuePair<byte[], byte[]> entry in store.ScanAsync(range, options))
            entries.Add($"{Text(entry.Key)}={Text(entry.Value)}");
        return entries;
    }

    /// <summary>Waits for a condition, at most half a minute; what it waits for is the message.</summary>
    public static async Task UntilAsync(Func<bool> condition, string what)
    {
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(30));
        using PeriodicTimer timer = new(TimeSpan.FromMilliseconds(10));
        while (!condition())
        {
            try
            {
                await timer.WaitForNextTickAsync(limit.Token);
            }
            catch (OperationCanceledException)
            {
                Assert.Fail($"not within 30 s: {what}");
            }
        }
    }
}

/// <summary>A folder of a test's own; removed with what it holds.</summary>
internal sealed class TempFolder : IDisposable
{
    public TempFolder() => Path = Directory.CreateTempSubdirectory("shardforge-test-").FullName;

    public string Path { get; }

    public static implicit operator string(TempFolder folder) => folder.Path;

    public void Dispose()
    {
        if (Directory.Exists(Path))
            Directory.Delete(Path, recursive: true);
    }
}
