using System.Runtime.InteropServices;
using ShardForge.Common;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Verify;

/// <summary>Reads a table block by block, past what is damaged: reports every damage and hands out every whole entry, in order.</summary>
/// <remarks>
/// By the index if that can be read. If not, block after block from the beginning: blocks lie one behind the other, and the end of one is where its checksum is
/// right. That needs the manifest, which says how many entries there are; behind a damaged block it has no place to go on from.
/// </remarks>
internal sealed unsafe class TableCheck(IFileSystem files, string path, ulong number, TableSummary? summary, List<StorageDamage> damage, CancellationToken cancellationToken)
{
    /// <summary>Longest block that is looked for without an index.</summary>
    private const int BlockBytesMax = 8 * 1024 * 1024;

    /// <summary>Gets an entry; it lives until the call returns.</summary>
    public delegate void EntrySink(ReadOnlySpan<byte> key, ulong trailer, ReadOnlySpan<byte> value);

    private readonly BlockCursor _cursor = new();
    private ulong _sequenceBase;
    private byte[] _lastKey = new byte[64];
    private int _lastKeyBytes;
    private ulong _lastTrailer;
    private bool _hasLast;

    public long Blocks { get; private set; }

    public long Entries { get; private set; }

    public long Bytes { get; private set; }

    /// <summary>What the table's filter leaves out of keys, as its properties say.</summary>
    public int VersionSuffixBytes { get; private set; }

    /// <summary>Range tombstones, if their block is whole.</summary>
    public List<RangeTombstone> Tombstones { get; } = [];

    /// <summary>Whether nothing was wrong.</summary>
    public bool IsIntact { get; private set; } = true;

    public void Run(EntrySink? sink)
    {
        if (!files.FileExists(path))
        {
            Report(0, "the manifest names this table, and it is missing.");
            return;
        }

        using IFile file = files.Open(path, FileOpenMode.Read);
        Bytes = file.Length;
        if (summary is not null && Bytes != summary.Bytes)
            Report(Math.Min(Bytes, summary.Bytes), $"the manifest says that this table has {summary.Bytes:N0} bytes, and it has {Bytes:N0}.");
        if (!Try(() => TableFormat.ReadFooter(file, Bytes), out TableFooter footer) || !TryReadIndex(file, footer, out List<BlockHandle> blocks))
        {
            Scan(file, sink);
            return;
        }

        if (footer.TableId != number && !LsmFiles.IsExternalTableId(footer.TableId))
            Report(Bytes - TableFormat.FooterBytes, $"the footer says that this is table {footer.TableId}.");
        if (LsmFiles.IsExternalTableId(footer.TableId) && summary is not null)
            _sequenceBase = EntryTrailer.Of(summary.SmallestSequence, EntryKind.Delete);
        foreach (BlockHandle handle in blocks)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (Try(() => TableFormat.CheckHandle(path, Bytes, handle)))
                TryReadBlock(file, footer.TableId, handle, (view, _) => Walk(view.WithTrailersAbove(_sequenceBase), handle.Offset, sink));
        }

