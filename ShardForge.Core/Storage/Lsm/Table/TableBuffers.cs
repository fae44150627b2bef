namespace ShardForge.Storage.Lsm.Table;

/// <summary>The large buffers of a table that is written: used again for the next one, since arrays of megabytes for each would make the collector run all the time.</summary>
/// <remarks>One writer at a time.</remarks>
internal sealed class TableBuffers
{
    private const int HashesKeptMax = 4 * 1024 * 1024, BytesKeptMax = 8 * 1024 * 1024;

    /// <summary>Bytes for the file that are not written yet.</summary>
    public byte[] Pending = new byte[TableWriter.PendingBytes];

    /// <summary>Where the filter is built.</summary>
    public byte[] Filter = [];

    public List<ulong> Hashes { get; private set; } = [];

    public BlockBuilder Index { get; } = new(1);

    /// <summary>Empties them; what became too large for keeping goes.</summary>
    public void Reset()
    {
        Hashes.Clear();
        if (Hashes.Capacity > HashesKeptMax)
            Hashes = [];
        if (Pending.Length > BytesKeptMax)
            Pending = new byte[TableWriter.PendingBytes];
        if (Filter.Length > BytesKeptMax)
            Filter = [];
        Index.Reset();
    }
}

/// <summary>The buffers that all engines of a node write their tables with: as many are kept as there are workers. Safe for concurrent use.</summary>
internal sealed class TableBufferPool(int keptMax)
{
    private readonly Lock _gate = new();
    private readonly Stack<TableBuffers> _kept = new();

    public TableBuffers Rent()
    {
        lock (_gate)
            return _kept.TryPop(out TableBuffers? buffers) ? buffers : new TableBuffers();
    }

    public void Return(TableBuffers buffers)
    {
        buffers.Reset();
        lock (_gate)
        {
            if (_kept.Count < keptMax)
                _kept.Push(buffers);
        }
    }
}
