using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using HdrHistogram;
using ShardForge.Testing;

namespace ShardForge.Samples.Quickstart;

/// <summary>Several writers put the chunks of a folder into the cluster, each through a node that is up, and note what was acknowledged.</summary>
/// <remarks>
/// A small folder is put in again under the next pass until the time is over, so that there is something to see. The progress is that of
/// the slower of the two: the first pass, the time.
/// </remarks>
internal sealed class Ingest(ShardForgeTestCluster cluster, SourceFolder source, TimeSpan duration, int writerCount)
{
    private const long MicrosecondsMax = 120_000_000;
    private static readonly TimeSpan s_giveUpAfter = TimeSpan.FromSeconds(30);
    private readonly ConcurrentDictionary<string, byte[]> _hashByKey = new();
    private readonly LongConcurrentHistogram _latency = new(1, MicrosecondsMax, 3);
    private readonly Lock _gate = new();
    private readonly Stopwatch _clock = new();
    private TimeSpan _lastAck, _gapStart;
    private int _next;
    private long _acknowledged, _bytes, _refused, _unknown, _nodeLost, _unreadable;
    private bool _watchGaps;

    /// <summary>Every key that was acknowledged, with the SHA-256 of what it holds.</summary>
    public IReadOnlyDictionary<string, byte[]> HashByKey => _hashByKey;

    public HistogramBase Latency => _latency;

    public long Acknowledged => Interlocked.Read(ref _acknowledged);

    public long Bytes => Interlocked.Read(ref _bytes);

    /// <summary>Calls that failed with a transient error: nothing was written.</summary>
    public long Refused => Interlocked.Read(ref _refused);

    /// <summary>Calls whose outcome was unknown; a put of the same bytes may be repeated.</summary>
    public long Unknown => Interlocked.Read(ref _unknown);

    /// <summary>Calls that found their node gone and went to another one.</summary>
    public long NodeLost => Interlocked.Read(ref _nodeLost);

    /// <summary>Chunks whose file went away, or may not be read.</summary>
    public long Unreadable => Interlocked.Read(ref _unreadable);

    public TimeSpan Elapsed => _clock.Elapsed;

    public TimeSpan LongestGap { get; private set; }

    /// <summary>When the longest gap began, on the clock of <see cref="Elapsed"/>.</summary>
    public TimeSpan LongestGapAt { get; private set; }

    /// <summary>The longest that one write took, repeats included, among those acknowledged since <see cref="WatchGaps"/>.</summary>
    public TimeSpan LongestWrite { get; private set; }

    public double Progress => Math.Min((double)Math.Min(Volatile.Read(ref _next), source.Chunks.Count) / source.Chunks.Count, _clock.Elapsed / duration);

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        _clock.Start();
        Task[] writers = new Task[writerCount];
        for (int writer = 0; writer < writerCount; writer++)
            writers[writer] = WriteAsync(writer, cancellationToken);
        await Task.WhenAll(writers);
        _clock.Stop();
    }

    /// <summary>From now on the longest time without an acknowledged write counts.</summary>
    public void WatchGaps()
    {
        lock (_gate)
        {
            _watchGaps = true;
            _gapStart = _clock.Elapsed;
        }
    }

    private async Task WriteAsync(int writer, CancellationToken cancellationToken)
    {
        // The first put must not run on the caller's thread: that one starts the other writers.
        await Task.Yield();
        int node = writer % cluster.Count;
        while (!cancellationToken.IsCancellationRequested)
        {
            int number = Interlocked.Increment(ref _next) - 1, pass = number / source.Chunks.Count;
            if (pass > 0 && _clock.Elapsed >= duration)
                return;
            Chunk chunk = source.Chunks[number % source.Chunks.Count];
            byte[] bytes;
            try
            {
                bytes = SourceFolder.ReadBytes(chunk);
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                Interlocked.Increment(ref _unreadable);
                continue;
            }

            byte[] hash = SourceFolder.HashOf(bytes);
            string fileKey = SourceFolder.FileKey(pass, chunk), hashKey = SourceFolder.HashKey(pass, hash);
            node = await PutAsync(node, fileKey, bytes, cancellationToken);
            _hashByKey[fileKey] = hash;
            // Files with the same content share this key; it names one of them. The first to claim it writes it.
            byte[] fileKeyBytes = Encoding.UTF8.GetBytes(fileKey);
            if (_hashByKey.TryAdd(hashKey, SourceFolder.HashOf(fileKeyBytes)))
                node = await PutAsync(node, hashKey, fileKeyBytes, cancellationToken);
        }
    }

    /// <summary>Puts until it is acknowledged. The same bytes under the same key: repeating it is safe whatever became of an attempt.</summary>
    /// <returns>The node that took it: where the next one goes.</returns>
    private async Task<int> PutAsync(int node, string key, byte[] value, CancellationToken cancellationToken)
    {
        byte[] keyBytes = Encoding.UTF8.GetBytes(key);
        long begun = Stopwatch.GetTimestamp();
        while (true)
        {
            try
            {
                await cluster[node].PutAsync(keyBytes, value, cancellationToken: cancellationToken);
                break;
            }
            catch (ShardForgeException error) when (error.IsTransient && Stopwatch.GetElapsedTime(begun) < s_giveUpAfter)
            {
                Interlocked.Increment(ref _refused);
            }
            catch (OutcomeUnknownException) when (Stopwatch.GetElapsedTime(begun) < s_giveUpAfter)
            {
                Interlocked.Increment(ref _unknown);
            }
            catch (InvalidOperationException) when (Stopwatch.GetElapsedTime(begun) < s_giveUpAfter)
            {
                // The node is down (ObjectDisposedException is one of these): the next one takes the write.
                Interlocked.Increment(ref _nodeLost);
                node = (node + 1) % cluster.Count;
            }

            await Task.Delay(TimeSpan.FromMilliseconds(1), cancellationToken);
        }

        TimeSpan took = Stopwatch.GetElapsedTime(begun);
        _latency.RecordValue(Math.Clamp((long)took.TotalMicroseconds, 1, MicrosecondsMax));
        Interlocked.Increment(ref _acknowledged);
        Interlocked.Add(ref _bytes, value.Length);
        lock (_gate)
        {
            TimeSpan now = _clock.Elapsed, since = _lastAck > _gapStart ? _lastAck : _gapStart;
            if (_watchGaps && now - since > LongestGap)
                (LongestGap, LongestGapAt) = (now - since, since);
            if (_watchGaps && took > LongestWrite)
                LongestWrite = took;
            _lastAck = now;
        }

        return node;
    }
}
