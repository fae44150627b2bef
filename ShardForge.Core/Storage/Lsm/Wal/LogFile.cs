using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Wal;

/// <summary>One write-ahead log file that is written, through a map of it. Format: <see cref="LogFormat"/>.</summary>
/// <remarks><code>
/// created: zero-filled to its capacity, mapped → begun under a log's number → full: sealed, unmapped → its writes are in tables: begun again under another number
/// </code>
/// The file is filled with zeros before it is mapped, so no store into the map can meet a full disk: a disk without room refuses the creation. A record is in the operating system's
/// memory once it is copied, so it survives the end of the process without a system call. What is left of a former life fails the checksum, which is seeded with the log's number.
/// <para>Threads: <see cref="Begin"/> and <see cref="Append"/> under the engine's write latch; <see cref="Sync"/> by whoever flushes; <see cref="Prepare"/> and <see cref="Unmap"/> on the pool's thread,
/// while nobody appends: before the begin and after the end.</para></remarks>
internal sealed unsafe class LogFile : IDisposable
{
    /// <summary>Kept free behind every batch, so that the last one of a file finds room for its witness.</summary>
    private static readonly int s_promiseBytes = LogFormat.RecordBytes(0);

    private const int WriteBytesMax = 1024;

    private readonly IFileSystem _files;
    private readonly string _directory;
    private readonly IFile _file;
    private IMappedRegion? _region;
    private long _endOffset, _durableOffset;
    private bool _nameIsDurable;

    /// <summary>Creates a file of zeros. Blocks for as long as they take to write.</summary>
    /// <param name="files">Where.</param>
    /// <param name="directory">The engine's.</param>
    /// <param name="number">Of its name until it is begun.</param>
    /// <param name="capacity">Its length in bytes.</param>
    public LogFile(IFileSystem files, string directory, ulong number, long capacity)
    {
        _files = files;
        _directory = directory;
        Number = number;
        Capacity = capacity;
        _file = files.Open(System.IO.Path.Combine(directory, LogFormat.FileName(number)), FileOpenMode.CreateNew);
        try
        {
            _file.Preallocate(capacity);
            _region = _file.Map(capacity);
        }
        catch
        {
            // A full disk shall not fill with halves.
            _file.Dispose();
            files.Delete(_file.Path);
            throw;
        }
    }

    public ulong Number { get; private set; }

    public long Capacity { get; }

    public string Path => System.IO.Path.Combine(_directory, LogFormat.FileName(Number));

    /// <summary>Where the next record goes.</summary>
    public long EndOffset => Volatile.Read(ref _endOffset);

    /// <summary>What survives a power cut.</summary>
    public long DurableOffset => Volatile.Read(ref _durableOffset);

    /// <summary>How long a file must be to hold a batch of that many bytes.</summary>
    public static long CapacityFor(int payloadBytes) => (long)LogFormat.HeaderBytes + LogFormat.RecordBytes(payloadBytes) + s_promiseBytes;

    public bool HasRoomForPromise => _endOffset + s_promiseBytes <= Capacity;

    public bool HasRoomFor(int payloadBytes) => _endOffset + LogFormat.RecordBytes(payloadBytes) + s_promiseBytes <= Capacity;

    /// <summary>Maps it, and does what the appends should not have to.</summary>
    /// <param name="isFlushed">The log is flushed as it is written: the zeros are, too, or the first flush would have to. Else every page is touched.</param>
    public void Prepare(bool isFlushed)
    {
        _region ??= _file.Map(Capacity);
        if (isFlushed)
        {
            _file.Flush();
            return;
        }

        byte* at = (byte*)_region.Address;
        for (long offset = 0; offset < Capacity; offset += Environment.SystemPageSize)
            Volatile.Write(ref at[offset], Volatile.Read(ref at[offset]));
    }

    /// <summary>Takes the number, and with it the name, under which it is written from now on. What it held before is not needed any more.</summary>
    public void Begin(ulong number)
    {
        _region ??= _file.Map(Capacity);
        if (number != Number)
        {
            string path = Path;
            _files.Rename(path, System.IO.Path.Combine(_directory, LogFormat.FileName(number)));
            Number = number;
        }

        LogFormat.Header(number).CopyTo(new Span<byte>((void*)_region.Address, LogFormat.HeaderBytes));
        _nameIsDurable = false;
        Volatile.Write(ref _durableOffset, 0);
        Volatile.Write(ref _endOffset, LogFormat.HeaderBytes);
    }

    /// <summary>Appends a record; there is room for it.</summary>
    /// <param name="kind">Its kind.</param>
    /// <param name="sequence">Of its first operation.</param>
    /// <param name="payload">What it says.</param>
    /// <param name="byWrite">By a system call: for a record that is flushed at once, and alone.</param>
    /// <returns>Its bytes.</returns>
    public int Append(LogRecordKind kind, ulong sequence, ReadOnlySpan<byte> payload, bool byWrite)
    {
        int bytes = LogFormat.RecordBytes(payload.Length);
        Invariant.Require(_region is not null && _endOffset + bytes <= Capacity);
        if (byWrite && bytes <= WriteBytesMax)
        {
            Span<byte> record = stackalloc byte[WriteBytesMax];
            LogFormat.WriteRecord(record[..bytes], Number, _endOffset, kind, sequence, DurableOffset, payload);
            _file.Write(record[..bytes], _endOffset);
        }
        else
        {
            LogFormat.WriteRecord(new Span<byte>((byte*)_region.Address + _endOffset, bytes), Number, _endOffset, kind, sequence, DurableOffset, payload);
        }

        Volatile.Write(ref _endOffset, _endOffset + bytes);
        return bytes;
    }

    /// <summary>Makes all that was appended durable. Blocks. A failure is final: the engine takes no more writes.</summary>
    public void Sync()
    {
        long end = EndOffset;
        if (!_nameIsDurable)
        {
            _files.FlushDirectory(_directory);
            _nameIsDurable = true;
        }

        _file.Flush();
        Volatile.Write(ref _durableOffset, end);
    }

    /// <summary>Lets go of the map; what was appended stays, and can still be flushed.</summary>
    public void Unmap()
    {
        _region?.Dispose();
        _region = null;
    }

    /// <summary>Cuts off what was never used. Only to save space: a reader finds the end without it.</summary>
    public void Trim()
    {
        Unmap();
        _file.SetLength(EndOffset);
    }

    /// <summary>Removes the file.</summary>
    public void Delete()
    {
        Dispose();
        _files.Delete(Path);
    }

    public void Dispose()
    {
        Unmap();
        _file.Dispose();
    }
}
