using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>An open table: its index and filter in native memory, its blocks through the cache.</summary>
/// <remarks>Safe for concurrent use. Whoever reads is in an epoch or holds the version that names the table, so it is not disposed meanwhile.</remarks>
internal sealed unsafe class TableReader : IDisposable
{
    /// <summary>For point reads that miss the cache; a cursor has its own.</summary>
    [ThreadStatic]
    private static ReadBuffer? s_threadBuffer;

    private readonly IFile _file;
    private readonly long _fileBytes;
    private readonly BlockCache _cache;
    private readonly LsmCounters _counters;
    private readonly ulong _tableId, _sequenceBase;
    private byte* _filter;
    private int _filterBytes, _tagRoom, _suffixBytes;
    private long _dataEndOffset;
    private TableIndex? _index;

    private TableReader(IFile file, long fileBytes, TableFooter footer, ulong ingestedAt, BlockCache cache, LsmCounters counters)
    {
        _file = file;
        _fileBytes = fileBytes;
        _tableId = footer.TableId;
        _sequenceBase = LsmFiles.IsExternalTableId(footer.TableId) ? EntryTrailer.Of(ingestedAt, EntryKind.Delete) : 0;
        _cache = cache;
        _counters = counters;
    }

    ~TableReader() => FreeMemory();

    public string Path => _file.Path;

    public TableProperties Properties { get; private set; } = new();

    /// <summary>Range tombstones as they were written (fragments, one per sequence number).</summary>
    public RangeTombstone[] Tombstones { get; private set; } = [];

