using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Wal;

/// <summary>One write-ahead log file that is written. Format: <see cref="LogFormat"/>.</summary>
/// <remarks>
/// Appends under the engine's write latch; a record is handed to the operating system before the append returns, so it survives the end of the
/// process. <see cref="Sync"/> on the log thread. A record that could not be written leaves the end where it was, and the next one overwrites what is there.
/// </remarks>
internal sealed class LogFile : IDisposable
{
    private readonly IFileSystem _files;
    private readonly string _directory;
    private readonly IFile _file;
    private byte[] _record = new byte[512];
    private long _endOffset, _durableOffset;
    private bool _nameIsDurable;

    public LogFile(IFileSystem files, string directory, ulong number)
    {
        _files = files;
        _directory = directory;
        Number = number;
        _file = files.Open(System.IO.Path.Combine(directory, LogFormat.FileName(number)), FileOpenMode.CreateNew);
        try
        {
            _file.Write(LogFormat.Header(number), 0);
            _endOffset = LogFormat.HeaderBytes;
        }
        catch
        {
            // Not needed for recovery, which goes by sequence numbers; but a full disk shall not fill with headers.
            _file.Dispose();
            files.Delete(_file.Path);
            throw;
        }
    }

    public ulong Number { get; }

    public string Path => _file.Path;

    /// <summary>Where the next record goes.</summary>
    public long EndOffset => Volatile.Read(ref _endOffset);

    /// <summary>What survives a power cut.</summary>
    public long DurableOffset => Volatile.Read(ref _durableOffset);

    /// <returns>Bytes written.</returns>
    public int Append(LogRecordKind kind, ulong sequence, ReadOnlySpan<byte> payload)
    {
        int bytes = LogFormat.RecordBytes(payload.Length);
        if (_record.Length < bytes)
            _record = new byte[Math.Max(bytes, 2 * _record.Length)];
        LogFormat.WriteRecord(_record, Number, _endOffset, kind, sequence, DurableOffset, payload);
        _file.Write(_record.AsSpan(0, bytes), _endOffset);
        Volatile.Write(ref _endOffset, _endOffset + bytes);
        if (_record.Length > 1024 * 1024)
            _record = new byte[512];
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

    public void Dispose() => _file.Dispose();
}
