using System.Buffers;
using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>Holds stored bytes while they are checked and decoded. With read-ahead, what lies behind a block is read with it.</summary>
/// <remarks>One thread. Read-ahead starts with the second block that follows the one before, and doubles up to <see cref="AheadBytesMax"/>: a scan of what is not cached then
/// makes few calls, and a seek none too many.</remarks>
internal sealed class ReadBuffer : IDisposable
{
    private const int AheadBytesFirst = 16 * 1024, AheadBytesMax = 256 * 1024;

    private byte[] _buffer = [];
    private IFile? _file;       // whose bytes these are
    private long _from, _nextOffset = -1;
    private int _bytes, _aheadBytes;

    /// <summary>Reads a block, or has it already.</summary>
    /// <param name="file">The table's file.</param>
    /// <param name="tableId">The table.</param>
    /// <param name="handle">Where the block is.</param>
    /// <param name="endOffset">Up to where it may read ahead.</param>
    public StoredBlock Read(IFile file, ulong tableId, BlockHandle handle, long endOffset)
    {
        int storedBytes = handle.Bytes + TableFormat.BlockTrailerBytes;
        bool isHere = file == _file && handle.Offset >= _from && handle.Offset + storedBytes <= _from + _bytes;
        bool follows = file == _file && handle.Offset == _nextOffset;
        if (!isHere)
        {
            _aheadBytes = follows ? Math.Clamp(2 * _aheadBytes, AheadBytesFirst, AheadBytesMax) : 0;
            int wanted = (int)Math.Max(storedBytes, Math.Min(_aheadBytes, endOffset - handle.Offset));
            if (_buffer.Length < wanted)
            {
                Return();
                _buffer = ArrayPool<byte>.Shared.Rent(wanted);
            }

            _bytes = 0;
            _bytes = file.Read(_buffer.AsSpan(0, wanted), handle.Offset);
            _from = handle.Offset;
            _file = file;
        }

        _nextOffset = handle.Offset + storedBytes;
        int at = (int)(handle.Offset - _from);
        return BlockReader.Check(file, tableId, handle, _buffer.AsSpan(at, Math.Min(storedBytes, _bytes - at)));
    }

    /// <summary>Lets go of its memory; may be used again.</summary>
    public void Dispose()
    {
        Return();
        Forget();
    }

    /// <summary>Forgets what it has read, and keeps the memory.</summary>
    public void Forget()
    {
        _file = null;
        _bytes = 0;
        _nextOffset = -1;
        _aheadBytes = 0;
    }

    private void Return()
    {
        if (_buffer.Length > 0)
            ArrayPool<byte>.Shared.Return(_buffer);
        _buffer = [];
    }
}
