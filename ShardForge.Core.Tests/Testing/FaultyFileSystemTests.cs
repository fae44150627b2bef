using System.Runtime.InteropServices;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Testing;

namespace ShardForge.Tests.Testing;

/// <summary>What a power cut of the faulty file system may and may not do.</summary>
[TestFixture(false)]
[TestFixture(true)]
public sealed class FaultyFileSystemTests(bool overRealFiles)
{
    private const int SeedCount = 60;
    private readonly List<string> _folders = [];

    [TearDown]
    public void RemoveFolders()
    {
        foreach (string folder in _folders.Where(Directory.Exists))
            Directory.Delete(folder, recursive: true);
    }

    [Test]
    public void What_was_flushed_is_there_after_a_power_cut()
    {
        ForEachSeed((files, root, _) =>
        {
            WriteFlushed(files, root, "a", Filled(10_000, 1));
            files.FlushDirectory(root);
            return () => Assert.That(Read(files, root, "a"), Is.EqualTo(Filled(10_000, 1)));
        });
    }

    [Test]
    public void What_was_flushed_into_the_successor_of_a_file_with_unflushed_bytes_is_there()
    {
        ForEachSeed((files, root, _) =>
        {
            string path = Path.Combine(root, "a");
            WriteFlushed(files, root, "a", Filled(100, 1));
            using (IFile old = files.Open(path, FileOpenMode.ReadWrite))
                old.Write(Filled(5000, 2), 0);
            WriteFlushed(files, root, "new", Filled(100, 3));
            files.Rename(Path.Combine(root, "new"), path);
            files.FlushDirectory(root);
            IFile successor = files.Open(path, FileOpenMode.ReadWrite);
            successor.Write(Filled(9000, 4), 0);
            successor.Flush();
            return () => Assert.That(Read(files, root, "a"), Is.EqualTo(Filled(9000, 4)));
        });
    }

    [Test]
    public void Each_unflushed_sector_is_kept_lost_or_torn()
    {
        HashSet<string> fates = [];
        ForEachSeed((files, root, _) =>
        {
            WriteFlushed(files, root, "a", Filled(16_384, 1));
            files.FlushDirectory(root);
            IFile file = files.Open(At(root, "a"), FileOpenMode.ReadWrite);
            file.Write(Filled(8_192, 2), 4_096);
            return () =>
            {
                byte[] bytes = Read(files, root, "a");
                Assert.That(bytes, Has.Length.EqualTo(16_384));
                Assert.That(bytes.AsSpan(0, 4_096).ContainsAnyExcept((byte)1), Is.False);
                Assert.That(bytes.AsSpan(12_288).ContainsAnyExcept((byte)1), Is.False);
                for (int sector = 4_096; sector < 12_288; sector += 512)
                {
                    ReadOnlySpan<byte> part = bytes.AsSpan(sector, 512);
                    int kept = part.IndexOf((byte)1) is >= 0 and int at ? at : 512;
                    Assert.That(part[kept..].ContainsAnyExcept((byte)1), Is.False, "torn once, from the front");
                    fates.Add(kept == 512 ? "kept" : kept == 0 ? "lost" : "torn");
                }
            };
        });
        Assert.That(fates, Is.EquivalentTo(new[] { "kept", "lost", "torn" }));
    }

    [Test]
    public void An_unflushed_length_ends_somewhere_between_old_and_new()
    {
        HashSet<int> lengths = [];
        ForEachSeed((files, root, _) =>
        {
            WriteFlushed(files, root, "a", Filled(1_000, 1));
            files.FlushDirectory(root);
            IFile file = files.Open(At(root, "a"), FileOpenMode.ReadWrite);
            file.Write(Filled(9_000, 2), 1_000);
            return () =>
            {
                byte[] bytes = Read(files, root, "a");
                Assert.That(bytes.Length, Is.InRange(1_000, 10_000));
                Assert.That(bytes.AsSpan(0, 1_000).ContainsAnyExcept((byte)1), Is.False);
                Assert.That(bytes.AsSpan(1_000).ContainsAnyExcept((byte)2, (byte)0), Is.False, "zeros where nothing was written");
                lengths.Add(bytes.Length);
            };
        });
        Assert.That(lengths, Has.Count.GreaterThan(5).And.Contains(1_000).And.Contains(10_000));
    }

    [Test]
    public void A_truncation_that_was_not_flushed_may_be_undone()
    {
        HashSet<string> outcomes = [];
        ForEachSeed((files, root, _) =>
        {
            WriteFlushed(files, root, "a", Filled(5_000, 1));
            files.FlushDirectory(root);
            files.Open(At(root, "a"), FileOpenMode.CreateOrTruncate).Dispose();
            return () =>
            {
                byte[] bytes = Read(files, root, "a");
                Assert.That(bytes.AsSpan().ContainsAnyExcept((byte)1, (byte)0), Is.False);
                outcomes.Add(bytes.Length == 0 ? "gone" : bytes.Length == 5_000 && !bytes.AsSpan().Contains((byte)0) ? "whole" : "part");
            };
        });
        Assert.That(outcomes, Is.EquivalentTo(new[] { "gone", "whole", "part" }));
    }

