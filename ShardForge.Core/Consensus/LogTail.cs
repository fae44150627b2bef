namespace ShardForge.Consensus;

/// <summary>Knows from where on the last so many bytes of entries begin, without reading them again: by samples taken as they go by.</summary>
/// <remarks>Threads: <see cref="Note"/> from one; <see cref="DroppableIndex"/> from any.</remarks>
internal sealed class LogTail(long bytesMax)
{
    private const int SampleCount = 16;
    private readonly Queue<(long Index, long TotalBytes)> _samples = new(SampleCount + 1);
    private long _totalBytes, _sampledBytes, _droppable;

    /// <summary>More than the tail lies behind this index.</summary>
    public LogIndex DroppableIndex => new(Volatile.Read(ref _droppable));

    /// <summary>Entries up to an index went by, of so many bytes together.</summary>
    public void Note(LogIndex last, long bytes)
    {
        const int EntryBytes = 64;      // what an entry costs besides its payload, roughly: empty ones count too
        _totalBytes += bytes + EntryBytes;
        if (_totalBytes - _sampledBytes < bytesMax / SampleCount)
            return;
        _samples.Enqueue((last.Value, _totalBytes));
        _sampledBytes = _totalBytes;
        while (_samples.Peek().TotalBytes + bytesMax < _totalBytes)
            Volatile.Write(ref _droppable, _samples.Dequeue().Index);
    }
}
