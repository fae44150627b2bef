namespace ShardForge.Storage.Lsm.Reads;

/// <summary>What an iterator works with, kept for the next one: cursors with their buffers, a merge, a key and a value.</summary>
/// <remarks>Belongs to one iterator at a time; the iterator itself is new for each scan, so that one that was disposed can never move another's.</remarks>
[System.Diagnostics.CodeAnalysis.SuppressMessage("Design", "CA1001", Justification = "Closed by each iterator, which leaves nothing to dispose.")]
internal sealed class ScanCursors
{
    /// <summary>A value that grew over this is dropped with its scan.</summary>
    private const int ValueBytesMax = 1024 * 1024;

    private readonly List<LevelCursor> _runs = [];
    private readonly MergeCursor _merge = new([]);
    private EntryCursor[] _cursors = new EntryCursor[16];
    private byte[] _key = new byte[64], _value = [];
    private int _count, _runCount, _keyBytes, _valueBytes;

    public ReadOnlySpan<byte> SavedKey => _key.AsSpan(0, _keyBytes);

    public ReadOnlySpan<byte> SavedValue => _value.AsSpan(0, _valueBytes);

    public void Add(EntryCursor cursor)
    {
        if (_count == _cursors.Length)
            Array.Resize(ref _cursors, 2 * _count);
        _cursors[_count++] = cursor;
    }

    public void Add(TableRun run)
    {
        if (_runCount == _runs.Count)
            _runs.Add(new LevelCursor(fillCache: true));
        LevelCursor cursor = _runs[_runCount++];
        cursor.Open(run);
        Add(cursor);
    }

    /// <summary>The merge of what was added.</summary>
    public MergeCursor Open()
    {
        _merge.Open(_cursors, _count);
        return _merge;
    }

    /// <summary>Lets go of blocks, tables and memtables; may be used again.</summary>
    public void Close()
    {
        _merge.Dispose();
        Array.Clear(_cursors, 0, _count);
        _count = _runCount = 0;
        if (_value.Length > ValueBytesMax)
            _value = [];
    }

    public void SaveKey(ReadOnlySpan<byte> key)
    {
        if (_key.Length < key.Length)
            _key = new byte[Math.Max(key.Length, 2 * _key.Length)];
        key.CopyTo(_key);
        _keyBytes = key.Length;
    }

    public void SaveValue(ReadOnlySpan<byte> value)
    {
        if (_value.Length < value.Length)
            _value = new byte[Math.Max(value.Length, 2 * _value.Length)];
        value.CopyTo(_value);
        _valueBytes = value.Length;
    }
}