    [Test]
    public void A_new_name_needs_the_flush_of_its_directory()
    {
        HashSet<bool> there = [];
        ForEachSeed((files, root, _) =>
        {
            WriteFlushed(files, root, "a", Filled(10, 1));
            return () =>
            {
                there.Add(files.FileExists(At(root, "a")));
                if (files.FileExists(At(root, "a")))
                    Assert.That(Read(files, root, "a"), Is.EqualTo(Filled(10, 1)));
            };
        });
        Assert.That(there, Has.Count.EqualTo(2));
    }

    [Test]
    public void A_rename_over_a_file_leaves_the_old_or_the_new_one()
    {
        HashSet<string> outcomes = [];
        ForEachSeed((files, root, _) =>
        {
            WriteFlushed(files, root, "a", Filled(10, 1));
            files.FlushDirectory(root);
            WriteFlushed(files, root, "a.new", Filled(10, 2));
            files.Rename(At(root, "a.new"), At(root, "a"));
            return () => outcomes.Add($"{Read(files, root, "a")[0]}{(files.FileExists(At(root, "a.new")) ? " and new" : "")}");
        });
        Assert.That(outcomes, Is.EquivalentTo(new[] { "1", "1 and new", "2" }));
    }

    [Test]
    public void A_deleted_file_may_come_back_with_its_bytes_until_the_directory_is_flushed()
    {
        HashSet<bool> back = [];
        ForEachSeed((files, root, seed) =>
        {
            WriteFlushed(files, root, "a", Filled(10, 1));
            files.FlushDirectory(root);
            files.Delete(At(root, "a"));
            if (seed % 2 == 0)
                files.FlushDirectory(root);
            return () =>
            {
                bool there = files.FileExists(At(root, "a"));
                Assert.That(there && seed % 2 == 0, Is.False);
                back.Add(there);
                if (there)
                    Assert.That(Read(files, root, "a"), Is.EqualTo(Filled(10, 1)));
            };
        });
        Assert.That(back, Has.Count.EqualTo(2));
    }

    [Test]
    public void Directories_and_what_is_in_them_go_and_come_as_one()
    {
        HashSet<string> outcomes = [];
        ForEachSeed((files, root, _) =>
        {
            files.CreateDirectory(At(root, "old"));
            files.FlushDirectory(root);
            WriteFlushed(files, At(root, "old"), "f", Filled(10, 1));
            files.FlushDirectory(At(root, "old"));
            files.RenameDirectory(At(root, "old"), At(root, "new"));
            WriteFlushed(files, At(root, "new"), "g", Filled(10, 2));
            files.DeleteDirectory(At(root, "none"));
            return () =>
            {
                string name = files.DirectoryExists(At(root, "new")) ? "new" : "old";
                Assert.That(Read(files, At(root, name), "f"), Is.EqualTo(Filled(10, 1)));
                outcomes.Add(name + (files.FileExists(At(At(root, name), "g")) ? " with g" : ""));
            };
        });
        Assert.That(outcomes, Is.SupersetOf(new[] { "new", "old", "new with g" }));
    }

    [Test]
    public void A_failed_flush_loses_the_pages_and_a_later_one_does_not_bring_them_back()
    {
        ForEachSeed((files, root, _) =>
        {
            WriteFlushed(files, root, "a", Filled(8_192, 1));
            files.FlushDirectory(root);
            using IFile file = files.Open(At(root, "a"), FileOpenMode.ReadWrite);
            file.Write(Filled(4_096, 2), 0);
            files.FailWhen(static operation => operation.Kind == FileOperationKind.Flush);
            Assert.Throws<IOException>(file.Flush);
            file.Write(Filled(4_096, 3), 4_096);
            file.Flush();
            byte[] seen = new byte[1];
            file.Read(seen, 0);
            Assert.That(seen[0], Is.EqualTo(2), "the page reads back");
            return () =>
            {
                byte[] bytes = Read(files, root, "a");
                Assert.That(bytes[..4_096], Is.EqualTo(Filled(4_096, 1)));
                Assert.That(bytes[4_096..], Is.EqualTo(Filled(4_096, 3)));
            };
        });
    }

    [Test]
    public void What_is_stored_through_a_map_is_durable_with_the_next_flush_only()
    {
        HashSet<byte> seen = [];
        ForEachSeed((files, root, _) =>
        {
            IFile file = files.Open(At(root, "a"), FileOpenMode.CreateNew);
            file.Preallocate(8_192);
            IMappedRegion region = file.Map(8_192);
            Marshal.WriteByte(region.Address, 5, 1);
            file.Flush();
            files.FlushDirectory(root);
            Marshal.WriteByte(region.Address, 5, 2);
            return () =>
            {
                byte found = Read(files, root, "a")[5];
                seen.Add(found);
                Marshal.WriteByte(region.Address, 5, 77);
                Assert.That(Read(files, root, "a")[5], Is.EqualTo(found), "a map from before the cut reaches nothing");
                Assert.That(() => file.Write([1], 0), Throws.InstanceOf<IOException>());
                region.Dispose();
                file.Dispose();
            };
        });
        Assert.That(seen, Is.EquivalentTo(new byte[] { 1, 2 }));
    }

