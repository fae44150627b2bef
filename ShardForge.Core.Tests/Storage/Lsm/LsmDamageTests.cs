using System.Buffers;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;
using ShardForge.Storage.Lsm.Wal;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>Every byte of a small database changed, every file cut at every length: the right answer or a typed error, never a wrong one.</summary>
/// <remarks>SHARDFORGE_LONG=1 takes every byte; else every few, with another start in each file.</remarks>
[Parallelizable(ParallelScope.Children)]
internal sealed class LsmDamageTests
{
    private const string Root = "/db";
    private static readonly LsmOptions s_options = TinyLsm.Options with { BlockBytes = 256, MemtableBytes = 16 * 1024 };

    private static int Step => Environment.GetEnvironmentVariable("SHARDFORGE_LONG") == "1" ? 1 : 13;

    [Test]
    public async Task A_changed_byte_is_noticed_or_does_not_matter([Values] bool closed)
    {
        (Dictionary<string, byte[]> files, SortedDictionary<string, string> expected) = await BuildAsync(closed);
        using StorageResources resources = new(new StorageResourceOptions { BackgroundJobs = 1, BlockCacheBytes = 1 << 20 });
        int noticed = 0, tried = 0;
        foreach ((string name, byte[] bytes) in files)
        {
            // Behind a log's records anything may lie: a file that is used again is not cleared.
            long end = name.EndsWith(".log", StringComparison.Ordinal) ? Math.Min(bytes.Length, FindEnd(name, bytes).End + 64) : bytes.Length;
            for (int at = name.Length % Step; at < end; at += Step)
            {
                foreach (byte change in new byte[] { 0x01, 0x80 })
                {
                    Dictionary<string, byte[]> damaged = new(files) { [name] = (byte[])bytes.Clone() };
                    damaged[name][at] ^= change;
                    tried++;
                    if (!await OpensRightAsync(damaged, expected, resources, $"{name} byte {at} ^ {change:x2}"))
                        noticed++;
                }
            }
        }

        Assert.That(noticed, Is.GreaterThan(tried / 2));
    }

    [Test]
    public async Task A_file_cut_short_is_noticed_or_does_not_matter()
    {
        (Dictionary<string, byte[]> files, SortedDictionary<string, string> expected) = await BuildAsync(closed: true);
        using StorageResources resources = new(new StorageResourceOptions { BackgroundJobs = 1, BlockCacheBytes = 1 << 20 });
        foreach ((string name, byte[] bytes) in files)
        {
            for (int length = name.Length % Step; length < bytes.Length; length += Step)
            {
                Dictionary<string, byte[]> damaged = new(files) { [name] = bytes[..length] };
                await OpensRightAsync(damaged, expected, resources, $"{name} of {length} bytes");
            }

            Dictionary<string, byte[]> missing = new(files);
            missing.Remove(name);
            await OpensRightAsync(missing, expected, resources, $"without {name}");
        }
    }

    [Test]
    public async Task A_newer_format_is_refused_and_nothing_changes()
    {
        (Dictionary<string, byte[]> files, SortedDictionary<string, string> expected) = await BuildAsync(closed: true);
        using StorageResources resources = new(new StorageResourceOptions { BackgroundJobs = 1 });
        foreach ((string name, int at, int crcAt) in new[] { ("CURRENT", 8, 28), ("MANIFEST-000001", 8, 28) })
        {
            Dictionary<string, byte[]> newer = new(files) { [name] = (byte[])files[name].Clone() };
            newer[name][at] = 9;
            BitConverter.TryWriteBytes(newer[name].AsSpan(crcAt), Crc32C.Compute(newer[name].AsSpan(0, crcAt)));
            InMemoryFileSystem fileSystem = Fill(newer);
            ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(async () => await OpenAsync(fileSystem, resources));
            Assert.That(error!.Setting, Is.EqualTo("DataDirectory"));
            Assert.That(Take(fileSystem).Where(file => file.Key != "LOCK"), Is.EquivalentTo(newer.Where(file => file.Key != "LOCK")));
        }

        Assert.That(await OpensRightAsync(files, expected, resources, "as it was"));
    }

    private static async Task<bool> OpensRightAsync(Dictionary<string, byte[]> files, SortedDictionary<string, string> expected, StorageResources resources, string what)
    {
        try
        {
            await using IStorageEngine engine = await OpenAsync(Fill(files), resources);
            CheckSame(engine, expected, what);
            await engine.CompactAsync();
            CheckSame(engine, expected, what + ", compacted");
            return true;
        }
        catch (Exception error) when (error is CorruptionException or ConfigurationException)
        {
            return false;
        }
        catch (ShardForgeException error) when (error.InnerException is CorruptionException)
        {
            // The background met it first.
            return false;
        }
        catch (Exception error) when (error is not AssertionException)
        {
            Assert.Fail($"{what}: {error}");
            throw;
        }
    }

