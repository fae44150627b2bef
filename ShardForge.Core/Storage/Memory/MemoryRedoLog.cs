using System.Buffers;
using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Storage.Memory;

/// <summary>The writes since the last image, one record a batch, so that each can be durable without an image of its own.</summary>
/// <remarks><code>
/// redo   | header 32 | zeros | sector | sector | ...                    sectors of 4,096 bytes
/// sector | record | record | ... | zeros |                       a record may go on over many; zeros only before a flush
/// header | magic "SFMEMLOG" 8 | version 4 | crc 4 | base sequence 8 | zeros 8 |      little-endian
///   base     number of the last write before the log: an image at or above it is there, or it is 0
/// record | length 4 | crc 4 | sequence 8 | durable offset 8 | operations |
///   length   of all after the crc, in bytes: never under 16
///   crc      CRC-32C of the header's crc, the record's offset, the length, and all after the crc
///   sequence of the batch, one above the record before; a record without operations repeats it
///   durable  end of what was flushed before this record was written: the promise that nothing below it is torn
/// </code>
/// What follows a flush starts in a new sector: a power cut may tear a sector that is being written, with what was durable in it.
/// A record that fails is the torn tail, and cut off, unless a later one promises that it was durable: then it is damage. So a flush
/// is followed by a record without operations, which carries its promise. What no later record promises cannot be told from a torn tail.
/// A log is replaced, not emptied: the next one is written under another name, flushed and renamed after its image was.
/// Threads: the engine's writer. Versions of the format: 1.</remarks>
internal sealed class MemoryRedoLog : IDisposable
{
    public const string FileName = "redo";
    internal const uint Version = 1;
    internal const int HeaderBytes = 32, SectorBytes = 4096;
    private const int RecordHeaderBytes = 24, LengthAndCrcBytes = 8, LengthMin = RecordHeaderBytes - LengthAndCrcBytes;

    private readonly IFile _file;
    private readonly uint _headerCrc;
    private readonly ArrayBufferWriter<byte> _pending = new();
    private long _writtenOffset, _durableOffset;

    private MemoryRedoLog(IFile file, uint headerCrc, long endOffset, long lastSequence)
    {
        LastSequence = lastSequence;
        _file = file;
        _headerCrc = headerCrc;
        _durableOffset = endOffset;
        _writtenOffset = NextSector(endOffset);
    }

    private static ReadOnlySpan<byte> Magic => "SFMEMLOG"u8;

    /// <summary>Number of the last write in it; of the last one before it where it is empty.</summary>
    public long LastSequence { get; private set; }

    /// <summary>Bytes of the file, with what is pending.</summary>
    public long Length => _writtenOffset + _pending.WrittenCount;

    /// <summary>Whether nothing was written to it yet.</summary>
    public bool IsEmpty => Length == SectorBytes;

