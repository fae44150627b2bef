using Microsoft.Extensions.Logging;
using ShardForge.Common;

namespace ShardForge.Consensus.NodeLog;

/// <summary>Room on the disk that a node keeps for the time when there is none (R34), and the decision whether what takes room is admitted.</summary>
/// <remarks><code>
/// roomy    the reserve is complete (or on its way), there is a margin besides: everything is admitted
///            │ a write met a full disk                  │ free below the margin
///            ▼                                          ▼
/// full     the reserve is deleted                     low   the reserve is kept
///            deletes, the log, flushes and compactions use that room; puts are refused
///            │ there is room for the reserve and twice the margin, and the reserve is back
///            ▼
/// roomy
/// </code>
/// The reserve is written with zeros, so nobody else can have taken its blocks; in small steps some time after the open, so that a start does not wait for it.
/// Whoever fills the disk from outside can take the room that was let go, too: then deletes are refused as well, and the log's own reserve is left for votes.
/// <para>Threads: one of its own (it does slow file work); <see cref="HasRoom"/> and <see cref="ReportFull"/> from any.</para>
/// </remarks>
internal sealed class DiskReserve : IAsyncDisposable
{
    public const string FileName = "reserve";

    private const int StepBytes = 1024 * 1024;
    private static readonly TimeSpan s_startDelay = TimeSpan.FromSeconds(1), s_stepDelay = TimeSpan.FromMilliseconds(20), s_lookDelay = TimeSpan.FromSeconds(1), s_fullLookDelay = TimeSpan.FromMilliseconds(200);
    private readonly object _gate = new();                                  // a monitor: the thread waits on it
    private readonly IFileSystem _files;
    private readonly string _directory, _path;
    private readonly long _bytes, _marginBytes;
    private readonly ILogger _logger;
    private readonly Thread _thread;
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _heldBytes;                                                // its thread only
    private bool _isReported, _isStopped;
    private volatile bool _hasRoom = true;

    /// <param name="files">Where the node's data is.</param>
    /// <param name="directory">The node's data directory; it exists.</param>
    /// <param name="bytes">Size of the reserve; the margin is half of it.</param>
    /// <param name="nodeName">For the thread's name.</param>
    /// <param name="logger">For the changes of state.</param>
    public DiskReserve(IFileSystem files, string directory, long bytes, string nodeName, ILogger logger)
    {
        _files = files;
        _directory = directory;
        _path = Path.Combine(directory, FileName);
        _bytes = bytes;
        _marginBytes = bytes / 2;
        _logger = logger;
        _thread = new Thread(Run) { Name = $"shardforge-reserve {nodeName}", IsBackground = true };
    }

    /// <summary>The disk became full: whoever can free something should. On the reserve's thread.</summary>
    public event Action? BecameFull;

    /// <summary>Whether what takes room is admitted.</summary>
    public bool HasRoom => _hasRoom;

    /// <summary>Before the start: lets go of what an earlier run kept, since the disk is full. False: there was nothing.</summary>
    public bool TryRelease()
    {
        _hasRoom = false;
        _isReported = true;
        return Release();
    }

    /// <summary>Once, before it is disposed.</summary>
    public void Start() => _thread.Start();

    /// <summary>A write met a full disk. Returns at once.</summary>
    public void ReportFull()
    {
        _hasRoom = false;
        lock (_gate)
        {
            _isReported = true;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Ends the thread; the file stays. May be called twice.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (_gate)
        {
            _isStopped = true;
            Monitor.PulseAll(_gate);
        }

        await _ended.Task.ConfigureAwait(false);
    }

    private void Run()
    {
        TimeSpan delay = s_startDelay;
        bool isRoomy = true;
        while (WaitFor(delay, out bool isReported))
        {
            try
            {
                bool wasRoomy = isRoomy;
                delay = Step(isReported, ref isRoomy);
                if (wasRoomy != isRoomy)
                    Tell(isRoomy);
            }
            catch (Exception error)
            {
                // A disk that fails is the log's and the engines' matter; without a reserve, deletes are refused as puts are.
                NodeLogMessages.NoReserve(_logger, _directory, error);
                delay = s_lookDelay * 10;
            }
        }

        _ended.TrySetResult();
    }

    private bool WaitFor(TimeSpan delay, out bool isReported)
    {
        lock (_gate)
        {
            if (!_isReported && !_isStopped)
                Monitor.Wait(_gate, delay);
            isReported = _isReported;
            _isReported = false;
            return !_isStopped;
        }
    }

    /// <returns>When to look again.</returns>
    private TimeSpan Step(bool isReported, ref bool isRoomy)
    {
        if (isReported)
        {
            Release();
            isRoomy = false;
            return s_fullLookDelay;
        }

        long free = _files.GetFreeBytes(_directory);
        if (isRoomy && free < _marginBytes)
        {
            isRoomy = false;
            _hasRoom = false;
            return s_fullLookDelay;
        }

        if (!isRoomy && free < _bytes - _heldBytes + (2 * _marginBytes))
            return s_fullLookDelay;
        if (_heldBytes < _bytes)
        {
            if (!TryGrow())
                return s_fullLookDelay;
            if (_heldBytes < _bytes)
                return isRoomy ? s_stepDelay : TimeSpan.Zero;
        }

        if (!isRoomy)
        {
            isRoomy = true;
            lock (_gate)
                _hasRoom = !_isReported;                                    // reported meanwhile: the next step sees it
        }

        return s_lookDelay;
    }

    private bool TryGrow()
    {
        try
        {
            using IFile file = _files.Open(_path, _files.FileExists(_path) ? FileOpenMode.ReadWrite : FileOpenMode.CreateNew);
            file.Preallocate(Math.Min(_bytes, Math.Max(_heldBytes, file.Length) + StepBytes));
            _heldBytes = file.Length;
            return true;
        }
        catch (IOException error) when (DiskErrors.IsDiskFull(error))
        {
            ReportFull();
            return false;
        }
    }

    private bool Release()
    {
        _heldBytes = 0;
        if (!_files.FileExists(_path))
            return false;
        _files.Delete(_path);
        _files.FlushDirectory(_directory);
        return true;
    }

    private void Tell(bool isRoomy)
    {
        if (isRoomy)
        {
            NodeLogMessages.AdmitsAgain(_logger, _directory);
            return;
        }

        NodeLogMessages.RefusesPuts(_logger, _directory);
        BecameFull?.Invoke();
    }
}
