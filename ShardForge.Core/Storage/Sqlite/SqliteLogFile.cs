using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Storage.Sqlite;

/// <summary>Reads SQLite's write-ahead file beside SQLite (its format: "WAL-mode File Format" in SQLite's documentation).</summary>
/// <remarks><code>
/// file   | header 32 | frame | frame | ...                                                    big-endian
/// header | magic 4 | version 4 | page bytes 4 | checkpoint 4 | salts 8 | checksum 8 |
/// frame  | page 4 | database pages after a commit, else 0 4 | salts 8 | checksum 8 | page |
///   salts     of the header: a frame with others is left over from before the file was begun anew
///   checksum  of all before it, from the header's on, in words whose byte order the magic's last bit tells
/// </code>
/// SQLite takes no locks on this file (they are on the -shm file), so it may be opened and closed beside it.</remarks>
internal sealed class SqliteLogFile(string path) : IDisposable
{
    private const int HeaderBytes = 32, FrameHeaderBytes = 24, PageBytesMax = 65_536, SaltsAt = 16, ChecksumAt = 24, FrameSaltsAt = 8, FrameChecksumAt = 16;
    private const uint Magic = 0x377F0682;      // the last bit: words are big-endian

    private IFile? _file;
    private ulong _salts;
    private long _frames;

    /// <summary>How many frames there are since the file was begun anew. Cheap: only what came since the last call is looked at.</summary>
    public (ulong Salts, long Frames) FindEnd()
    {
        _file ??= PhysicalFileSystem.Instance.Open(path, FileOpenMode.Read);
        Span<byte> header = stackalloc byte[HeaderBytes];
        if (_file.Read(header, 0) < HeaderBytes)
            return (0, 0);
        int pageBytes = BinaryPrimitives.ReadInt32BigEndian(header[8..]);
        ulong salts = BinaryPrimitives.ReadUInt64BigEndian(header[SaltsAt..]);
        if (salts != _salts)
        {
            _salts = salts;
            _frames = 0;
        }

        Span<byte> frame = stackalloc byte[FrameHeaderBytes];
        while (_file.Read(frame, FrameOffset(_frames, pageBytes)) == FrameHeaderBytes && BinaryPrimitives.ReadUInt64BigEndian(frame[FrameSaltsAt..]) == salts)
            _frames++;
        return (_salts, _frames);
    }

    /// <summary>Checks the first frames of a file, if it still has the salts.</summary>
    /// <exception cref="CorruptionException">The file is missing, or one of the frames is not whole.</exception>
    public static void Verify(string path, ulong salts, long frames)
    {
        if (!File.Exists(path))
            throw new CorruptionException(path, 0, $"The write-ahead file is missing; {frames:N0} frames of it were flushed.");
        using IFile file = PhysicalFileSystem.Instance.Open(path, FileOpenMode.Read);
        byte[] header = new byte[HeaderBytes];
        int read = file.Read(header, 0);
        uint magic = BinaryPrimitives.ReadUInt32BigEndian(header);
        int pageBytes = BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(8));
        (uint, uint) sums = default;
        bool isBigEndian = (magic & 1) == 1;
        Add(ref sums, header.AsSpan(0, ChecksumAt), isBigEndian);
        if (read < HeaderBytes || (magic & ~1u) != Magic || sums != Checksum(header, ChecksumAt) || pageBytes is < 512 or > PageBytesMax)
            throw new CorruptionException(path, 0, $"The header of the write-ahead file is damaged; {frames:N0} frames behind it were flushed.");
        if (BinaryPrimitives.ReadUInt64BigEndian(header.AsSpan(SaltsAt)) != salts)
            return;

        byte[] frame = new byte[FrameHeaderBytes + pageBytes];
        for (long index = 0; index < frames; index++)
        {
            long offset = FrameOffset(index, pageBytes);
            int bytes = file.Read(frame, offset);
            Add(ref sums, frame.AsSpan(0, 8), isBigEndian);
            Add(ref sums, frame.AsSpan(FrameHeaderBytes), isBigEndian);
            if (bytes < frame.Length || sums != Checksum(frame, FrameChecksumAt) || BinaryPrimitives.ReadUInt64BigEndian(frame.AsSpan(FrameSaltsAt)) != salts)
                throw new CorruptionException(path, offset, $"Frame {index:N0} of the write-ahead file fails its checksum, and {frames:N0} frames were flushed.");
        }
    }

    public void Dispose() => _file?.Dispose();

    private static long FrameOffset(long index, int pageBytes) => HeaderBytes + (index * (FrameHeaderBytes + pageBytes));

    private static (uint, uint) Checksum(ReadOnlySpan<byte> bytes, int at) =>
        (BinaryPrimitives.ReadUInt32BigEndian(bytes[at..]), BinaryPrimitives.ReadUInt32BigEndian(bytes[(at + 4)..]));

    private static void Add(ref (uint First, uint Second) sums, ReadOnlySpan<byte> bytes, bool isBigEndian)
    {
        for (int at = 0; at < bytes.Length; at += 8)
        {
            uint first = isBigEndian ? BinaryPrimitives.ReadUInt32BigEndian(bytes[at..]) : BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);
            uint second = isBigEndian ? BinaryPrimitives.ReadUInt32BigEndian(bytes[(at + 4)..]) : BinaryPrimitives.ReadUInt32LittleEndian(bytes[(at + 4)..]);
            sums.First += first + sums.Second;
            sums.Second += second + sums.First;
        }
    }
}
