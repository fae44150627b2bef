using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Testing;

namespace ShardForge.Tests.Consensus;

public sealed class IncomingSnapshotTests
{
    [Test]
    public void R33_What_was_staged_and_flushed_survives_a_power_cut_with_every_directory_on_the_way_to_it([Range(1, 40)] int seed)
    {
        string data = Path.GetFullPath("/data"), staged = Path.Combine(data, "shards", "r2", "2");
        FaultyFileSystem files = new();
        DurableDirectory.Create(files, data);
        IncomingSnapshot snapshot = new(new ReplicaId(1), transfer: 1, new LogIndex(5), new Term(1), generation: 2, staged);

        snapshot.Prepare(files);
        snapshot.Write(files, "meta", 0, "image"u8, isLastOfFile: true);
        snapshot.Write(files, "tables/1", 0, "table"u8, isLastOfFile: true);
        snapshot.Complete(files);
        files.PowerCut(seed);

        Assert.Multiple(() =>
        {
            Assert.That(files.FileExists(Path.Combine(staged, "meta")), Is.True);
            Assert.That(files.FileExists(Path.Combine(staged, "tables", "1")), Is.True);
        });
    }
}
