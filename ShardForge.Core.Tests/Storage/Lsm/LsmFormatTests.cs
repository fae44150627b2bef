using System.Text;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;
using ShardForge.Storage.Lsm;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Table;
using ShardForge.Storage.Lsm.Wal;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>The bytes of each format, held against <c>Formats.txt</c>. SHARDFORGE_REWRITE=path of the folder writes it anew; read the difference like code.</summary>
internal sealed class LsmFormatTests
{
    [Test]
    public void Formats_are_the_bytes_that_they_were()
    {
        StringBuilder text = new();
        Add(text, "log header: magic, version, zero, log number 7, zero, crc", LogFormat.Header(7), 8, 4, 4, 8, 4, 4);
        StorageBatch batch = new();
        batch.Put("key"u8, "value"u8);
        batch.Delete("k"u8);
        byte[] record = new byte[LogFormat.RecordBytes(batch.Encoded.Length)];
        LogFormat.WriteRecord(record, 7, 32, LogRecordKind.Batch, 5, 0, batch.Encoded);
        Add(text, "log record in log 7 at 32: payload bytes, crc, sequence 5 and kind batch, promise 0, put key=value, delete k, padding", record, 4, 4, 8, 8, 11, 3, 2);
        byte[] promise = new byte[LogFormat.RecordBytes(0)];
        LogFormat.WriteRecord(promise, 7, 72, LogRecordKind.Promise, 7, 72, []);
        Add(text, "log promise in log 7 at 72: no payload, crc, sequence 7 and kind promise, promised offset 72", promise, 4, 4, 8, 8);

        Add(text, "manifest header: magic, version, zero, manifest number 3, zero, crc", ManifestFormat.Header(3), 8, 4, 4, 8, 4, 4);
        VersionEdit edit = new() { NextFileNumber = 9, LastSequence = 300, LogNumber = 8, VersionSuffixBytes = 8 };
        edit.Removed.Add((1, 4));
        edit.Added.Add((2, 6, new TableSummary(1000, "a"u8.ToArray(), "b"u8.ToArray(), LargestIsExclusive: true, 1, 200, 20, 2, 1)));
        Add(text, "manifest record in manifest 3 at 32: payload bytes, crc, kind edit, promise, next file 9, last sequence 300, log 8, suffix 8, removed (1, 4), added (2, 6, content)",
            ManifestFormat.Record(3, 32, ManifestRecordKind.Edit, 0, edit.Encode()), 4, 4, 1, 8, 2, 3, 2, 2, 3, 3);

        BlockBuilder block = new(restartInterval: 2);
        block.Add("apple"u8, EntryTrailer.Of(9, EntryKind.Put), "1"u8);
        block.Add("apply"u8, EntryTrailer.Of(8, EntryKind.Put), "2"u8);
        block.Add("banana"u8, EntryTrailer.Of(7, EntryKind.Delete), []);
        Add(text, "block: apple=1, y sharing appl, banana deleted; trailers above the base (2 bytes each); restarts 0 and 14; base, count 3, interval 2, width 2, no hash, flags",
            block.Finish().ToArray(), 9, 5, 9, 6, 4, 8, 4, 1, 1, 1, 1);

        InMemoryFileSystem files = new();
        using (IFile file = files.Open("/t.sst", FileOpenMode.CreateNew))
        {
            TableWriter writer = new(file, 6, new LsmOptions { Compression = LsmCompression.None }, 0, static _ => { });
            writer.Add("apple"u8, EntryTrailer.Of(9, EntryKind.Put), "1"u8);
            writer.Add("banana"u8, EntryTrailer.Of(7, EntryKind.Delete), []);
            writer.AddTombstones([new RangeTombstone("c"u8.ToArray(), "d"u8.ToArray(), 5)]);
            writer.Finish();
            byte[] table = new byte[file.Length];
            file.Read(table, 0);
            Add(text, "table 6: header (magic, version, crc), then data block, filter, tombstones, properties, index, footer", table, 8, 4, 4);
        }

        string expectedPath = Path.Combine(TestContext.CurrentContext.TestDirectory, "Storage", "Lsm", "Formats.txt");
        if (Environment.GetEnvironmentVariable("SHARDFORGE_REWRITE") is { Length: > 0 } folder)
            File.WriteAllText(Path.Combine(folder, "Formats.txt"), text.ToString());
        else
            Assert.That(text.ToString(), Is.EqualTo(File.ReadAllText(expectedPath)));
    }

    /// <summary>A title, a line per field of so many bytes, and what is left in lines of 32.</summary>
    private static void Add(StringBuilder text, string title, byte[] bytes, params ReadOnlySpan<int> fields)
    {
        text.Append("# ").Append(title).Append('\n');
        int at = 0;
        foreach (int field in fields)
        {
            text.Append(Convert.ToHexStringLower(bytes.AsSpan(at, field))).Append('\n');
            at += field;
        }

        for (; at < bytes.Length; at += 32)
            text.Append(Convert.ToHexStringLower(bytes.AsSpan(at, Math.Min(32, bytes.Length - at)))).Append('\n');
        text.Append('\n');
    }
}
