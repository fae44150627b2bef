using System.Runtime.InteropServices;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>An open table: its index and filter in native memory, its blocks through the cache.</summary>
/// <remarks>Safe for concurrent use. Whoever reads holds the version that names the table, so it is not disposed meanwhile.</remarks>
internal sealed unsafe class TableReader : IDisposable
{
    private readonly IFile _file;
    private readonly long _fileBytes;
    private readonly BlockCache _cache;
    private readonly LsmCounters _counters;
    private readonly ulong _tableId, _cacheId, _sequenceBase;
    private byte* _index, _filter;
    private int _indexBytes, _filterBytes;
    private BlockView _indexView;

    private TableReader(IFile file, long fileBytes, TableFooter footer, ulong ingestedAt, BlockCache cache, LsmCounters counters)
    {
        _file = file;
        _fileBytes = fileBytes;
        _tableId = footer.TableId;
        _sequenceBase = LsmFiles.IsExternalTableId(footer.TableId) ? EntryTrailer.Of(ingestedAt, EntryKind.Delete) : 0;
        _cache = cache;
        _counters = counters;
        _cacheId = cache.NewTableId();
    }

    ~TableReader() => FreeMemory();

    public string Path => _file.Path;

    public TableProperties Properties { get; private set; } = new();

    /// <summary>Range tombstones as they were written (fragments, one per sequence number).</summary>
    public RangeTombstone[] Tombstones { get; private set; } = [];

    public BlockView Index => _indexView;

    /// <summary>Opens a table; <paramref name="file"/> is taken over, also by a failure.</summary>
    /// <param name="file">The table.</param>
    /// <param name="fileBytes">Its length.</param>
    /// <param name="ingestedAt">Sequence number of the entries of a table that was written outside of an engine: in the file they have 0.</param>
    /// <param name="cache">For its blocks.</param>
    /// <param name="counters">The engine's.</param>
    public static TableReader Open(IFile file, long fileBytes, ulong ingestedAt, BlockCache cache, LsmCounters counters)
    {
        TableReader? table = null;
        try
        {
            TableFooter footer = TableFormat.ReadFooter(file, fileBytes);
            table = new TableReader(file, fileBytes, footer, ingestedAt, cache, counters);
            table.Load(footer);
            return table;
        }
        catch (InvalidDataException error)
        {
            throw new CorruptionException(file.Path, 0, error.Message, error);
        }
        finally
        {
            if (table is null || table._index == null)
            {
                table?.FreeMemory();
                file.Dispose();
            }
        }
    }

    /// <summary>False: no key of this hash is in the table.</summary>
    public bool MayContain(ulong hash) => _filter == null || BloomFilter.MayContain(_filter, _filterBytes, hash);

    /// <summary>To the first entry at or after (key, trailer). The hit holds a pin, also the false one that has none.</summary>
    public bool TrySeek(ReadOnlySpan<byte> key, ulong trailer, bool nextBlock, ref TableHit hit)
    {
        BlockSearch index = default;
        if (!index.Find(_indexView, key, trailer))
            return false;
        BlockHandle handle = ReadHandle(index.Value);
        BlockPin pin = Pin(handle, fillCache: true);
        BlockSearch search = default;
        bool found = search.Find(View(pin, handle), key, trailer);
        if (found)
        {
            hit.Set(pin, search);
            return true;
        }

        pin.Release();
        return nextBlock && TrySeekNextBlock(key, index, ref hit);
    }

    /// <summary>Pins a block; from the file where it is not in the cache.</summary>
    public BlockPin Pin(BlockHandle handle, bool fillCache)
    {
        if (_cache.TryPin(_cacheId, handle.Offset, out BlockPin pin))
        {
            _counters.BlockCacheHits.Increment();
            return pin;
        }

        _counters.BlockCacheMisses.Increment();
        byte* block = BlockReader.Read(_file, _tableId, handle, out int bytes);
        return fillCache ? _cache.Insert(_cacheId, handle.Offset, block, bytes) : new BlockPin(null, 0, block, bytes);
    }

    public BlockView View(in BlockPin pin, BlockHandle handle)
    {
        if (BlockView.TryOpen(pin.Block, pin.Bytes, out BlockView view))
            return _sequenceBase == 0 ? view : view.WithTrailersAbove(_sequenceBase);
        pin.Release();
        throw new CorruptionException(_file.Path, handle.Offset, "the checksum is right and the content is not a block.");
    }

    public BlockHandle ReadHandle(ReadOnlySpan<byte> value)
    {
        if (!BlockHandle.TryRead(value, out BlockHandle handle))
            throw new CorruptionException(_file.Path, 0, "the index has an entry that is not a handle.");
        TableFormat.CheckHandle(_file.Path, _fileBytes, handle);
        return handle;
    }

