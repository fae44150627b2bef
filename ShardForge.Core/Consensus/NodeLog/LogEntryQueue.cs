namespace ShardForge.Consensus.NodeLog;

/// <summary>A ring of entries: grows at the end, shrinks at both.</summary>
internal sealed class LogEntryQueue
{
    private LogEntry[] _ring = new LogEntry[16];                            // its length is a power of two
    private int _first;

    public int Count { get; private set; }

    public LogEntry this[long at]
    {
        get
        {
            Invariant.Require((ulong)at < (ulong)Count);
            return _ring[(_first + (int)at) & (_ring.Length - 1)];
        }
    }

    public void Add(LogEntry entry)
    {
        if (Count == _ring.Length)
            Resize(2 * _ring.Length);
        _ring[(_first + Count) & (_ring.Length - 1)] = entry;
        Count++;
    }

    public LogEntry RemoveFirst()
    {
        LogEntry entry = this[0];
        _ring[_first] = null!;
        _first = (_first + 1) & (_ring.Length - 1);
        Count--;
        ShrinkIfSparse();
        return entry;
    }

    public LogEntry RemoveLast()
    {
        LogEntry entry = this[Count - 1];
        _ring[(_first + Count - 1) & (_ring.Length - 1)] = null!;
        Count--;
        ShrinkIfSparse();
        return entry;
    }

    private void ShrinkIfSparse()
    {
        if (_ring.Length > 1024 && Count < _ring.Length / 8)
            Resize(_ring.Length / 4);
    }

    private void Resize(int length)
    {
        LogEntry[] ring = new LogEntry[length];
        for (int i = 0; i < Count; i++)
            ring[i] = _ring[(_first + i) & (_ring.Length - 1)];
        _ring = ring;
        _first = 0;
    }
}
