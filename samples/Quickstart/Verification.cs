using System.Diagnostics;
using System.Text;
using HdrHistogram;
using ShardForge.Testing;

namespace ShardForge.Samples.Quickstart;

/// <summary>What reading everything through one node gave.</summary>
internal sealed record VerificationResult(string NodeId, int Keys, int Missing, int Wrong, int Unexpected, int Scanned, IReadOnlyList<string> Examples, TimeSpan Elapsed, HistogramBase Latency)
{
    public bool IsRight => Missing == 0 && Wrong == 0 && Unexpected == 0 && Scanned == Keys;
}

/// <summary>Reads every acknowledged key through one node, compares its SHA-256, and scans the whole to see that nothing else is there.</summary>
internal sealed class Verification(ShardForgeTestCluster cluster, IReadOnlyDictionary<string, byte[]> hashByKey, int readerCount)
{
    private const int ExamplesMax = 5;
    private const long MicrosecondsMax = 120_000_000;
    private readonly KeyValuePair<string, byte[]>[] _expected = [.. hashByKey];

    public async Task<VerificationResult> RunAsync(int node, CancellationToken cancellationToken)
    {
        ShardForgeCluster db = cluster[node];
        LongConcurrentHistogram latency = new(1, MicrosecondsMax, 3);
        List<string> examples = [];
        int next = 0, missing = 0, wrong = 0;
        Stopwatch clock = Stopwatch.StartNew();

        async Task ReadAsync()
        {
            await Task.Yield();
            for (int at = Interlocked.Increment(ref next) - 1; at < _expected.Length; at = Interlocked.Increment(ref next) - 1)
            {
                (string key, byte[] hash) = _expected[at];
                long begun = Stopwatch.GetTimestamp();
                byte[]? value = await db.GetAsync(Encoding.UTF8.GetBytes(key), cancellationToken: cancellationToken);
                latency.RecordValue(Math.Clamp((long)Stopwatch.GetElapsedTime(begun).TotalMicroseconds, 1, MicrosecondsMax));
                if (value is not null && SourceFolder.HashOf(value).AsSpan().SequenceEqual(hash))
                    continue;
                if (value is null)
                    Interlocked.Increment(ref missing);
                else
                    Interlocked.Increment(ref wrong);
                lock (examples)
                {
                    if (examples.Count < ExamplesMax)
                        examples.Add($"{key} is {(value is null ? "missing" : $"wrong ({value.Length:N0} bytes)")}");
                }
            }
        }

        await Task.WhenAll(Enumerable.Range(0, readerCount).Select(_ => ReadAsync()));
        int scanned = 0, unexpected = 0;
        await foreach (KeyValuePair<byte[], byte[]> entry in db.ScanAsync(KeyRange.All, cancellationToken: cancellationToken))
        {
            scanned++;
            if (hashByKey.ContainsKey(Encoding.UTF8.GetString(entry.Key)))
                continue;
            unexpected++;
            if (examples.Count < ExamplesMax)
                examples.Add($"{Encoding.UTF8.GetString(entry.Key)} was never written");
        }

        return new VerificationResult(db.NodeId, _expected.Length, missing, wrong, unexpected, scanned, examples, clock.Elapsed, latency);
    }
}
