using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage;

internal sealed class EngineMarkerTests
{
    private string _directory = "";

    [SetUp]
    public void CreateDirectory() => _directory = Directory.CreateTempSubdirectory("shardforge-marker-").FullName;

    [TearDown]
    public void RemoveDirectory() => Directory.Delete(_directory, recursive: true);

    [Test]
    public void A_directory_opens_again_with_its_engine_and_only_once_at_a_time()
    {
        using (Acquire("one", 2))
        {
            ConfigurationException? inUse = Assert.Throws<ConfigurationException>(() => Acquire("one", 2).Dispose());
            Assert.That(inUse!.Setting, Is.EqualTo("DataDirectory"));
        }

        Acquire("one", 2).Dispose();
        Acquire("one", 3).Dispose();
    }

    [Test]
    public void Another_engine_and_a_newer_format_are_refused_and_change_nothing()
    {
        Acquire("one", 2).Dispose();
        byte[] before = File.ReadAllBytes(MarkerPath);
        Assert.That(Assert.Throws<ConfigurationException>(() => Acquire("two", 2).Dispose())!.Setting, Is.EqualTo("StorageEngine"));
        Assert.That(Assert.Throws<ConfigurationException>(() => Acquire("one", 1).Dispose())!.Setting, Is.EqualTo("DataDirectory"));
        Assert.That(File.ReadAllBytes(MarkerPath), Is.EqualTo(before));
        Acquire("one", 2).Dispose();
    }

    [Test]
    public void A_directory_with_files_of_somebody_else_is_refused()
    {
        File.WriteAllText(Path.Combine(_directory, "letter.txt"), "hello");
        Assert.That(Assert.Throws<ConfigurationException>(() => Acquire("one", 1).Dispose())!.Setting, Is.EqualTo("DataDirectory"));
        Assert.That(Directory.GetFiles(_directory), Has.Length.EqualTo(1));
    }

    [Test]
    public void Every_damaged_byte_of_the_marker_is_noticed()
    {
        Acquire("one", 1).Dispose();
        byte[] whole = File.ReadAllBytes(MarkerPath);
        for (int at = 0; at < whole.Length; at++)
        {
            byte[] damaged = [.. whole];
            damaged[at] ^= 0x10;
            File.WriteAllBytes(MarkerPath, damaged);
            Assert.Throws<CorruptionException>(() => Acquire("one", 1).Dispose(), $"byte {at}");
            File.WriteAllBytes(MarkerPath, whole[..at]);
            Assert.Throws<CorruptionException>(() => Acquire("one", 1).Dispose(), $"cut at {at}");
        }
    }

    private string MarkerPath => Path.Combine(_directory, EngineMarker.FileName);

    private IDisposable Acquire(string engine, uint version) => EngineMarker.Acquire(PhysicalFileSystem.Instance, _directory, engine, version);
}
