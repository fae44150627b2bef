using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Wal;

/// <summary>Where log files come from and where they go: one is prepared ahead, obsolete ones are used again.</summary>
/// <remarks>
/// Files start short, so that an idle engine costs little disk, and double up to <c>bytesMax</c>; only those of that length are kept. A file that waits here has the number of its former life,
/// whose writes are in tables, or one of its own with nothing but zeros: a recovery finds nothing in either.
/// <para>Threads: <see cref="Take"/> under the engine's write latch; <see cref="Prepare"/> and <see cref="Return"/> on the log thread.</para>
/// </remarks>
internal sealed class LogFilePool(IFileSystem files, string directory, Func<ulong> newNumber, long memtableBytes)
{
    private const long BytesMaxMax = 4 * 1024 * 1024, FirstBytes = 128 * 1024, PageBytes = 4096;
    private const int KeptMax = 16;

    private readonly long _bytesMax = Math.Clamp(memtableBytes / 4 / PageBytes * PageBytes, PageBytes, BytesMaxMax);
    private readonly Lock _gate = new();
    private readonly Stack<LogFile> _kept = new();
    private LogFile? _prepared;
    private long _nextBytes;
    private bool _isBusy;
    private int _lull;    // counts the shrinks: what was prepared before one comes too late

    /// <summary>Length of the files that wait here.</summary>
    public long DiskBytes
    {
        get
        {
            lock (_gate)
                return (_kept.Count * _bytesMax) + (_prepared?.Capacity ?? 0);
        }
    }

    /// <summary>A file that is begun under a number and has room.</summary>
    public LogFile Take(ulong number, long bytes)
    {
        LogFile? file;
        long newBytes;
        lock (_gate)
        {
            file = _prepared is { } prepared && prepared.Capacity >= bytes ? prepared : null;
            if (file is not null)
                _prepared = null;
            else if (_bytesMax >= bytes)
                _kept.TryPop(out file);
            newBytes = file is null ? NextBytesLocked(bytes) : 0;
        }

        file ??= new LogFile(files, directory, number, newBytes);
        try
        {
            file.Begin(number);
            return file;
        }
        catch
        {
            file.Delete();
            throw;
        }
    }

    /// <summary>Has the next file ready.</summary>
    public void Prepare()
    {
        LogFile? file;
        long newBytes;
        int lull;
        lock (_gate)
        {
            if (_prepared is not null)
                return;
            lull = _lull;
            _kept.TryPop(out file);
            newBytes = file is null ? NextBytesLocked(0) : 0;
        }

        try
        {
            file ??= new LogFile(files, directory, newNumber(), newBytes);
            file.Prepare();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // The writer that needs a file tries again, and is told if that fails.
            file?.Dispose();
            return;
        }

        lock (_gate)
        {
            if (lull == _lull)
            {
                _prepared = file;
                return;
            }
        }

        Delete(file);
    }

    /// <summary>Takes back files whose writes are durable elsewhere.</summary>
    public void Return(IReadOnlyList<LogFile> obsolete)
    {
        foreach (LogFile file in obsolete)
        {
            file.Unmap();
            lock (_gate)
            {
                if (_isBusy && file.Capacity == _bytesMax && _kept.Count < KeptMax)
                {
                    _kept.Push(file);
                    continue;
                }
            }

            Delete(file);
        }
    }

    /// <summary>A memtable was filled: files are kept.</summary>
    public void SetBusy()
    {
        lock (_gate)
            _isBusy = true;
    }

    /// <summary>From now on files are short again, and none is kept until a memtable was filled.</summary>
    public void Shrink()
    {
        List<LogFile> dropped = [];
        lock (_gate)
        {
            _lull++;
            _nextBytes = 0;
            _isBusy = false;
            while (_kept.TryPop(out LogFile? file))
                dropped.Add(file);
            if (_prepared is not null)
                dropped.Add(_prepared);
            _prepared = null;
        }

        dropped.ForEach(Delete);
    }

    /// <summary>Removes what is not needed any more; the log is closed.</summary>
    public void Close(IReadOnlyList<LogFile> obsolete)
    {
        Shrink();
        Return(obsolete);
    }

    private static void Delete(LogFile file)
    {
        try
        {
            file.Delete();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // The next open removes it.
            file.Dispose();
        }
    }

    private long NextBytesLocked(long needed)
    {
        _nextBytes = Math.Min(_bytesMax, Math.Max(FirstBytes, 2 * _nextBytes));
        return Math.Max(_nextBytes, (needed + PageBytes - 1) / PageBytes * PageBytes);
    }
}
