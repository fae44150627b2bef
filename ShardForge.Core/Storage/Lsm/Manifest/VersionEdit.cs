using System.Buffers;
using ShardForge.Common;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Manifest;

/// <summary>One change of the set of tables: what a flush or a compaction did. All of it counts, or nothing.</summary>
/// <remarks><code>
/// edit    | field | field | ...                                      numbers are varints, byte strings are length and bytes
/// field   | tag | content |
///   1 next file number    | number |      no file made so far has it or a higher one
///   2 last sequence       | number |      every table's entries are at or below it
///   3 log number          | number |      write-ahead logs below it are not needed any more
///   4 version suffix      | bytes |       first edit of a directory: fixed for ever
///   5 removed table       | level | number |
///   6 added table         | level | number | content length | bytes | smallest sequence | largest sequence | entries | deletes | tombstones | flags | smallest | largest |
///                           flags 1: largest is exclusive (the end of a range tombstone). What follows within the content length is skipped
/// </code>
/// An unknown tag is refused: it may change what the others mean. Versions: 1 (this one); the manifest's header carries the number.</remarks>
internal sealed class VersionEdit
{
    private const ulong NextFileTag = 1, LastSequenceTag = 2, LogTag = 3, SuffixTag = 4, RemovedTag = 5, AddedTag = 6;

    public ulong? NextFileNumber { get; set; }

    public ulong? LastSequence { get; set; }

    public ulong? LogNumber { get; set; }

    public int? VersionSuffixBytes { get; set; }

    public List<(int Level, ulong Number)> Removed { get; } = [];

    public List<(int Level, ulong Number, TableSummary Table)> Added { get; } = [];

    public byte[] Encode()
    {
        ArrayBufferWriter<byte> target = new(256);
        WriteField(target, NextFileTag, NextFileNumber);
        WriteField(target, LastSequenceTag, LastSequence);
        WriteField(target, LogTag, LogNumber);
        WriteField(target, SuffixTag, (ulong?)VersionSuffixBytes);
        foreach ((int level, ulong number) in Removed)
        {
            WriteNumber(target, RemovedTag);
            WriteNumber(target, (ulong)level);
            WriteNumber(target, number);
        }

        foreach ((int level, ulong number, TableSummary table) in Added)
        {
            WriteNumber(target, AddedTag);
            WriteNumber(target, (ulong)level);
            WriteNumber(target, number);
            ArrayBufferWriter<byte> content = new(256);
            WriteNumber(content, (ulong)table.Bytes);
            WriteNumber(content, table.SmallestSequence);
            WriteNumber(content, table.LargestSequence);
            WriteNumber(content, (ulong)table.Entries);
            WriteNumber(content, (ulong)table.Deletes);
            WriteNumber(content, (ulong)table.Tombstones);
            WriteNumber(content, table.LargestIsExclusive ? 1UL : 0);
            WriteBytes(content, table.Smallest);
            WriteBytes(content, table.Largest);
            WriteBytes(target, content.WrittenSpan);
        }

        return target.WrittenSpan.ToArray();
    }

    /// <summary>Reads an edit. The checksum around it was right: what does not fit was written wrong, or by a newer version.</summary>
    public static VersionEdit Decode(ReadOnlySpan<byte> source, string path, long offset)
    {
        VersionEdit edit = new();
        EditReader reader = new(source, path, offset);
        while (!reader.IsAtEnd)
        {
            ulong tag = reader.Number();
            switch (tag)
            {
                case NextFileTag:
                    edit.NextFileNumber = reader.Number();
                    break;
                case LastSequenceTag:
                    edit.LastSequence = reader.Number();
                    break;
                case LogTag:
                    edit.LogNumber = reader.Number();
                    break;
                case SuffixTag:
                    edit.VersionSuffixBytes = (int)reader.Number();
                    break;
                case RemovedTag:
                    edit.Removed.Add(((int)reader.Number(), reader.Number()));
                    break;
                case AddedTag:
                    int level = (int)reader.Number();
                    ulong number = reader.Number();
                    EditReader content = new(reader.Bytes(), path, offset);
                    long bytes = (long)content.Number();
                    ulong smallestSequence = content.Number(), largestSequence = content.Number();
                    long entries = (long)content.Number(), deletes = (long)content.Number(), tombstones = (long)content.Number();
                    bool exclusive = (content.Number() & 1) != 0;
                    byte[] smallest = content.Bytes().ToArray(), largest = content.Bytes().ToArray();
                    edit.Added.Add((level, number, new(bytes, smallest, largest, exclusive, smallestSequence, largestSequence, entries, deletes, tombstones)));
                    break;
                default:
                    throw new ConfigurationException("DataDirectory", $"The edit at {offset:N0} of {path} has a field {tag} that this version of the library does not know.");
            }
        }

        return edit;
    }

    private static void WriteField(ArrayBufferWriter<byte> target, ulong tag, ulong? number)
    {
        if (number is null)
            return;
        WriteNumber(target, tag);
        WriteNumber(target, number.Value);
    }

    private static void WriteNumber(ArrayBufferWriter<byte> target, ulong number) => target.Advance(Varint.Write(target.GetSpan(Varint.Bytes64Max), number));

    private static void WriteBytes(ArrayBufferWriter<byte> target, ReadOnlySpan<byte> bytes)
    {
        WriteNumber(target, (ulong)bytes.Length);
        target.Write(bytes);
    }

    private ref struct EditReader(ReadOnlySpan<byte> source, string path, long offset)
    {
        private ReadOnlySpan<byte> _rest = source;

        public readonly bool IsAtEnd => _rest.IsEmpty;

        public ulong Number()
        {
            if (!Varint.TryRead(_rest, out ulong number, out int bytes))
                throw new CorruptionException(path, offset, "an edit ends inside a number.");
            _rest = _rest[bytes..];
            return number;
        }

        public ReadOnlySpan<byte> Bytes()
        {
            ulong length = Number();
            if (length > (ulong)_rest.Length)
                throw new CorruptionException(path, offset, "an edit ends inside a byte string.");
            ReadOnlySpan<byte> bytes = _rest[..(int)length];
            _rest = _rest[(int)length..];
            return bytes;
        }
    }
}
