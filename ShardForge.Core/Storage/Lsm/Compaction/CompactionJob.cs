using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>A compaction that runs, in one part or in several side by side, each over its own range of keys with its own tables.</summary>
/// <remarks>Whoever ends the last part ends the job: nobody waits for another part, so parts cannot block each other for want of a worker. The first failure stops the others.</remarks>
internal sealed class CompactionJob : IDisposable
{
    private readonly Lock _gate = new();
    private readonly CancellationTokenSource _stop;
    private int _openParts;
    private Exception? _failure;

    /// <param name="pick">What is merged.</param>
    /// <param name="manual">Whose merge it is; null: an automatic one.</param>
    /// <param name="version">Holds the inputs; the job has a reference of its own.</param>
    /// <param name="cuts">Ascending bounds between the parts, each between two key groups.</param>
    /// <param name="stop">Of the engine.</param>
    public CompactionJob(CompactionPick pick, ManualCompaction? manual, LsmVersion version, IReadOnlyList<byte[]> cuts, CancellationToken stop)
    {
        Pick = pick;
        Manual = manual;
        Version = version;
        _stop = CancellationTokenSource.CreateLinkedTokenSource(stop, manual?.Stop ?? CancellationToken.None);
        Parts = new CompactionPart[cuts.Count + 1];
        for (int index = 0; index < Parts.Length; index++)
            Parts[index] = new(index == 0 ? null : cuts[index - 1], index == cuts.Count ? null : cuts[index]);
        _openParts = Parts.Length;
    }

    public CompactionPick Pick { get; }

    public ManualCompaction? Manual { get; }

    public LsmVersion Version { get; }

    public CompactionPart[] Parts { get; }

    public CancellationToken Stop => _stop.Token;

    /// <summary>The first failure of a part; null: none.</summary>
    public Exception? Failure
    {
        get
        {
            lock (_gate)
                return _failure;
        }
    }

    public void Fail(Exception error)
    {
        lock (_gate)
        {
            if (_failure is not null)
                return;
            _failure = error;
        }

        _stop.Cancel();
    }

    /// <summary>True for the last one.</summary>
    public bool EndPart() => Interlocked.Decrement(ref _openParts) == 0;

    public void Dispose() => _stop.Dispose();
}

/// <summary>One part of a compaction: its range and what it wrote.</summary>
internal sealed class CompactionPart(byte[]? start, byte[]? end)
{
    public byte[]? Start => start;

    public byte[]? End => end;

    public VersionEdit Edit { get; } = new();

    public long BytesWritten { get; set; }
}