    /// <summary>Makes an empty log in the place of the one before. Durable when it returns.</summary>
    public static MemoryRedoLog Create(IFileSystem files, string directory, long baseSequence)
    {
        string path = Path.Combine(directory, FileName);
        byte[] header = new byte[HeaderBytes];
        Magic.CopyTo(header);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(8), Version);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(16), baseSequence);
        uint crc = HeaderCrc(header);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(12), crc);
        StorageFiles.WriteWhole(files, path, file => file.Write(header, 0));
        return new MemoryRedoLog(files.Open(path, FileOpenMode.ReadWrite), crc, HeaderBytes, baseSequence);
    }

    /// <summary>Reads a log over an image, cuts a torn tail off, and goes on behind it.</summary>
    /// <param name="files">Where the directory is.</param>
    /// <param name="directory">Has a log.</param>
    /// <param name="image">What the image holds.</param>
    /// <param name="state">Gets the image with the log's writes.</param>
    /// <exception cref="CorruptionException">Damage before the tail, or the image before the log is missing.</exception>
    public static MemoryRedoLog Recover(IFileSystem files, string directory, MemoryState image, out MemoryState state)
    {
        IFile file = files.Open(Path.Combine(directory, FileName), FileOpenMode.ReadWrite);
        try
        {
            if (file.Length > Array.MaxLength)
                throw new CorruptionException(file.Path, 0, $"The log has {file.Length:N0} bytes, more than any that was written.");
            byte[] log = new byte[file.Length];
            log = log[..file.Read(log, 0)];
            (long baseSequence, uint headerCrc) = ReadHeader(file.Path, log);
            if (baseSequence > image.Sequence)
                throw new CorruptionException(file.Path, 16, $"The log goes on from write {baseSequence:N0}, and the image ends at {image.Sequence:N0}.");
            int end = Replay(file.Path, log, headerCrc, baseSequence, image, out state, out long lastSequence);
            if (end < log.Length)
            {
                // Flushed before the first append, so that nothing of the old tail can come back behind it.
                file.SetLength(end);
                file.Flush();
            }

            return new MemoryRedoLog(file, headerCrc, end, lastSequence);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Adds a record to what the next <see cref="Write"/> writes.</summary>
    public void Append(ReadOnlySpan<byte> encodedBatch, long sequence)
    {
        long offset = Length;
        int recordBytes = RecordHeaderBytes + encodedBatch.Length;
        Span<byte> record = _pending.GetSpan(recordBytes)[..recordBytes];
        BinaryPrimitives.WriteInt32LittleEndian(record, recordBytes - LengthAndCrcBytes);
        BinaryPrimitives.WriteInt64LittleEndian(record[8..], sequence);
        BinaryPrimitives.WriteInt64LittleEndian(record[16..], _durableOffset);
        encodedBatch.CopyTo(record[RecordHeaderBytes..]);
        BinaryPrimitives.WriteUInt32LittleEndian(record[4..], RecordCrc(record, offset, _headerCrc));
        _pending.Advance(recordBytes);
        LastSequence = sequence;
    }

    /// <summary>Hands what was appended to the operating system: it survives the end of the process.</summary>
    /// <returns>Bytes written.</returns>
    public int Write()
    {
        int bytes = _pending.WrittenCount;
        _file.Write(_pending.WrittenSpan, _writtenOffset);
        _writtenOffset += bytes;
        _pending.ResetWrittenCount();
        return bytes;
    }

    /// <summary>Makes all that was written durable. A failure is final.</summary>
    /// <returns>Bytes written.</returns>
    public int Flush()
    {
        Invariant.Require(_pending.WrittenCount == 0);
        _file.Flush();
        _durableOffset = _writtenOffset;
        _writtenOffset = NextSector(_writtenOffset);
        Append([], LastSequence);
        return Write();
    }

    public void Dispose() => _file.Dispose();

    private static (long BaseSequence, uint Crc) ReadHeader(string path, ReadOnlySpan<byte> log)
    {
        if (log.Length < HeaderBytes || !log.StartsWith(Magic))
            throw new CorruptionException(path, 0, "It does not start as a redo log.");
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(log[12..]), computed = HeaderCrc(log[..HeaderBytes]);
        if (stored != computed)
            throw new CorruptionException(path, 0, $"CRC-32C of the header stored {stored:x8}, computed {computed:x8}.");
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(log[8..]);
        if (version > Version)
            throw new ConfigurationException("DataDirectory", $"{path} has version {version} of the redo log's format; this library knows versions up to {Version}. Nothing was changed.");
        return (BinaryPrimitives.ReadInt64LittleEndian(log[16..]), stored);
    }

    /// <returns>Where the whole records end.</returns>
    private static int Replay(string path, ReadOnlySpan<byte> log, uint headerCrc, long baseSequence, MemoryState image, out MemoryState state, out long lastSequence)
    {
        SortedMapEditor editor = new(image.Map);
        lastSequence = baseSequence;
        int offset = HeaderBytes;
        while (TryReadNext(log, ref offset, headerCrc, lastSequence, out RecordView record))
        {
            lastSequence = record.Sequence;
            if (lastSequence > image.Sequence)
                MemoryState.Apply(editor, record.Operations);
            offset += RecordHeaderBytes + record.Operations.Length;
        }

        if (FindPromise(log, offset, headerCrc, lastSequence) is { } promiseOffset)
            throw new CorruptionException(path, offset, $"A record that was durable is not whole: the record at {promiseOffset:N0} was written after its flush.");
        state = new MemoryState(editor.ToMap(), Math.Max(lastSequence, image.Sequence));
        return offset;
    }

    /// <summary>Reads the record at a place, or in the next sector where only zeros are before it.</summary>
    /// <param name="log">The file.</param>
    /// <param name="offset">Where the record before ended; gets where this one starts.</param>
    /// <param name="headerCrc">Of the file.</param>
    /// <param name="lastSequence">Of the record before: what does not follow it is not the next one.</param>
    /// <param name="record">Gets the record.</param>
    private static bool TryReadNext(ReadOnlySpan<byte> log, ref int offset, uint headerCrc, long lastSequence, out RecordView record)
    {
        if (TryReadRecord(log, offset, headerCrc, out record) && record.Follows(lastSequence))
            return true;
        long sector = NextSector(offset);
        if (sector >= log.Length || log[offset..(int)sector].ContainsAnyExcept((byte)0)
            || !TryReadRecord(log, (int)sector, headerCrc, out record) || !record.Follows(lastSequence))
        {
            return false;
        }

        offset = (int)sector;
        return true;
    }

    private static long NextSector(long offset) => (offset + SectorBytes - 1) / SectorBytes * SectorBytes;

    /// <summary>Looks behind a record that is not whole for one that says it was durable.</summary>
    private static int? FindPromise(ReadOnlySpan<byte> log, int brokenOffset, uint headerCrc, long sequence)
    {
        for (int offset = brokenOffset + 1; offset <= log.Length - RecordHeaderBytes; offset++)
        {
            // Cheap first: the checksum of a record is computed only where its fields can be one's.
            long candidate = BinaryPrimitives.ReadInt64LittleEndian(log[(offset + 8)..]);
            long durableOffset = BinaryPrimitives.ReadInt64LittleEndian(log[(offset + 16)..]);
            if (candidate >= sequence && candidate - sequence <= log.Length && durableOffset > brokenOffset && durableOffset <= offset
                && TryReadRecord(log, offset, headerCrc, out _))
            {
                return offset;
            }
        }

        return null;
    }

    private static bool TryReadRecord(ReadOnlySpan<byte> log, int offset, uint headerCrc, out RecordView record)
    {
        record = default;
        ReadOnlySpan<byte> rest = log[offset..];
        if (rest.Length < RecordHeaderBytes)
            return false;
        int length = BinaryPrimitives.ReadInt32LittleEndian(rest);
        if (length < LengthMin || length > rest.Length - LengthAndCrcBytes)
            return false;
        ReadOnlySpan<byte> bytes = rest[..(LengthAndCrcBytes + length)];
        if (BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]) != RecordCrc(bytes, offset, headerCrc))
            return false;
        record = new RecordView(bytes);
        return true;
    }

    private static uint HeaderCrc(ReadOnlySpan<byte> header) => Crc32C.Append(Crc32C.Compute(header[..12]), header[16..HeaderBytes]);

    private static uint RecordCrc(ReadOnlySpan<byte> record, long offset, uint headerCrc) =>
        Crc32C.Append(Crc32C.Append(Crc32C.Append(headerCrc, (ulong)offset), record[..4]), record[LengthAndCrcBytes..]);

    private readonly ref struct RecordView(ReadOnlySpan<byte> record)
    {
        private readonly ReadOnlySpan<byte> _record = record;

        public long Sequence => BinaryPrimitives.ReadInt64LittleEndian(_record[8..]);

        public bool Follows(long sequence) => Sequence == sequence + (Operations.IsEmpty ? 0 : 1);

        public ReadOnlySpan<byte> Operations => _record[RecordHeaderBytes..];
    }
}
