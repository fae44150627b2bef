using System.Globalization;
using ShardForge.Testing;
using static ShardForge.Tests.Cluster.TestData;

namespace ShardForge.Tests.Cluster;

/// <summary>Writes keys one after the other while a test does something to the cluster; each once acknowledged has to be there at the end.</summary>
internal sealed class SteadyWriter : IAsyncDisposable
{
    private readonly ShardForgeTestCluster _cluster;
    private readonly CancellationTokenSource _stop = new();
    private readonly Task[] _writing;
    private readonly int[] _written;
    private int _failed;
    private int _avoided = -1;
    private string _lastFailure = "";

    public SteadyWriter(ShardForgeTestCluster cluster, int writers = 2)
    {
        _cluster = cluster;
        _written = new int[writers];
        _writing = [.. Enumerable.Range(0, writers).Select(WriteAsync)];
    }

    public int Written => _written.Sum();

    /// <summary>Calls that failed at their deadline, however often they were repeated before.</summary>
    public int Failed => Volatile.Read(ref _failed);

    /// <summary>What the last of them said.</summary>
    public string LastFailure => Volatile.Read(ref _lastFailure);

    /// <summary>Asks a node nothing from now on (-1: asks all of them); when it returns, nothing is on its way there.</summary>
    public Task AvoidAsync(int node)
    {
        Volatile.Write(ref _avoided, node);
        return AdvanceAsync(4 * _written.Length);
    }

    /// <summary>Waits until so many more were acknowledged.</summary>
    public Task AdvanceAsync(int count)
    {
        int goal = Written + count;
        return UntilAsync(() => Written >= goal, $"{count} more writes to be acknowledged");
    }

    /// <summary>Ends the writing and reads everything back through a node.</summary>
    public async Task CheckAsync(int node)
    {
        await _stop.CancelAsync();
        await Task.WhenAll(_writing);
        List<string> found = await ScanAsync(_cluster[node], KeyRange.Prefix(Bytes("steady-")));
        HashSet<string> keys = [.. found];
        for (int writer = 0; writer < _written.Length; writer++)
        {
            for (int i = 0; i < _written[writer]; i++)
                Assert.That(keys, Does.Contain($"{Key(writer, i)}={i}"), $"node {node}, seed {_cluster.Seed}");
        }

        // Single reads go another way than the scan.
        for (int writer = 0; writer < _written.Length; writer++)
        {
            for (int i = 0; i < _written[writer]; i += 7)
                Assert.That(Text(await _cluster[node].GetAsync(Bytes(Key(writer, i)))), Is.EqualTo($"{i}"), $"node {node}, seed {_cluster.Seed}");
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await Task.WhenAll(_writing);
    }

    private static string Key(int writer, int i) => string.Create(CultureInfo.InvariantCulture, $"steady-{writer}-{i:D6}");

    private async Task WriteAsync(int writer)
    {
        await Task.Yield();
        int i = 0;
        for (int attempt = writer; !_stop.IsCancellationRequested; attempt++)
        {
            ShardForgeCluster? node = Pick(attempt);
            if (node is null)
            {
                await Task.Delay(1);
                continue;
            }

            try
            {
                await node.PutAsync(Bytes(Key(writer, i)), Bytes($"{i}"));
                _written[writer] = ++i;
            }
            catch (ObjectDisposedException)
            {
                // That node was stopped: the next one.
            }
            catch (ShardForgeException error)
            {
                // The same key again: nobody else writes it.
                Volatile.Write(ref _lastFailure, error.ToString());
                Interlocked.Increment(ref _failed);
            }
        }
    }

    private ShardForgeCluster? Pick(int number)
    {
        try
        {
            int node = number % _cluster.Count;
            return node == Volatile.Read(ref _avoided) ? null : _cluster[node];
        }
        catch (InvalidOperationException)
        {
            return null;        // it is down
        }
    }
}