    /// <summary>Reads every block of the file and checks it.</summary>
    public void Verify()
    {
        BlockCursor index = new();
        index.Open(_indexView);
        BlockCursor data = new();
        for (index.SeekFirst(); index.IsValid; index.MoveNext())
        {
            BlockHandle handle = ReadHandle(index.Value);
            byte* block = BlockReader.Read(_file, _tableId, handle, out int bytes);
            BlockPin pin = new(null, 0, block, bytes);
            data.Open(View(pin, handle));
            for (data.SeekFirst(); data.IsValid; data.MoveNext())
                Invariant.Check(EntryTrailer.Compare(data.Key, data.Trailer, index.Key, index.Trailer) <= 0);
            pin.Release();
        }
    }

    public void Dispose()
    {
        FreeMemory();
        _file.Dispose();
        GC.SuppressFinalize(this);
    }

    private bool TrySeekNextBlock(ReadOnlySpan<byte> key, in BlockSearch index, ref TableHit hit)
    {
        // The wanted key lies between the block's last entry and its separator: what follows is the next block's first entry.
        byte[] separator = [.. key[..index.SharedBytes], .. index.OwnKey];
        BlockCursor cursor = new();
        cursor.Open(_indexView);
        cursor.Seek(separator, index.Trailer);
        cursor.MoveNext();
        if (!cursor.IsValid)
            return false;
        BlockHandle handle = ReadHandle(cursor.Value);
        BlockPin pin = Pin(handle, fillCache: true);
        BlockSearch search = default;
        if (search.Find(View(pin, handle), key, EntryTrailer.Oldest))
        {
            hit.Set(pin, search);
            return true;
        }

        pin.Release();
        return false;
    }

    private void Load(TableFooter footer)
    {
        byte* block = BlockReader.Read(_file, _tableId, footer.Properties, out int bytes);
        BlockPin pin = new(null, 0, block, bytes);
        Properties = TableProperties.Read(View(pin, footer.Properties));
        pin.Release();
        if (Properties.IndexLevels != 1)
            throw new ConfigurationException("DataDirectory", $"{Path} has an index of {Properties.IndexLevels} levels; this version of the library reads 1.");

        if (!Properties.Filter.IsNone)
        {
            TableFormat.CheckHandle(Path, _fileBytes, Properties.Filter);
            block = BlockReader.Read(_file, _tableId, Properties.Filter, out _filterBytes);
            _filter = (byte*)NativeMemory.AlignedAlloc((nuint)_filterBytes, 64);
            NativeMemory.Copy(block, _filter, (nuint)_filterBytes);
            NativeMemory.Free(block);
            if (!BloomFilter.IsWellFormed(new(_filter, _filterBytes)))
                throw new CorruptionException(Path, Properties.Filter.Offset, "the filter's checksum is right and its content is not a filter.");
        }

        if (!Properties.Tombstones.IsNone)
            Tombstones = LoadTombstones(Properties.Tombstones);

        // Last: an open index says that all of it is there.
        byte* index = BlockReader.Read(_file, _tableId, footer.Index, out _indexBytes);
        if (!BlockView.TryOpen(index, _indexBytes, out _indexView))
        {
            NativeMemory.Free(index);
            throw new CorruptionException(Path, footer.Index.Offset, "the index's checksum is right and its content is not a block.");
        }

        _index = index;
        _cache.AddFixed(_indexBytes + _filterBytes);
    }

    private RangeTombstone[] LoadTombstones(BlockHandle handle)
    {
        TableFormat.CheckHandle(Path, _fileBytes, handle);
        byte* block = BlockReader.Read(_file, _tableId, handle, out int bytes);
        BlockPin pin = new(null, 0, block, bytes);
        BlockCursor cursor = new();
        cursor.Open(View(pin, handle));
        List<RangeTombstone> tombstones = [];
        for (cursor.SeekFirst(); cursor.IsValid; cursor.MoveNext())
            tombstones.Add(new(cursor.Key.ToArray(), cursor.Value.ToArray(), EntryTrailer.Sequence(cursor.Trailer)));
        pin.Release();
        return tombstones.ToArray();
    }

    private void FreeMemory()
    {
        if (_index != null)
        {
            _cache.AddFixed(-(_indexBytes + _filterBytes));
            NativeMemory.Free(_index);
        }

        if (_filter != null)
            NativeMemory.AlignedFree(_filter);
        _index = _filter = null;
        _indexView = default;
    }
}

/// <summary>What a seek in a table found; its bytes live until <see cref="Release"/>.</summary>
internal ref struct TableHit
{
    private BlockPin _pin;

    /// <summary>Bytes of the wanted key that the found key starts with.</summary>
    public int SharedBytes { get; private set; }

    /// <summary>The rest of the found key.</summary>
    public ReadOnlySpan<byte> OwnKey { get; private set; }

    public ReadOnlySpan<byte> Value { get; private set; }

    public ulong Trailer { get; private set; }

    /// <summary>Whether the found key is the wanted one.</summary>
    public bool IsKey { get; private set; }

    public void Set(BlockPin pin, in BlockSearch found)
    {
        _pin = pin;
        SharedBytes = found.SharedBytes;
        OwnKey = found.OwnKey;
        Value = found.Value;
        Trailer = found.Trailer;
        IsKey = found.IsKey;
    }

    public void Release()
    {
        if (!_pin.IsNone)
            _pin.Release();
        _pin = default;
    }
}
