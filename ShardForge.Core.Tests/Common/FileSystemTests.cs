using System.Runtime.InteropServices;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Testing;

namespace ShardForge.Tests.Common;

/// <summary>What every file system does, the real one, the one in memory and the faulty one over each.</summary>
[TestFixture("physical")]
[TestFixture("memory")]
[TestFixture("faulty over memory")]
[TestFixture("faulty over physical")]
public sealed class FileSystemTests(string kind)
{
    private string _root = "";
    private IFileSystem _files = new InMemoryFileSystem();

    [SetUp]
    public void Open()
    {
        _root = Path.Combine(Path.GetTempPath(), "shardforge-files-" + Guid.NewGuid().ToString("N"));
        _files = kind switch
        {
            "physical" => PhysicalFileSystem.Instance,
            "memory" => new InMemoryFileSystem(),
            "faulty over memory" => new FaultyFileSystem(),
            _ => new FaultyFileSystem(PhysicalFileSystem.Instance, _root + "-lost", flushInner: false),
        };
        _files.CreateDirectory(_root);
    }

    [TearDown]
    public void Close()
    {
        foreach (string directory in new[] { _root, _root + "-lost" })
        {
            if (Directory.Exists(directory))
                Directory.Delete(directory, recursive: true);
        }
    }

    [Test]
    public void Bytes_written_at_a_place_are_read_there_and_gaps_are_zero()
    {
        using IFile file = _files.Open(At("a"), FileOpenMode.CreateNew);
        byte[] bytes = [.. Enumerable.Range(0, 200_000).Select(static i => (byte)(i * 7))];
        file.Write(bytes, 70_000);
        byte[] read = new byte[300_000];
        Assert.That(file.Read(read, 0), Is.EqualTo(270_000));
        Assert.That(read.AsSpan(0, 70_000).ContainsAnyExcept((byte)0), Is.False);
        Assert.That(read.AsSpan(70_000, 200_000).SequenceEqual(bytes));
        Assert.That(file.Read(read, 270_000), Is.Zero);
        Assert.That(file.Read(read, 400_000), Is.Zero);
        file.Flush();
    }

    [Test]
    public void What_was_cut_off_is_zero_when_the_file_grows_again()
    {
        using IFile file = _files.Open(At("a"), FileOpenMode.CreateNew);
        file.Write(Enumerable.Repeat((byte)9, 200_000).ToArray(), 0);
        file.SetLength(1_000);
        file.Preallocate(100_000);
        byte[] read = new byte[100_000];
        Assert.That(file.Read(read, 0), Is.EqualTo(100_000));
        Assert.That(read.AsSpan(0, 1_000).ContainsAnyExcept((byte)9), Is.False);
        Assert.That(read.AsSpan(1_000).ContainsAnyExcept((byte)0), Is.False);
    }

    [Test]
    public void Modes_of_opening_are_kept()
    {
        Assert.Throws<FileNotFoundException>(() => _files.Open(At("a"), FileOpenMode.Read));
        Assert.Throws<FileNotFoundException>(() => _files.Open(At("a"), FileOpenMode.ReadWrite));
        Assert.Throws<DirectoryNotFoundException>(() => _files.Open(At("no/a"), FileOpenMode.CreateNew));
        Write("a", 1, 2, 3);
        Assert.Throws<IOException>(() => _files.Open(At("a"), FileOpenMode.CreateNew));
        using (IFile file = _files.Open(At("a"), FileOpenMode.Read))
            Assert.That(() => file.Write([1], 0), Throws.InstanceOf<UnauthorizedAccessException>().Or.InstanceOf<IOException>());
        Assert.That(Read("a"), Is.EqualTo(new byte[] { 1, 2, 3 }));
        _files.Open(At("a"), FileOpenMode.CreateOrTruncate).Dispose();
        Assert.That(Read("a"), Is.Empty);
    }

