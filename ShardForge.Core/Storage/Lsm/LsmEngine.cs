using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using ShardForge.Common;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Memtables;
using ShardForge.Storage.Lsm.Reads;
using ShardForge.Storage.Lsm.Wal;

namespace ShardForge.Storage.Lsm;

/// <summary>The log-structured merge tree.</summary>
/// <remarks><code>
/// write → write-ahead log (alone only) → memtable → [full: immutable] → flush → level 0 → compaction → level 1 … 6
/// read  → memtable → immutables → level 0, newest first → level 1 … 6: the first entry found for a key is the newest
/// </code>
/// Folders in the order of the data: <c>Wal</c>, <c>Memtables</c>, <c>Table</c>, <c>Manifest</c>, <c>Compaction</c>; <c>Reads</c> looks into all of them. Partials: Open, Reads, Writes,
/// Flush, Compactions (which), Merges (how), Ingest, Jobs, Failures, Checkpoint, MultiGet, Statistics; <c>Verify</c> reads directories that are not open, <c>TimeToLive</c> is a layer above.
/// <para><b>Threads.</b> Writers take the write latch one after the other and do no disk flush in it; readers take no latch: they enter an epoch
/// (<see cref="ReadEpoch"/>) or add a reference to the read state, then read the visible sequence number. Flushes, one at a time, and compactions, several where they do not conflict, run on the node's workers.</para>
/// <para><b>Latch order.</b> <see cref="VersionSet"/>'s (background only) → write latch → gate → those of the parts. The gate guards the lists and flags below; no
/// I/O and no waiter's code runs in it.</para>
/// <para><b>Failure.</b> A failed flush of a file, or a broken invariant, is final: the engine takes no more writes and says why; reads go on. A full disk is not: what cannot be
/// written stays in memory, writes are refused as transient once memory is used up, and the next one tries again.</para></remarks>
internal sealed partial class LsmEngine : ITransactionalEngine, ILsmEngine
{
    public const string EngineName = "lsm", ExpiringEngineName = "lsm with time to live";
    public const uint FormatVersion = 1;

    private readonly StorageEngineContext _context;
    private readonly LsmOptions _options;
    private readonly ILogger _logger;
    private readonly IFileSystem _fileSystem;
    private readonly LsmFiles _files;
    private readonly LsmShared _shared;
    private readonly StorageResources? _ownResources;
    private readonly LsmCounters _counters = new();
    private readonly SnapshotList _snapshots = new();
    private readonly WriteHistory _history = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly object _writeLatch = new();
    private readonly Lock _gate = new();

    // Owned from the open on.
    private IDisposable? _directoryLock;
    private VersionSet _versions = null!;
    private WriteAheadLog? _log;

    // Guarded by the write latch; the sequence number is read by all.
    private Memtable _active = null!;

    private readonly VisibleLine _visible = new();

    // Guarded by the gate.
    private readonly List<Memtable> _immutables = [];    // newest first
    private ReadState? _state;                           // null: disposed

    private volatile Exception? _failure;
    private int _disposed;

    private LsmEngine(StorageEngineContext context, LsmOptions options)
    {
        _context = context;
        _options = options;
        _pace = new WritePace(options.LevelZeroSlowdownTables, options.LevelZeroStopTables);
        _logger = context.LoggerFactory.CreateLogger("ShardForge.Storage.Lsm");
        _fileSystem = context.FileSystem;
        _ownResources = context.Resources is null ? new StorageResources() : null;
        _shared = (context.Resources ?? _ownResources!).Lsm;
        _shared.AddEngine();
        _runFlush = RunFlush;
        _runCompaction = RunCompaction;
        _runDeletes = RunDeletes;
        _files = new LsmFiles(_fileSystem, context.Directory!, _shared.Cache, _counters, ScheduleDeletes);
    }

    /// <summary>What the directory's marker says: values with their expiry are not values without.</summary>
    private string MarkerName => _options.TimeToLive is null ? EngineName : ExpiringEngineName;

    private int SuffixBytes => _versions.VersionSuffixBytes;

    /// <summary>Sequence number up to which all is visible; written under the write latch.</summary>
    private ref ulong VisibleSequence => ref _visible.Sequence;

    public void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(Volatile.Read(ref _disposed) != 0, typeof(IStorageEngine));

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        await StopBackgroundAsync().ConfigureAwait(false);

        // Whoever got into the latch before the flag was set is out now; whoever comes later sees it.
        lock (_writeLatch)
            Invariant.Check(_disposed == 1);
        _log?.Dispose();
        WriteClosed();
        Release();
    }

    /// <summary>Files cut short while nobody has them open shall be noticed; see <see cref="CurrentFile"/>.</summary>
    private void WriteClosed()
    {
        if (_failure is not null || _log is { IsDurable: false })
            return;
        try
        {
            CurrentFile.WriteClosed(_fileSystem, _files.Directory,
                new(_versions.ManifestNumber, _versions.ManifestDurableOffset, _log?.Current.Number ?? 0, _log?.Current.DurableOffset ?? 0));
        }
        catch (IOException)
        {
            // A help, not a promise: without it the next open knows less.
            return;
        }
    }

    /// <summary>Lets go of everything that is there, also after an open that failed half-way.</summary>
    private void Release()
    {
        ReadState? state;
        lock (_gate)
        {
            state = _state;
            _state = null;
        }

        state?.Release();
        _active?.Release();
        foreach (Memtable memtable in _immutables)
            memtable.Release();
        _immutables.Clear();
        _versions?.Dispose();
        _directoryLock?.Dispose();
        _shared.RemoveEngine();
        _ownResources?.Dispose();
        _stop.Dispose();
    }

    private void ThrowIfFailed()
    {
        if (_failure is { } failure)
            throw new ShardForgeException($"{_context.Name} takes no more writes since a failure: {failure.Message} Nothing was written.", isTransient: false, failure);
    }

    /// <summary>What every write changes and every read looks at: on cache lines of its own, so that readers do not wait for them when they look at anything else.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private sealed class VisibleLine
    {
        [FieldOffset(128)]
        public ulong Sequence;
    }
}
