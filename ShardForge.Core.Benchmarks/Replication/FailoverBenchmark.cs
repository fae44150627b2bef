using System.Diagnostics;
using System.Globalization;

namespace ShardForge.Benchmarks.Replication;

/// <summary>From the kill of the node that leads a key's shard to the next acknowledged put of that key, asked of another node.</summary>
internal static class FailoverBenchmark
{
    public static async Task RunAsync(ShardForgeUnderTest cluster, int kills)
    {
        await cluster.MakeKillableAsync();
        byte[] key = "failover"u8.ToArray();
        await cluster.PutAsync(0, key, key);
        List<double> milliseconds = [];
        for (int kill = 0; kill < kills; kill++)
        {
            int leader = -1;
            for (int i = 0; i < cluster.Count; i++)
            {
                if (cluster[i].Node.FindLeadership(key) is not null)
                    leader = i;
            }

            if (leader < 0)
            {
                await Task.Delay(20);
                kill--;
                continue;
            }

            int other = (leader + 1) % cluster.Count;
            long begun = Stopwatch.GetTimestamp();
            Task killed = cluster.KillAsync(leader);
            while (true)
            {
                try
                {
                    await cluster.PutAsync(other, key, BitConverter.GetBytes(kill));
                    break;
                }
                catch (ShardForgeException)
                {
                    // Again at once: what counts is when the next one is acknowledged.
                }
            }

            milliseconds.Add(Stopwatch.GetElapsedTime(begun).TotalMilliseconds);
            await killed;
            await cluster.ReopenAsync(leader);
            await Task.Delay(500);
        }

        milliseconds.Sort();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"failover, {kills} kills: median {milliseconds[kills / 2]:0} ms, worst {milliseconds[^1]:0} ms, best {milliseconds[0]:0} ms"));
    }
}
