using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;
using ShardForge.Testing;
using Log = ShardForge.Consensus.NodeLog.NodeLog;

namespace ShardForge.Tests.Consensus.NodeLog;

/// <summary>A node log over faulty files in memory, with small segments and one order of file operations.</summary>
internal sealed class LogFixture : IAsyncDisposable
{
    public const string Directory = "/data/log";
    private readonly NodeLogOptions _options;
    private int _flushCount;

    public LogFixture(NodeLogOptions? options = null, FaultyFileSystem? files = null)
    {
        NodeLogOptions given = options ?? new() { SegmentBytes = 64 * 1024 };
        _options = given with
        {
            FirstSegmentBytes = Math.Min(given.FirstSegmentBytes, 64 * 1024),
            BatchBytesMax = Math.Min(given.BatchBytesMax, 256 * 1024),
            PreparesInBackground = false,
            IdleDelay = options is { IdleDelay.TotalMilliseconds: 1 } ? options.IdleDelay : Timeout.InfiniteTimeSpan,
            FullDiskRetryDelay = TimeSpan.FromMilliseconds(5),
            NewLogId = new Guid("00112233-4455-6677-8899-aabbccddeeff"),
        };
        Files = files ?? new();
        Files.BeforeOperation = operation => _flushCount += operation.Kind == FileOperationKind.Flush ? 1 : 0;
        if (files is null)
        {
            Files.CreateDirectory("/data");
            Files.FlushDirectory("/");
        }

        Log = Open();
    }

    public FaultyFileSystem Files { get; }

    public Log Log { get; private set; }

    public int FlushCount => Volatile.Read(ref _flushCount);

    public int SegmentCount => Files.ListFiles(Directory).Count(static path => path.EndsWith(".seg", StringComparison.Ordinal));

    public IReplicaLog Replica(ulong id) => Log.Replicas.Single(replica => replica.Replica.Value == id);

    public async Task<IReplicaLog> CreateAsync(ulong id) => await Log.CreateReplicaAsync(new(id), new[] { (byte)id }, new byte[] { 1, 0, 0 });

    public async Task ReopenAsync()
    {
        await Log.DisposeAsync();
        Log = Open();
    }

    public async Task KillAndReopenAsync()
    {
        await Log.KillAsync();
        Log = Open();
    }

    public async Task CutPowerAndReopenAsync(int seed)
    {
        Files.PowerOff();
        await Log.KillAsync();
        Files.PowerOn(seed);
        Log = Open();
    }

    public void Reopen() => Log = Open();

    public byte[] ReadAll(string path)
    {
        using IFile file = Files.Open(path, FileOpenMode.Read);
        byte[] bytes = new byte[file.Length];
        file.Read(bytes, 0);
        return bytes;
    }

    public void Write(string path, long offset, byte[] bytes)
    {
        using IFile file = Files.Open(path, FileOpenMode.ReadWrite);
        file.Write(bytes, offset);
        file.Flush();
    }

    public void Flip(string path, long offset)
    {
        using IFile file = Files.Open(path, FileOpenMode.ReadWrite);
        byte[] one = new byte[1];
        file.Read(one, offset);
        one[0] ^= 0x10;
        file.Write(one, offset);
        file.Flush();
    }

    public static void AssertPayload(IReplicaLog log, long index, byte[] payload)
    {
        using ReplicaLogLease lease = log.Read(new(index), new(index), long.MaxValue);
        Assert.That(lease.Entries.Span[0].Payload.Span.SequenceEqual(payload));
    }

    public Log Open() => Log.Open(Files, Directory, _options);

    public async Task UntilAsync(Func<bool> holds, string what)
    {
        using CancellationTokenSource deadline = new(TimeSpan.FromSeconds(20));
        while (!holds())
        {
            Assert.That(deadline.IsCancellationRequested, Is.False, what);
            await Task.Yield();
        }
    }

    public static byte[] Payload(int number, int bytes)
    {
        byte[] payload = new byte[bytes];
        for (int i = 0; i < bytes; i++)
            payload[i] = (byte)((number * 31) + i);
        return payload;
    }

    /// <summary>Entries of (term, first byte of the payload).</summary>
    public static ReplicaLogEntry[] Entries(params (long Term, byte Value)[] entries) =>
        [.. entries.Select(static entry => new ReplicaLogEntry(new(entry.Term), RaftEntryKind.Command, new[] { entry.Value }))];

    /// <summary>All entries as term:first byte.</summary>
    public static string Describe(IReplicaLog log)
    {
        if (log.LastIndex == log.CompactedIndex)
            return "";
        using ReplicaLogLease lease = log.Read(log.CompactedIndex.Next, log.LastIndex, long.MaxValue);
        return string.Join(' ', lease.Entries.ToArray().Select(static entry => $"{entry.Term}:{(entry.Payload.IsEmpty ? "-" : entry.Payload.Span[0].ToString())}"));
    }

    public static void AssertPayloads(IReplicaLog log, int bytes)
    {
        if (log.LastIndex == log.CompactedIndex)
            return;
        using ReplicaLogLease lease = log.Read(log.CompactedIndex.Next, log.LastIndex, long.MaxValue);
        Assert.That(lease.Entries.Length, Is.EqualTo(log.LastIndex.Value - log.CompactedIndex.Value));
        for (int i = 0; i < lease.Entries.Length; i++)
            Assert.That(lease.Entries.Span[i].Payload.Span.SequenceEqual(Payload((int)log.CompactedIndex.Value + 1 + i, bytes)), $"entry {log.CompactedIndex.Value + 1 + i}");
    }

    public async ValueTask DisposeAsync() => await Log.DisposeAsync();
}
