// A three-node cluster in this process, on real files and TCP over loopback. It takes in every file under a folder from several
// writers, loses the node that leads most shards in the middle, goes on, gets it back, and is then read and compared key by key
// through every node. Exit code: 0, all is there and right; 1, it is not; 2, the run could not be made.
using System.Diagnostics;
using System.Globalization;
using ShardForge;
using ShardForge.Samples.Quickstart;
using ShardForge.Testing;

const int WriterCount = 8, ReaderCount = 8, ShardCount = 8;
const double KillAt = 0.35, RestartAt = 0.65;
TimeSpan ingestDuration = TimeSpan.FromSeconds(10), runLimit = TimeSpan.FromMinutes(30);

string root = args.Length == 0 ? DefaultFolder() : Path.GetFullPath(args[0]);
if (args.Length > 1 || !Directory.Exists(root))
{
    Console.Error.WriteLine(args.Length > 1 ? $"One argument at most is known, {args.Length} were given." : $"There is no folder {root}.");
    Console.Error.WriteLine("Usage: dotnet run --project samples/Quickstart [-- <folder>]");
    return 2;
}

using CancellationTokenSource limit = new(runLimit);
Console.CancelKeyPress += (_, pressed) =>
{
    pressed.Cancel = true;
    limit.Cancel();
};

SourceFolder source = SourceFolder.Read(root);
if (source.Chunks.Count == 0)
{
    Console.Error.WriteLine($"There is no file under {root}.");
    return 2;
}

Display.Line($"Input: {source.FileCount:N0} files, {source.Bytes / 1048576.0:0.0} MiB, {source.Chunks.Count:N0} chunks under {root}");
long opening = Stopwatch.GetTimestamp();
await using ShardForgeTestCluster cluster = await ShardForgeTestCluster.StartAsync(
    new ShardForgeTestClusterOptions { Nodes = 3, ShardCount = ShardCount, Transport = TestTransport.Tcp, Durable = true, FlushesReachDisk = true }, limit.Token);
Display.Line($"Three nodes are up after {Stopwatch.GetElapsedTime(opening).TotalMilliseconds:0} ms, with data on disk, real flushes and links over TCP.");
Display.ShardMap(cluster[0].GetStatus());
Display.Line("");

// Ingest, and lose a node meanwhile.
Ingest ingest = new(cluster, source, ingestDuration, WriterCount);
string state = "all nodes up";
TimeSpan killedAt = default, restartedAt = default, readyAfter = default;
int victim = -1;
Task work = ingest.RunAsync(limit.Token);
Task story = TellAsync();
await Display.FollowAsync(Task.WhenAll(work, story), ingest, () => state);
Display.Line("");
Display.ShardMap(cluster[victim].GetStatus());
Display.Line("");

// Read everything through every node.
bool isRight = true;
Verification verification = new(cluster, ingest.HashByKey, ReaderCount);
for (int node = 0; node < cluster.Count; node++)
{
    VerificationResult result = await verification.RunAsync(node, limit.Token);
    isRight &= result.IsRight;
    Display.Line(string.Create(CultureInfo.InvariantCulture,
        $"Verified through {result.NodeId}: {result.Keys:N0} keys, {result.Missing} missing, {result.Wrong} wrong, {result.Unexpected} unexpected; a scan gave {result.Scanned:N0}; {result.Keys / result.Elapsed.TotalSeconds:N0} reads/s, {Display.Percentiles(result.Latency)}"));
    foreach (string example in result.Examples)
        Display.Line($"  {example}");
}

double seconds = ingest.Elapsed.TotalSeconds;
Display.Line("");
Display.Line(string.Create(CultureInfo.InvariantCulture, $"Ingest    {ingest.Acknowledged:N0} durable writes from {WriterCount} writers in {seconds:0.0} s: {ingest.Acknowledged / seconds:N0} writes/s, {ingest.Bytes / 1048576.0 / seconds:0.0} MiB/s"));
Display.Line($"Latency   {Display.Percentiles(ingest.Latency)} (a write that was repeated counts from its first attempt)");
Display.Line(string.Create(CultureInfo.InvariantCulture, $"Failover  killed after {killedAt.TotalSeconds:0.0} s, restarted after {restartedAt.TotalSeconds:0.0} s, ready {readyAfter.TotalMilliseconds:0} ms later"));
Display.Line(string.Create(CultureInfo.InvariantCulture, $"          longest time without any acknowledged write: {ingest.LongestGap.TotalMilliseconds:0} ms, from {ingest.LongestGapAt.TotalSeconds:0.0} s on; longest single write since the kill: {ingest.LongestWrite.TotalMilliseconds:0} ms"));
Display.Line($"          attempts repeated: {ingest.Refused:N0} refused (nothing written), {ingest.Unknown:N0} of unknown outcome, {ingest.NodeLost:N0} sent to the dead node");
if (ingest.Unreadable > 0)
    Display.Line($"Skipped   {ingest.Unreadable:N0} chunks whose file could not be read");
Display.Line(isRight ? "Result    every acknowledged key is there and right, on every node" : "Result    FAILED: see above");
return isRight ? 0 : 1;

// Kills the node that leads most shards at a third of the way, and starts it again at two thirds.
async Task TellAsync()
{
    await ReachAsync(KillAt);
    ClusterStatus status = cluster[0].GetStatus();
    int[] led = [.. Enumerable.Range(0, cluster.Count).Select(node => status.Shards.Count(shard => shard.LeaderNodeId == cluster[node].NodeId))];
    victim = Array.IndexOf(led, led.Max());
    string name = cluster[victim].NodeId;
    ingest.WatchGaps();
    killedAt = ingest.Elapsed;
    await cluster.KillAsync(victim);
    state = $"{name} killed, which led {led[victim]} of {status.Shards.Count} shards";

    await ReachAsync(RestartAt);
    restartedAt = ingest.Elapsed;
    state = $"{name} is starting again";
    await cluster.RestartAsync(victim, limit.Token);
    readyAfter = ingest.Elapsed - restartedAt;
    state = $"{name} is back";
}

async Task ReachAsync(double progress)
{
    while (ingest.Progress < progress && !work.IsCompleted)
        await Task.Delay(TimeSpan.FromMilliseconds(10), limit.Token);
    if (work.IsFaulted)
        await work;
}

// The repository this sample is in; where it runs from somewhere else: the current folder.
static string DefaultFolder()
{
    for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
    {
        if (File.Exists(Path.Combine(folder.FullName, "ShardForge.Core.sln")))
            return folder.FullName;
    }

    return Directory.GetCurrentDirectory();
}