        CheckProperties(file, footer);
        if (summary is not null && IsIntact && Entries != summary.Entries)
            Report(0, $"the manifest says that this table has {summary.Entries:N0} entries, and it has {Entries:N0}.");
    }

    private bool TryReadIndex(IFile file, TableFooter footer, out List<BlockHandle> blocks)
    {
        List<BlockHandle> found = blocks = [];
        return TryReadBlock(file, footer.TableId, footer.Index, (view, _) =>
        {
            _cursor.Open(view);
            for (_cursor.SeekFirst(); _cursor.IsValid; _cursor.MoveNext())
            {
                if (!BlockHandle.TryRead(_cursor.Value, out BlockHandle handle))
                    BlockView.ThrowMalformed();
                found.Add(handle);
            }
        });
    }

    private void CheckProperties(IFile file, TableFooter footer)
    {
        TableProperties properties = new();
        if (!TryReadBlock(file, footer.TableId, footer.Properties, (view, _) => properties = TableProperties.Read(view)))
            return;
        VersionSuffixBytes = (int)properties.VersionSuffixBytes;
        if (!properties.Tombstones.IsNone && Try(() => TableFormat.CheckHandle(path, Bytes, properties.Tombstones)))
            TryReadBlock(file, footer.TableId, properties.Tombstones, (view, _) => WalkTombstones(view));
        if (!properties.Filter.IsNone && Try(() => TableFormat.CheckHandle(path, Bytes, properties.Filter)))
            CheckFilter(file, footer.TableId, properties.Filter);
        if (IsIntact && properties.Entries != Entries)
            Report(footer.Properties.Offset, $"the properties say {properties.Entries:N0} entries, and there are {Entries:N0}.");
    }

    private void CheckFilter(IFile file, ulong tableId, BlockHandle handle)
    {
        byte* block = null;
        if (!Try(() => block = BlockReader.Read(file, tableId, handle, out _)))
            return;
        NativeMemory.Free(block);
        Blocks++;
    }

    private void Walk(BlockView view, long offset, EntrySink? sink)
    {
        _cursor.Open(view);
        for (_cursor.SeekFirst(); _cursor.IsValid; _cursor.MoveNext())
        {
            if (_hasLast && EntryTrailer.Compare(_lastKey.AsSpan(0, _lastKeyBytes), _lastTrailer, _cursor.Key, _cursor.Trailer) >= 0)
            {
                Report(offset, "an entry is not behind the one before it.");
                return;
            }

            if (EntryTrailer.Kind(_cursor.Trailer) is not (EntryKind.Put or EntryKind.Delete))
            {
                Report(offset, $"an entry is of kind {(byte)EntryTrailer.Kind(_cursor.Trailer)}, which this version of the library does not know.");
                return;
            }

            if (_lastKey.Length < _cursor.Key.Length)
                _lastKey = new byte[2 * _cursor.Key.Length];
            _cursor.Key.CopyTo(_lastKey);
            _lastKeyBytes = _cursor.Key.Length;
            _lastTrailer = _cursor.Trailer;
            _hasLast = true;
            Entries++;
            sink?.Invoke(_cursor.Key, _cursor.Trailer, _cursor.Value);
        }
    }

    private void WalkTombstones(BlockView view)
    {
        _cursor.Open(view);
        for (_cursor.SeekFirst(); _cursor.IsValid; _cursor.MoveNext())
            Tombstones.Add(new(_cursor.Key.ToArray(), _cursor.Value.ToArray(), EntryTrailer.Sequence(_cursor.Trailer)));
    }

    private bool TryReadBlock(IFile file, ulong tableId, BlockHandle handle, Action<BlockView, int> read)
    {
        byte* block = null;
        try
        {
            int bytes = 0;
            if (!Try(() => block = BlockReader.Read(file, tableId, handle, out bytes)))
                return false;
            return Try(() =>
            {
                if (!BlockView.TryOpen(block, bytes, out BlockView view))
                    throw new CorruptionException(path, handle.Offset, "the checksum is right and the content is not a block.");
                read(view, bytes);
                Blocks++;
            }, handle.Offset);
        }
        finally
        {
            _cursor.Close();
            NativeMemory.Free(block);
        }
    }

    /// <summary>Block after block, without an index.</summary>
    private void Scan(IFile file, EntrySink? sink)
    {
        if (summary is null || sink is null)
            return;
        byte[] window = new byte[Math.Min(Bytes, BlockBytesMax)];
        for (long offset = TableFormat.HeaderBytes; Entries < summary.Entries;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int read = file.Read(window, offset);
            if (!TryFindBlock(window.AsSpan(0, read), offset, out int bytes))
            {
                Report(offset, "without an index no whole block is found here; the rest of the table is lost.");
                return;
            }

            TryReadBlock(file, number, new BlockHandle(offset, bytes), (view, _) => Walk(view, offset, sink));
            offset += bytes + TableFormat.BlockTrailerBytes;
        }
    }

    private bool TryFindBlock(ReadOnlySpan<byte> window, long offset, out int bytes)
    {
        uint crc = TableFormat.BlockSeed(number, offset);
        for (int at = 0; at + TableFormat.BlockTrailerBytes <= window.Length; at++)
        {
            // The byte behind the content is how it is compressed, and part of what is summed up.
            crc = Crc32C.Append(crc, window.Slice(at, 1));
            if (window[at] <= (byte)BlockCompression.Lz4 && BitConverter.ToUInt32(window[(at + 1)..]) == crc)
            {
                bytes = at;
                return true;
            }
        }

        bytes = 0;
        return false;
    }

    private bool Try(Action read, long offset = 0) => Try(() =>
    {
        read();
        return true;
    }, out _, offset);

    private bool Try<T>(Func<T> read, out T? result, long offset = 0)
    {
        try
        {
            result = read();
            return true;
        }
        catch (CorruptionException error)
        {
            Report(error.Offset, error.Message);
        }
        catch (InvalidDataException error)
        {
            Report(offset, error.Message);
        }

        result = default;
        return false;
    }

    private void Report(long offset, string reason)
    {
        IsIntact = false;
        damage.Add(new(path, offset, reason));
    }
}