    [Test]
    public void A_rename_replaces_and_a_link_shares_the_content()
    {
        Write("a", 1);
        Write("b", 2);
        _files.HardLink(At("a"), At("c"));
        Assert.Throws<IOException>(() => _files.HardLink(At("a"), At("b")));
        _files.Rename(At("a"), At("b"));
        Assert.That(_files.FileExists(At("a")), Is.False);
        Assert.That(Read("b"), Is.EqualTo(new byte[] { 1 }));
        using (IFile file = _files.Open(At("c"), FileOpenMode.ReadWrite))
            file.Write([7], 0);
        Assert.That(Read("b"), Is.EqualTo(new byte[] { 7 }));
        _files.Delete(At("b"));
        _files.Delete(At("b"));
        Assert.That(Read("c"), Is.EqualTo(new byte[] { 7 }));
        Assert.Throws<FileNotFoundException>(() => _files.Rename(At("a"), At("d")));
    }

    [Test]
    public void Directories_are_created_listed_renamed_and_removed()
    {
        _files.CreateDirectory(At("x/y/z"));
        _files.CreateDirectory(At("x/y/z"));
        Write("x/y/f", 1);
        Write("x/y/g", 2);
        Assert.That(_files.ListFiles(At("x/y")), Is.EquivalentTo(new[] { At("x/y/f"), At("x/y/g") }));
        Assert.That(_files.ListDirectories(At("x/y")), Is.EqualTo(new[] { At("x/y/z") }));
        Assert.That(_files.ListFiles(At("none")), Is.Empty);
        _files.RenameDirectory(At("x/y"), At("w"));
        Assert.That(Read("w/g"), Is.EqualTo(new byte[] { 2 }));
        Assert.That(_files.DirectoryExists(At("x/y")), Is.False);
        _files.FlushDirectory(At("w"));
        _files.DeleteDirectory(At("w"));
        _files.DeleteDirectory(At("w"));
        Assert.That(_files.DirectoryExists(At("w")), Is.False);
        Assert.That(_files.ListDirectories(_root), Is.EqualTo(new[] { At("x") }));
    }

    [Test]
    public void An_open_file_outlives_its_name()
    {
        using IFile file = _files.Open(At("a"), FileOpenMode.CreateNew);
        file.Write([5], 0);
        _files.Delete(At("a"));
        byte[] read = new byte[1];
        Assert.That(file.Read(read, 0), Is.EqualTo(1));
        Assert.That(read[0], Is.EqualTo(5));
        Write("a", 6);
        file.Read(read, 0);
        Assert.That(read[0], Is.EqualTo(5));
    }

    [Test]
    public void A_lock_keeps_a_second_owner_out_until_it_is_released()
    {
        using (IDisposable? held = _files.TryLock(At("LOCK")))
        {
            Assert.That(held, Is.Not.Null);
            Assert.That(_files.TryLock(At("LOCK")), Is.Null);
        }

        using IDisposable? again = _files.TryLock(At("LOCK"));
        Assert.That(again, Is.Not.Null);
    }

    [Test]
    public void A_map_and_the_file_are_the_same_bytes()
    {
        using IFile file = _files.Open(At("a"), FileOpenMode.CreateNew);
        file.Preallocate(200_000);
        file.Write([1, 2, 3], 100);
        using (IMappedRegion region = file.Map(150_000))
        {
            Assert.That(Marshal.ReadByte(region.Address, 101), Is.EqualTo(2));
            Marshal.WriteByte(region.Address, 149_999, 42);
            file.Write([9], 149_998);
            Assert.That(Marshal.ReadByte(region.Address, 149_998), Is.EqualTo(9));
            file.Flush();
        }

        byte[] read = new byte[200_000];
        Assert.That(file.Read(read, 0), Is.EqualTo(200_000));
        Assert.That(read[149_999], Is.EqualTo(42));
        Assert.That(read[101], Is.EqualTo(2));
    }

    private string At(string name) => Path.Combine(_root, name);

    private void Write(string name, params byte[] bytes)
    {
        using IFile file = _files.Open(At(name), FileOpenMode.CreateNew);
        file.Write(bytes, 0);
    }

    private byte[] Read(string name)
    {
        using IFile file = _files.Open(At(name), FileOpenMode.Read);
        byte[] bytes = new byte[file.Length];
        file.Read(bytes, 0);
        return bytes;
    }
}
