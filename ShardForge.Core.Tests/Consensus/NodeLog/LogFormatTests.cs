using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using NUnit.Framework;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;

namespace ShardForge.Tests.Consensus.NodeLog;

/// <summary>The bytes of format version 1, for ever. <c>SHARDFORGE_REWRITE=1</c> writes the files anew; their difference is read like code.</summary>
public sealed class LogFormatTests
{
    [Test]
    public async Task A_segment_has_these_bytes()
    {
        await using LogFixture fixture = new(new() { SegmentBytes = 64 * 1024, FragmentBytes = 1024 });
        IReplicaLog log = await fixture.CreateAsync(1);
        await log.SetHardStateAsync(new(2), new(0x0102030405060708));
        log.TryAppend(new(2), RaftEntryKind.NoOp, default, out LogIndex index);
        await log.WaitDurableAsync(index);
        log.TryAppend(new(2), RaftEntryKind.Command, "hello"u8.ToArray(), out index);
        await log.WaitDurableAsync(index);
        await log.SetHardStateAsync(new(3), default);
        await log.AppendAsync(new(2), new[] { new ReplicaLogEntry(new(3), RaftEntryKind.Command, "x"u8.ToArray()) }, default);
        long before = fixture.Log.DurablePosition;
        log.Compact(new(1));
        await fixture.UntilAsync(() => fixture.Log.DurablePosition > before, "the mark is written");
        await log.ResetToSnapshotAsync(new(9), new(3), new byte[] { 0xCC }, generation: 2);
        log.TryAppend(new(3), RaftEntryKind.Command, new byte[1500], out index);
        await log.WaitDurableAsync(index);
        await fixture.CreateAsync(2);
        await fixture.Log.RemoveReplicaAsync(new(2));
        await fixture.Log.DisposeAsync();
        Compare("segment-v1.txt", Dump(fixture.ReadAll(LogFixture.Directory + "/0000000000000001.seg")) + "\n" + Hex("end file", fixture.ReadAll(LogFixture.Directory + "/end")));
        fixture.Reopen();
    }

    private static string Dump(byte[] segment)
    {
        StringBuilder text = new();
        LogSegmentHeader header = LogFormat.ReadHeader(segment, "segment");
        uint seed = LogFormat.Seed(header.LogId, header.Number);
        text.Append(Hex($"header: log {header.LogId}, number {header.Number}, {header.Bytes} bytes, from position {header.StartPosition}, batches up to {header.BatchBytesMax}", segment.AsSpan(0, 60)));
        for (int at = 4096; LogFormat.TryReadPromise(segment.AsSpan(at), seed, at, out LogPromise promise); at += (int)LogFormat.AlignUp(promise.BatchBytes))
        {
            text.Append(CultureInfo.InvariantCulture, $"\nbatch at {at}: {promise.BatchBytes} bytes, durable before it: {promise.Durable.Offset} of segment {promise.Durable.Segment}\n");
            for (int record = at; record < at + promise.BatchBytes;)
            {
                Assert.That(LogFormat.TryReadRecord(segment.AsSpan(record), seed, record, out LogRecordView view, out _));
                text.Append(Hex($"{record}: {view.Kind} of {view.Replica}", segment.AsSpan(record, view.RecordBytes)));
                record += view.RecordBytes;
            }
        }

        return text.ToString();
    }

    private static string Hex(string title, ReadOnlySpan<byte> bytes)
    {
        StringBuilder text = new(title + "\n");
        int zerosFrom = bytes.Length;
        while (zerosFrom > 0 && bytes[zerosFrom - 1] == 0)
            zerosFrom--;
        int shown = bytes.Length - zerosFrom > 64 ? zerosFrom : bytes.Length;
        for (int at = 0; at < shown; at += 32)
            text.Append("  ").AppendLine(Convert.ToHexStringLower(bytes[at..Math.Min(at + 32, shown)]));
        if (shown < bytes.Length)
            text.AppendLine(CultureInfo.InvariantCulture, $"  and {bytes.Length - shown} zeros");
        return text.ToString().ReplaceLineEndings("\n");
    }

    private static void Compare(string name, string actual, [CallerFilePath] string source = "")
    {
        string path = Path.Combine(Path.GetDirectoryName(source)!, name);
        if (Environment.GetEnvironmentVariable("SHARDFORGE_REWRITE") == "1")
            File.WriteAllText(path, actual);
        string copy = Path.Combine(TestContext.CurrentContext.TestDirectory, "Consensus", "NodeLog", name);
        string expected = File.ReadAllText(File.Exists(copy) && Environment.GetEnvironmentVariable("SHARDFORGE_REWRITE") != "1" ? copy : path);
        Assert.That(actual, Is.EqualTo(expected.ReplaceLineEndings("\n")));
    }
}