    /// <summary>Data blocks.</summary>
    public int BlockCount => _index!.BlockCount;

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
            if (table is null || table._index is null)
            {
                table?.FreeMemory();
                file.Dispose();
            }
        }
    }

    /// <summary>False: no key of this hash is in the table.</summary>
    public bool MayContain(ulong hash) => _filter == null || BloomFilter.MayContain(_filter, _filterBytes, hash);

    /// <summary>To the first entry of the key's group at or after (key, trailer), or some entry that is not of the group. Inside an epoch; the hit lives as long.</summary>
    /// <param name="key">What is wanted.</param>
    /// <param name="hash">Of its group, as the filter has it.</param>
    /// <param name="trailer">See <see cref="EntryTrailer.Visible"/>.</param>
    /// <param name="nextBlock">Whether a later version will do, which may be in the next block.</param>
    /// <param name="hit">Released by the caller, whatever comes out.</param>
    public bool TrySeek(ReadOnlySpan<byte> key, ulong hash, ulong trailer, bool nextBlock, ref TableHit hit)
    {
        TableIndex index = _index!;
        int at = index.Find(key, trailer), end = Math.Min(index.BlockCount, nextBlock ? at + 2 : at + 1);
        int number = at;
        try
        {
            for (; number < end; number++)
            {
                if (TrySeekBlock(number, key, hash, trailer, ref hit))
                    return true;
                hit.Release();
            }

            return false;
        }
        catch (InvalidDataException error)
        {
            throw new CorruptionException(_file.Path, index.Handle(number).Offset, error.Message, error);
        }
    }

    /// <summary>Pins a block for longer than an epoch; from the file where it is not in the cache.</summary>
    /// <param name="number">Of the block.</param>
    /// <param name="fillCache">Whether it comes into the cache.</param>
    /// <param name="buffer">The caller's.</param>
    public BlockPin Pin(int number, bool fillCache, ReadBuffer buffer)
    {
        nint* cell = _index!.Cell(number);
        using ReadEpoch epoch = ReadEpoch.Enter();
        CachedBlock* block = BlockCache.Find(cell);
        bool isLoose = false;
        if (block != null)
            _counters.CountHit();
        else
            block = Read(number, fillCache, buffer, out isLoose);
        block->Pin();

        // In no cell: it goes with this pin.
        if (isLoose)
            block->Abandon();
        return new BlockPin(_cache, block);
    }

    /// <summary>Whether a block that the caller has pinned can be searched by its tags; built if it was used before.</summary>
    public bool TryBuildTags(CachedBlock* block)
    {
        if (block->Uses > 0)
            BlockTags.BuildOnce(block, BlockView.Of(block), _suffixBytes);
        return BlockTags.IsBuilt(block);
    }

    /// <summary>Has the lines fetched that a search in a block starts with.</summary>
    public void PrefetchBlock(int number)
    {
        if (number >= BlockCount)
            return;
        using ReadEpoch epoch = ReadEpoch.Enter();
        nint value = Volatile.Read(ref *_index!.Cell(number));
        if (value != 0 && (value & 1) == 0)
            Prefetch((CachedBlock*)value);
    }

    /// <summary>The first block that can have an entry at or after (key, trailer); <see cref="BlockCount"/>: none.</summary>
    public int FindBlock(ReadOnlySpan<byte> key, ulong trailer) => _index!.Find(key, trailer);

    /// <summary>Reads every block of the file and checks it.</summary>
    public void Verify()
    {
        using ReadBuffer buffer = new();
        BlockCursor data = new();
        for (int number = 0; number < BlockCount; number++)
        {
            CachedBlock* block = Read(number, fillCache: false, buffer, out _);
            try
            {
                data.Open(BlockView.Of(block));
                for (data.SeekFirst(); data.IsValid; data.MoveNext())
                    Invariant.Check(EntryTrailer.Compare(data.Key, data.Trailer, _index!.Separator(number), _index.SeparatorTrailer(number)) <= 0);
            }
            finally
            {
                _cache.Free(block);
            }
        }
    }

    public void Dispose()
    {
        FreeMemory();
        _file.Dispose();
        GC.SuppressFinalize(this);
    }

    private bool TrySeekBlock(int number, ReadOnlySpan<byte> key, ulong hash, ulong trailer, ref TableHit hit)
    {
        nint* cell = _index!.Cell(number);
        CachedBlock* block = BlockCache.Find(cell);
        BlockView view;
        if (block != null)
        {
            Prefetch(block);
            _counters.CountHit();
            view = BlockView.Of(block);
            BlockTags.BuildOnce(block, view, _suffixBytes);
        }
        else
        {
            ReadBuffer buffer = s_threadBuffer ??= new ReadBuffer();
            block = Read(number, fillCache: true, buffer, out bool isLoose);
            buffer.Forget();
            if (isLoose)
                hit.Own(_cache, block);
            view = BlockView.Of(block);
        }

        return BlockTags.IsBuilt(block)
            ? BlockTags.Find(block, view, key, hash, trailer, _suffixBytes, ref hit.Found)
            : hit.Found.Find(view, key, trailer);
    }

    /// <summary>Header, tags and offsets of a usual block, all at once.</summary>
    private static void Prefetch(CachedBlock* block)
    {
        if (!Sse.IsSupported)
            return;
        byte* at = (byte*)block;
        Sse.Prefetch0(at);
        Sse.Prefetch0(at + 64);
        Sse.Prefetch0(at + 128);
        Sse.Prefetch0(at + 192);
        Sse.Prefetch0(at + 256);
        Sse.Prefetch0(at + 320);
    }

    /// <summary>Reads a block from the file.</summary>
    /// <param name="number">Of the block.</param>
    /// <param name="fillCache">Whether it comes into the cache; inside an epoch then.</param>
    /// <param name="buffer">Used meanwhile.</param>
    /// <param name="isLoose">It is in no cell: the caller frees it.</param>
    private CachedBlock* Read(int number, bool fillCache, ReadBuffer buffer, out bool isLoose)
    {
        _counters.CountMiss();
        BlockHandle handle = _index!.Handle(number);
        nint* cell = _index.Cell(number);
        StoredBlock stored = buffer.Read(_file, _tableId, handle, _dataEndOffset);
        CachedBlock* block = _cache.Allocate(stored.ContentBytes, _tagRoom);
        byte* content = CachedBlock.Content(block);
        bool isWhole = false;
        try
        {
            stored.Decode(new Span<byte>(content, stored.ContentBytes));
            if (!BlockView.TryOpen(content, stored.ContentBytes, out BlockView view))
                throw new CorruptionException(_file.Path, handle.Offset, "the checksum is right and the content is not a block.");
            view.Describe(block);
            block->TrailerBase += _sequenceBase;
            isWhole = true;
        }
        finally
        {
            if (!isWhole)
                _cache.Free(block);
        }

        isLoose = true;
        return fillCache ? _cache.Insert(cell, block, out isLoose) : block;
    }

    private void Load(TableFooter footer)
    {
        byte* block = BlockReader.Read(_file, _tableId, footer.Properties, out int bytes);
        try
        {
            Properties = TableProperties.Read(View(block, bytes, footer.Properties));
        }
        finally
        {
            NativeMemory.Free(block);
        }

        if (Properties.IndexLevels != 1)
            throw new ConfigurationException("DataDirectory", $"{Path} has an index of {Properties.IndexLevels} levels; this version of the library reads 1.");

        // Tags go by what the filter hashes, and the filter says what that is.
        _suffixBytes = Properties.VersionSuffixBytes;
        _tagRoom = BlockTags.RoomFor(Properties.Entries, Properties.DataBlocks, Properties.KeyBytes + Properties.ValueBytes);
        if (!Properties.Filter.IsNone)
            LoadFilter();
        if (!Properties.Tombstones.IsNone)
            Tombstones = LoadTombstones(Properties.Tombstones);

        // Last: an open index says that all of it is there.
        block = BlockReader.Read(_file, _tableId, footer.Index, out bytes);
        TableIndex? index = null;
        try
        {
            index = TableIndex.TryCreate(block, bytes) ?? throw new CorruptionException(Path, footer.Index.Offset, "the index's checksum is right and its content is not an index.");
        }
        finally
        {
            if (index is null)
                NativeMemory.Free(block);
        }

        try
        {
            for (int number = 0; number < index.BlockCount; number++)
                TableFormat.CheckHandle(Path, _fileBytes, index.Handle(number));
        }
        catch
        {
            index.Dispose();
            throw;
        }

        if (index.BlockCount > 0)
        {
            BlockHandle last = index.Handle(index.BlockCount - 1);
            _dataEndOffset = last.Offset + last.Bytes + TableFormat.BlockTrailerBytes;
        }

        _index = index;
        _cache.AddFixed(index.MemoryBytes + _filterBytes);
    }

    private void LoadFilter()
    {
        TableFormat.CheckHandle(Path, _fileBytes, Properties.Filter);
        byte* block = BlockReader.Read(_file, _tableId, Properties.Filter, out _filterBytes);
        _filter = (byte*)NativeMemory.AlignedAlloc((nuint)_filterBytes, 64);
        NativeMemory.Copy(block, _filter, (nuint)_filterBytes);
        NativeMemory.Free(block);
        if (!BloomFilter.IsWellFormed(new(_filter, _filterBytes)))
            throw new CorruptionException(Path, Properties.Filter.Offset, "the filter's checksum is right and its content is not a filter.");
    }

    private RangeTombstone[] LoadTombstones(BlockHandle handle)
    {
        TableFormat.CheckHandle(Path, _fileBytes, handle);
        byte* block = BlockReader.Read(_file, _tableId, handle, out int bytes);
        try
        {
            BlockCursor cursor = new();
            cursor.Open(View(block, bytes, handle));
            List<RangeTombstone> tombstones = [];
            for (cursor.SeekFirst(); cursor.IsValid; cursor.MoveNext())
                tombstones.Add(new(cursor.Key.ToArray(), cursor.Value.ToArray(), EntryTrailer.Sequence(cursor.Trailer)));
            return tombstones.ToArray();
        }
        finally
        {
            NativeMemory.Free(block);
        }
    }

    private BlockView View(byte* block, int bytes, BlockHandle handle) =>
        BlockView.TryOpen(block, bytes, out BlockView view) ? view : throw new CorruptionException(_file.Path, handle.Offset, "the checksum is right and the content is not a block.");

    private void FreeMemory()
    {
        if (_index is not null)
        {
            _cache.AddFixed(-(_index.MemoryBytes + _filterBytes));
            _cache.RemoveAll(_index.Cells, _index.BlockCount);
            _index.Dispose();
            _index = null;
        }

        if (_filter != null)
            NativeMemory.AlignedFree(_filter);
        _filter = null;
    }
}

/// <summary>What a seek in a table found; its bytes live until the end of the epoch and until <see cref="Release"/>.</summary>
internal unsafe ref struct TableHit
{
    public BlockSearch Found;
    private BlockCache? _cache;
    private CachedBlock* _block;

    /// <summary>Takes a block over that is in no cell.</summary>
    public void Own(BlockCache cache, CachedBlock* block)
    {
        _cache = cache;
        _block = block;
    }

    public void Release()
    {
        _cache?.Free(_block);
        _cache = null;
    }
}
