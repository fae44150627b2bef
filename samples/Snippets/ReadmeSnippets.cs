using NUnit.Framework;
using ShardForge.Testing;

namespace ShardForge.Samples;

/// <summary>What README.md shows, between its markers, to the letter; a test compares both and runs it.</summary>
public static class ReadmeSnippets
{
    public static async Task SingleNodeAsync()
    {
        // snippet: single-node
        await using ShardForgeCluster db = await ShardForgeCluster.OpenAsync(new ShardForgeConfig { DataDirectory = "data" });
        await db.PutAsync("user/42", "Ada");
        Console.WriteLine(await db.GetStringAsync("user/42"));
        await foreach ((string key, string value) in db.ScanStringsAsync("user/"))
            Console.WriteLine($"{key} = {value}");
        // end
    }

    public static async Task LostNodeAsync()
    {
        // snippet: lost-node
        await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync();   // three nodes, four shards
        await cluster[0].PutAsync("user/42", "Ada");
        int leader = cluster.LeaderOf("user/42"u8.ToArray());
        await cluster.KillAsync(leader);                                                        // as kill -9
        Assert.That(await cluster[(leader + 1) % 3].GetStringAsync("user/42"), Is.EqualTo("Ada"));
        // end
    }
}
