using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus.NodeLog;
using ShardForge.Testing;

namespace ShardForge.Tests.Consensus.NodeLog;

/// <summary>Whose a data directory is, and who may open it.</summary>
public sealed class DataDirectoryTests
{
    private static readonly NodeLogOptions s_options = new() { FirstSegmentBytes = 64 * 1024, PreparesInBackground = false };
    private FaultyFileSystem _files = new();

    [SetUp]
    public void Begin() => _files = new();

    [Test]
    public async Task R38_the_instance_id_stays_and_the_open_count_rises()
    {
        Guid instance, cluster = Guid.NewGuid();
        await using (DataDirectory directory = await OpenAsync())
        {
            instance = directory.Identity.InstanceId;
            Assert.That(directory.Identity.OpenCount, Is.EqualTo(1));
            Assert.That(directory.Identity.ClusterId, Is.EqualTo(Guid.Empty));
            directory.SetClusterId(cluster);
        }

        await using (DataDirectory directory = await OpenAsync())
        {
            Assert.That(directory.Identity.InstanceId, Is.EqualTo(instance).And.Not.EqualTo(Guid.Empty));
            Assert.That(directory.Identity.OpenCount, Is.EqualTo(2));
            Assert.That(directory.Identity.ClusterId, Is.EqualTo(cluster));
        }
    }

    [Test]
    public async Task R38_the_open_count_survives_a_power_cut_right_after_the_open()
    {
        for (int seed = 1; seed <= 30; seed++)
        {
            FaultyFileSystem files = new();
            for (int open = 1; open <= 3; open++)
            {
                DataDirectory directory = await DataDirectory.OpenAsync(files, "/data", "n1", "c", "Lsm", s_options);
                Assert.That(directory.Identity.OpenCount, Is.EqualTo(open), $"seed {seed}");
                files.PowerOff();
                await directory.KillAsync();
                files.PowerOn(seed);
            }
        }
    }

    [Test]
    public async Task A_crash_at_any_operation_of_an_open_leaves_a_directory_that_opens()
    {
        for (int n = 1; ; n++)
        {
            FaultyFileSystem files = new();
            if (n % 2 == 0)
                await (await DataDirectory.OpenAsync(files, "/data", "n1", "c", "Lsm", s_options)).DisposeAsync();
            files.FailAt((n + 1) / 2, FileFault.PowerOff);
            bool opened = false;
            try
            {
                DataDirectory directory = await DataDirectory.OpenAsync(files, "/data", "n1", "c", "Lsm", s_options);
                opened = true;
                files.PowerOff();
                await directory.KillAsync();
            }
            catch (Exception error) when (error is IOException or ConfigurationException)
            {
                Assert.That(error, Is.Not.InstanceOf<FileNotFoundException>());
            }

            files.PowerOn(n);
            await (await DataDirectory.OpenAsync(files, "/data", "n1", "c", "Lsm", s_options)).DisposeAsync();
            if (opened && n > 60)
                break;
        }
    }

    [Test]
    public async Task A_directory_in_use_is_refused()
    {
        await using DataDirectory directory = await OpenAsync();
        Assert.That(Assert.ThrowsAsync<ConfigurationException>(() => OpenAsync())!.Setting, Is.EqualTo("DataDirectory"));
    }

    [TestCase("n2", "c", "Lsm", "DataDirectory")]
    [TestCase("n1", "d", "Lsm", "DataDirectory")]
    [TestCase("n1", "c", "Sqlite", "StorageEngine")]
    public async Task A_directory_of_another_node_cluster_or_engine_is_refused_and_left_as_it_is(string node, string cluster, string engine, string setting)
    {
        await (await OpenAsync()).DisposeAsync();
        _files.KeepsLog = true;
        ConfigurationException error = Assert.ThrowsAsync<ConfigurationException>(() => OpenAsync(node, cluster, engine))!;
        Assert.That(error.Setting, Is.EqualTo(setting));
        Assert.That(_files.TakeLog().Where(static line => !line.StartsWith("open", StringComparison.Ordinal)), Is.Empty);
        await using DataDirectory directory = await OpenAsync();
        Assert.That(directory.Identity.OpenCount, Is.EqualTo(2));
    }

    [Test]
    public async Task A_newer_format_is_refused_and_every_flipped_byte_noticed()
    {
        await (await OpenAsync()).DisposeAsync();
        byte[] bytes = ReadAll("/data/node");
        for (int at = 0; at < bytes.Length; at++)
        {
            byte[] damaged = [.. bytes];
            damaged[at] ^= 0x41;
            Replace("/data/node", damaged);
            Assert.ThrowsAsync<CorruptionException>(() => OpenAsync(), $"byte {at}");
        }

        byte[] newer = [.. bytes];
        newer[8] = 2;
        BitConverter.TryWriteBytes(newer.AsSpan(12), Crc32C.Append(Crc32C.Compute(newer.AsSpan(0, 12)), newer.AsSpan(16)));
        Replace("/data/node", newer);
        Assert.That(Assert.ThrowsAsync<ConfigurationException>(() => OpenAsync())!.Setting, Is.EqualTo("DataDirectory"));
    }

    [Test]
    public async Task A_directory_that_lost_its_log_or_its_identity_is_refused()
    {
        await using (DataDirectory directory = await OpenAsync())
            await directory.Log.CreateReplicaAsync(new(1), default, default);
        _files.Rename("/data/node", "/data/elsewhere");
        Assert.ThrowsAsync<CorruptionException>(() => OpenAsync());
        _files.Rename("/data/elsewhere", "/data/node");
        _files.DeleteDirectory("/data/log");
        Assert.ThrowsAsync<CorruptionException>(() => OpenAsync());
    }

    [Test]
    public async Task The_temporary_directory_is_emptied()
    {
        await (await OpenAsync()).DisposeAsync();
        _files.CreateDirectory("/data/tmp/x");
        await using DataDirectory directory = await OpenAsync();
        Assert.That(_files.DirectoryExists("/data/tmp/x"), Is.False);
    }

    private Task<DataDirectory> OpenAsync(string node = "n1", string cluster = "c", string engine = "Lsm") => DataDirectory.OpenAsync(_files, "/data", node, cluster, engine, s_options);

    private byte[] ReadAll(string path)
    {
        using IFile file = _files.Open(path, FileOpenMode.Read);
        byte[] bytes = new byte[file.Length];
        file.Read(bytes, 0);
        return bytes;
    }

    private void Replace(string path, byte[] bytes)
    {
        using IFile file = _files.Open(path, FileOpenMode.CreateOrTruncate);
        file.Write(bytes, 0);
    }
}
