using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Wal;

/// <summary>Where log files come from and where they go: one is prepared ahead, obsolete ones are used again.</summary>
/// <remarks>
/// Files start short, so that an idle engine costs little disk, and double up to a length that goes with the memtable's; only those of that length are kept. A file that waits here has the number of its
/// former life, whose writes are in tables, or one of its own with nothing but zeros: a recovery finds nothing in either.
/// <para>Threads: <see cref="Take(ulong, long)"/> under the engine's write latch, without more I/O than it needs at once. Zeros are written and pages touched by the pool's own thread, which starts when there is something to do: the
/// node's workers may be busy for seconds, and a flush shall not wait for zeros.</para>
/// </remarks>
internal sealed class LogFilePool(IFileSystem files, string directory, Func<ulong> newNumber, string name, long memtableBytes) : IDisposable
{
    private const long BytesMaxMax = 4 * 1024 * 1024, FirstBytes = 128 * 1024, PageBytes = 4096;
    private const int KeptMax = 16;

    private readonly long _bytesMax = Math.Clamp(memtableBytes / 4 / PageBytes * PageBytes, PageBytes, BytesMaxMax);
    private readonly object _gate = new();
    private readonly Stack<LogFile> _kept = new();
    private readonly List<LogFile> _full = [], _obsolete = [];    // to be unmapped; to be taken back
    private Thread? _thread;
    private LogFile? _prepared;
    private long _nextBytes;
    private int _lull;    // counts the shrinks: what was prepared before one comes too late
    private bool _isBusy, _isFlushed, _wantsFile, _stopping;

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

            // A short one, if the prepared one is late: its zeros are waited for.
            newBytes = Math.Max(Math.Min(_bytesMax, FirstBytes), (bytes + PageBytes - 1) / PageBytes * PageBytes);
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

    /// <summary>Takes back files whose writes are durable elsewhere.</summary>
    public void Take(IReadOnlyList<LogFile> obsolete)
    {
        lock (_gate)
        {
            _obsolete.AddRange(obsolete);
            WakeLocked();
        }
    }

    /// <summary>Lets go of the map of a file that is full.</summary>
    public void Unmap(LogFile full)
    {
        lock (_gate)
        {
            _full.Add(full);
            WakeLocked();
        }
    }

    /// <summary>A file will be needed soon.</summary>
    public void WantFile()
    {
        lock (_gate)
        {
            _wantsFile = true;
            WakeLocked();
        }
    }

    /// <summary>The log was flushed: it may be again.</summary>
    public void SetFlushed() => Volatile.Write(ref _isFlushed, true);

    /// <summary>A memtable was filled: files are kept.</summary>
    public void SetBusy()
    {
        lock (_gate)
            _isBusy = true;
    }

    /// <summary>From now on files are short again, and none is kept until a memtable was filled.</summary>
    public void Shrink()
    {
        lock (_gate)
        {
            _lull++;
            _nextBytes = 0;
            _isBusy = _wantsFile = false;
            while (_kept.TryPop(out LogFile? file))
                _obsolete.Add(file);
            if (_prepared is not null)
                _obsolete.Add(_prepared);
            _prepared = null;
            if (_obsolete.Count > 0)
                WakeLocked();
        }
    }

    /// <summary>Ends the thread; what it has not done is left.</summary>
    public void StopThread()
    {
        Thread? thread;
        lock (_gate)
        {
            _stopping = true;
            Monitor.PulseAll(_gate);
            thread = _thread;
        }

        thread?.Join();
    }

    /// <summary>Removes what waits here. The log is closed.</summary>
    public void Dispose()
    {
        StopThread();
        Shrink();
        Return(_obsolete);
    }

    /// <summary>Keeps files or removes them.</summary>
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

    private void WakeLocked()
    {
        if (_stopping)
            return;
        if (_thread is null)
        {
            _thread = new Thread(Run) { IsBackground = true, Name = $"shardforge-logs {name}" };
            _thread.Start();
        }
        else
        {
            Monitor.Pulse(_gate);
        }
    }

    private void Run()
    {
        while (true)
        {
            LogFile[] full, obsolete;
            bool wantsFile;
            lock (_gate)
            {
                while (!_wantsFile && _full.Count == 0 && _obsolete.Count == 0 && !_stopping)
                    Monitor.Wait(_gate);
                if (_stopping)
                    return;
                full = _full.ToArray();
                obsolete = _obsolete.ToArray();
                wantsFile = _wantsFile;
                _full.Clear();
                _obsolete.Clear();
                _wantsFile = false;
            }

            if (wantsFile)
                Prepare();
            foreach (LogFile file in full)
                file.Unmap();
            Return(obsolete);
        }
    }

    private void Prepare()
    {
        LogFile? file;
        long bytes;
        int lull;
        lock (_gate)
        {
            if (_prepared is not null)
                return;
            lull = _lull;
            _nextBytes = bytes = Math.Min(_bytesMax, Math.Max(FirstBytes, 2 * _nextBytes));     // a shrink may begin it anew at once
            _kept.TryPop(out file);
        }

        try
        {
            file ??= new LogFile(files, directory, newNumber(), bytes);
            file.Prepare(Volatile.Read(ref _isFlushed));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // The writer that needs a file tries again, and is told if that fails.
            if (file is not null)
                Delete(file);
            return;
        }

        lock (_gate)
        {
            if (lull == _lull)
                _prepared = file;
            else
                _obsolete.Add(file);
        }
    }
}
