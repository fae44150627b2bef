using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;
using ShardForge.Testing;
using Log = ShardForge.Consensus.NodeLog.NodeLog;

namespace ShardForge.Tests.Consensus.NodeLog;

/// <summary>The log as a node runs it: real files, segments made ready in the background, idle promises.</summary>
public sealed class LogOnDiskTests
{
    private static readonly NodeLogOptions s_options = new() { SegmentBytes = 256 * 1024, FirstSegmentBytes = 64 * 1024, RetainedBytesMax = 1024 * 1024, CacheBytesMax = 50_000 };
    private string _root = "";

    [SetUp]
    public void Begin() => _root = Path.Combine(Path.GetTempPath(), "shardforge-log-" + Guid.NewGuid().ToString("N"));

    [TearDown]
    public void Remove()
    {
        foreach (string directory in new[] { _root, _root + "-lost" })
        {
            if (Directory.Exists(directory))
                Directory.Delete(directory, recursive: true);
        }
    }

    [Test]
    public async Task Appends_compactions_kills_and_reopens_on_real_files()
    {
        Dictionary<ulong, long> last = [];
        for (int run = 0; run < 4; run++)
        {
            await using DataDirectory directory = await DataDirectory.OpenAsync(PhysicalFileSystem.Instance, _root, "n1", "c", "Lsm", s_options);
            foreach (IReplicaLog found in directory.Log.Replicas)
                Assert.That(found.LastIndex.Value, Is.GreaterThanOrEqualTo(last[found.Replica.Value]));
            await Task.WhenAll(Enumerable.Range(1, 4).Select(async number =>
            {
                ReplicaId id = new((ulong)number);
                IReplicaLog log = directory.Log.Replicas.SingleOrDefault(found => found.Replica == id) ?? await directory.Log.CreateReplicaAsync(id, default, default);
                for (int i = 0; i < 60; i++)
                {
                    log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload((int)log.LastIndex.Value + 1, 3000), out LogIndex index);
                    await log.WaitDurableAsync(index);
                    // The first replica never compacts, and is rewritten forward in the end.
                    if (number > 1 && index.Value > 10)
                        log.Compact(new(index.Value - 10));
                }

                lock (last)
                    last[id.Value] = log.LastIndex.Value;
            }));
            foreach (IReplicaLog log in directory.Log.Replicas)
                LogFixture.AssertPayloads(log, 3000);
            if (run % 2 == 0)
                await directory.KillAsync();
        }
    }

    [Test]
    public async Task Power_cuts_of_a_log_with_its_threads_lose_nothing_acknowledged()
    {
        FaultyFileSystem files = new(PhysicalFileSystem.Instance, _root + "-lost", flushInner: false);
        for (int seed = 1; seed <= 12; seed++)
        {
            DataDirectory directory = await DataDirectory.OpenAsync(files, _root, "n1", "c", "Lsm", s_options with { IdleDelay = TimeSpan.FromMilliseconds(1) });
            IReplicaLog log = directory.Log.Replicas.SingleOrDefault() ?? await directory.Log.CreateReplicaAsync(new(1), default, default);
            LogFixture.AssertPayloads(log, 2000);
            long acknowledged = log.LastIndex.Value, kept = acknowledged;
            files.FailAt(1 + (seed * 37), FileFault.PowerOff);
            try
            {
                while (true)
                {
                    log.TryAppend(new(1), RaftEntryKind.Command, LogFixture.Payload((int)log.LastIndex.Value + 1, 2000), out LogIndex index);
                    await log.WaitDurableAsync(index);
                    acknowledged = index.Value;
                    if (index.Value > 30)
                        log.Compact(new(index.Value - 30));
                }
            }
            catch (IOException)
            {
                await directory.KillAsync();
            }

            files.PowerOn(seed);
            await using DataDirectory again = await DataDirectory.OpenAsync(files, _root, "n1", "c", "Lsm", s_options);
            log = again.Log.Replicas.Single();
            Assert.That(log.LastIndex.Value, Is.GreaterThanOrEqualTo(acknowledged), $"seed {seed}");
            LogFixture.AssertPayloads(log, 2000);
        }
    }

    [Test]
    public async Task A_fresh_log_opens_without_zeroing_a_whole_segment()
    {
        FaultyFileSystem files = new();
        files.CreateDirectory("/data");
        files.KeepsLog = true;
        await using Log log = Log.Open(files, "/data/log");
        Assert.That(files.TakeLog(), Is.EqualTo(new[]
        {
            "create-directory log", "flush-directory data", "open 0000000000000001.new", "resize 0000000000000001.new 1048576", "write 0000000000000001.new 0+4096",
            "flush 0000000000000001.new", "rename 0000000000000001.new 0000000000000001.seg", "flush-directory log", "open 0000000000000001.seg", "flush 0000000000000001.seg",
        }));
    }
}