    private static void CheckSame(IStorageEngine engine, SortedDictionary<string, string> expected, string what)
    {
        SortedDictionary<string, string> found = new(StringComparer.Ordinal);
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        while (iterator.MoveNext())
            found.Add(Convert.ToHexString(iterator.Key), Convert.ToHexString(iterator.Value));
        Assert.That(found.SequenceEqual(expected), $"{what}: scan");
        ArrayBufferWriter<byte> value = new();
        foreach ((string key, string wanted) in expected)
        {
            value.ResetWrittenCount();
            Assert.That(engine.TryGet(Convert.FromHexString(key), value), $"{what}: {key} is missing");
            Assert.That(Convert.ToHexString(value.WrittenSpan), Is.EqualTo(wanted), $"{what}: {key}");
        }
    }

    private static ValueTask<IStorageEngine> OpenAsync(InMemoryFileSystem files, StorageResources? resources) =>
        StorageEngines.Lsm(s_options).OpenAsync(new StorageEngineContext { Directory = Root, FileSystem = files, Resources = resources });

    private static async Task<(Dictionary<string, byte[]> Files, SortedDictionary<string, string> Expected)> BuildAsync(bool closed)
    {
        InMemoryFileSystem fileSystem = new();
        SortedDictionary<string, string> expected = new(StringComparer.Ordinal);
        Dictionary<string, byte[]> files;
        await using (IStorageEngine engine = await OpenAsync(fileSystem, null))
        {
            for (int round = 0; round < 3; round++)
            {
                for (int number = 0; number < 20; number++)
                {
                    byte[] key = [(byte)'k', (byte)((number * 7) % 30), 0], value = new byte[10 + number];
                    value.AsSpan().Fill((byte)(round + number));
                    await engine.PutAsync(key, value);
                    expected[Convert.ToHexString(key)] = Convert.ToHexString(value);
                }

                if (round == 0)
                    await engine.CompactAsync();
                if (round == 1)
                {
                    StorageBatch batch = new();
                    batch.DeleteRange("k\x05"u8, "k\x09"u8);
                    await engine.WriteAsync(batch);
                    foreach (string key in expected.Keys.Where(key => string.CompareOrdinal(key, "6B05") >= 0 && string.CompareOrdinal(key, "6B09") < 0).ToArray())
                        expected.Remove(key);

                    // A checkpoint flushes the memtable; FlushAsync would flush the log only.
                    await engine.CheckpointAsync("/copy");
                    await IngestAsync((ILsmEngine)engine, fileSystem, expected);
                }
            }

            // The promise behind the last flush comes when the log falls idle.
            using CancellationTokenSource deadline = new(TimeSpan.FromSeconds(20));
            while (!fileSystem.ListFiles(Root).Any(path => path.EndsWith(".log", StringComparison.Ordinal) && FindEnd(path, Read(fileSystem, path)).LastKind == LogRecordKind.Promise))
            {
                deadline.Token.ThrowIfCancellationRequested();
                await Task.Yield();
            }

            files = Take(fileSystem);
        }

        return (closed ? Take(fileSystem) : files, expected);
    }

    private static async Task IngestAsync(ILsmEngine engine, InMemoryFileSystem fileSystem, SortedDictionary<string, string> expected)
    {
        fileSystem.CreateDirectory("/out");
        using (LsmTableWriter writer = new("/out/table.sst", s_options, fileSystem))
        {
            for (byte number = 0; number < 8; number++)
            {
                writer.Put([(byte)'z', number], [number, number]);
                expected[Convert.ToHexString([(byte)'z', number])] = Convert.ToHexString([number, number]);
            }

            writer.Finish();
        }

        await engine.IngestAsync(["/out/table.sst"]);
    }

    /// <summary>Where the records of a log end, and of what kind the last one is. What comes behind was never written.</summary>
    private static (long End, LogRecordKind? LastKind) FindEnd(string path, byte[] bytes)
    {
        ulong number = ulong.Parse(Path.GetFileNameWithoutExtension(path), System.Globalization.CultureInfo.InvariantCulture);
        if (!LogFormat.TryReadHeader(path, bytes, number))
            return (0, null);
        long end = LogFormat.HeaderBytes;
        LogRecordKind? last = null;
        while (LogFormat.TryReadRecord(bytes, number, end, out LogRecord record))
        {
            last = record.Kind;
            end += LogFormat.RecordBytes(record.Payload.Length);
        }

        return (end, last);
    }

    private static InMemoryFileSystem Fill(Dictionary<string, byte[]> files)
    {
        InMemoryFileSystem fileSystem = new();
        fileSystem.CreateDirectory(Root);
        foreach ((string name, byte[] bytes) in files)
        {
            using IFile file = fileSystem.Open(Path.Combine(Root, name), FileOpenMode.CreateNew);
            file.Write(bytes, 0);
        }

        return fileSystem;
    }

    private static Dictionary<string, byte[]> Take(InMemoryFileSystem fileSystem)
    {
        Dictionary<string, byte[]> files = new(StringComparer.Ordinal);
        foreach (string path in fileSystem.ListFiles(Root))
            files.Add(Path.GetFileName(path), Read(fileSystem, path));
        return files;
    }

    private static byte[] Read(InMemoryFileSystem fileSystem, string path)
    {
        using IFile file = fileSystem.Open(path, FileOpenMode.Read);
        byte[] bytes = new byte[file.Length];
        file.Read(bytes, 0);
        return bytes;
    }
}