    [Test]
    public void Handles_and_locks_end_with_the_power()
    {
        (FaultyFileSystem files, string root) = New();
        IDisposable? held = files.TryLock(At(root, "LOCK"));
        IFile file = files.Open(At(root, "a"), FileOpenMode.CreateNew);
        files.PowerOff();
        Assert.Throws<IOException>(() => file.Write([1], 0));
        Assert.Throws<IOException>(() => files.FileExists(root));
        files.PowerOn(seed: 1);
        Assert.Throws<IOException>(() => file.Write([1], 0));
        using IDisposable? again = files.TryLock(At(root, "LOCK"));
        Assert.That(again, Is.Not.Null);
        held!.Dispose();
        Assert.That(files.TryLock(At(root, "LOCK")), Is.Null, "disposing a lock of the former life does not release the new one");
        file.Dispose();
    }

    [Test]
    public void The_n_th_operation_fails_once_and_operations_are_told_as_lines()
    {
        (FaultyFileSystem files, string root) = New();
        using IFile file = files.Open(At(root, "a"), FileOpenMode.CreateNew);
        files.KeepsLog = true;
        files.FailAt(2, FileFault.Denied);
        file.Write([1, 2], 0);
        Assert.Throws<UnauthorizedAccessException>(file.Flush);
        file.Flush();
        files.FailAt(1, FileFault.DiskFull);
        IOException full = Assert.Throws<IOException>(() => file.Write([3, 4], 2))!;
        Assert.That(DiskErrors.IsDiskFull(full));
        Assert.That(file.Length, Is.EqualTo(3), "half of the write was done");
        files.FlushDirectory(root);
        Assert.That(files.TakeLog().Take(4), Is.EqualTo(new[] { "write a 0+2", "flush a fails", "flush a", "write a 2+2 fails" }));
    }

    [Test]
    public void A_full_disk_refuses_growth_and_nothing_else()
    {
        if (overRealFiles)
            Assert.Ignore("Only files in memory have a capacity.");
        (FaultyFileSystem files, string root) = New();
        files.CapacityBytes = 10_000;
        using IFile file = files.Open(At(root, "a"), FileOpenMode.CreateNew);
        file.Preallocate(9_000);
        Assert.That(DiskErrors.IsDiskFull(Assert.Throws<IOException>(() => file.Write(Filled(2_000, 1), 8_500))!));
        file.Write(Filled(2_000, 1), 7_000);
        Assert.That(files.GetFreeBytes(root), Is.EqualTo(1_000));
        files.Delete(At(root, "a"));
        files.FlushDirectory(root);
        Assert.That(files.GetFreeBytes(root), Is.EqualTo(10_000));
    }

    [Test]
    public void Nothing_is_remembered_of_what_is_durable()
    {
        (FaultyFileSystem files, string root) = New();
        for (int i = 0; i < 50; i++)
        {
            WriteFlushed(files, root, "a.new", Filled(100, (byte)i));
            files.Rename(At(root, "a.new"), At(root, "a"));
            files.FlushDirectory(root);
        }

        Assert.That(files.RememberedCount, Is.Zero);
    }

    private static string At(string root, string name) => Path.Combine(root, name);

    private static byte[] Filled(int bytes, byte value)
    {
        byte[] filled = new byte[bytes];
        filled.AsSpan().Fill(value);
        return filled;
    }

    private static void WriteFlushed(FaultyFileSystem files, string root, string name, byte[] bytes)
    {
        using IFile file = files.Open(At(root, name), FileOpenMode.CreateNew);
        file.Write(bytes, 0);
        file.Flush();
    }

    private static byte[] Read(FaultyFileSystem files, string root, string name)
    {
        using IFile file = files.Open(At(root, name), FileOpenMode.Read);
        byte[] bytes = new byte[file.Length];
        file.Read(bytes, 0);
        return bytes;
    }

    // Prepares, cuts the power, checks; the seed of a failure is in its message.
    private void ForEachSeed(Func<FaultyFileSystem, string, int, Action> prepare)
    {
        for (int seed = 1; seed <= SeedCount; seed++)
        {
            (FaultyFileSystem files, string root) = New();
            Action check = prepare(files, root, seed);
            try
            {
                files.PowerCut(seed);
                check();
            }
            catch (Exception error) when (error is not AssertionException)
            {
                throw new AssertionException($"seed {seed}: {error}", error);
            }
        }
    }

    private (FaultyFileSystem Files, string Root) New()
    {
        string root = Path.Combine(Path.GetTempPath(), "shardforge-faulty-" + Guid.NewGuid().ToString("N"));
        _folders.Add(root);
        _folders.Add(root + "-lost");
        FaultyFileSystem files = overRealFiles ? new(PhysicalFileSystem.Instance, root + "-lost", flushInner: false) : new();
        files.CreateDirectory(root);
        files.FlushDirectory(Path.GetDirectoryName(root)!);
        if (Path.GetDirectoryName(Path.GetDirectoryName(root)) is { } above)
            files.FlushDirectory(above);
        return (files, root);
    }
}
