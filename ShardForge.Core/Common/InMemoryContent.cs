using System.Runtime.InteropServices;

namespace ShardForge.Common;

/// <summary>Bytes of a file in memory, shared by all its names and handles.</summary>
/// <remarks><code>
/// content | mapped block (native, only after a map) | chunk 64 KiB | chunk | ... |     a missing chunk is all zeros
/// </code>
/// Invariant: every byte at or behind the length is zero, so that growing needs no work.
/// <para>A map moves the front of the file into one native block at a fixed address; from then on reads and writes of that part go there. The block
/// lives as long as the content or a region refers to it, also when the file is deleted.</para></remarks>
internal sealed class InMemoryContent(InMemorySpace space)
{
    private const int ChunkBytes = 64 * 1024;
    private readonly Lock _gate = new();
    private readonly List<byte[]?> _chunks = [];
    private InMemorySpace _space = space;
    private InMemoryBlock? _block;
    private int _regionCount;
    private long _length;

    /// <summary>How many names it has; guarded by the file system's lock.</summary>
    public int LinkCount { get; set; }

    public long Length
    {
        get
        {
            lock (_gate)
                return _length;
        }
    }

    public int Read(Span<byte> buffer, long offset)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        lock (_gate)
        {
            int bytes = (int)Math.Clamp(_length - offset, 0, buffer.Length);
            for (int done = 0; done < bytes;)
            {
                ReadOnlySpan<byte> part = PieceLocked(offset + done, writing: false);
                Span<byte> target = buffer[done..bytes];
                int count = Math.Min(target.Length, part.IsEmpty ? ChunkBytes - (int)((offset + done) % ChunkBytes) : part.Length);
                if (part.IsEmpty)
                    target[..count].Clear();
                else
                    part[..count].CopyTo(target);
                done += count;
            }

            return bytes;
        }
    }

    public void Write(string path, ReadOnlySpan<byte> bytes, long offset)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        lock (_gate)
        {
            if (offset + bytes.Length > _length)
                SetLengthLocked(path, offset + bytes.Length);
            while (!bytes.IsEmpty)
            {
                Span<byte> piece = PieceLocked(offset, writing: true);
                int count = Math.Min(piece.Length, bytes.Length);
                bytes[..count].CopyTo(piece);
                bytes = bytes[count..];
                offset += count;
            }
        }
    }

    public void SetLength(string path, long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        lock (_gate)
            SetLengthLocked(path, bytes);
    }

    /// <summary>Grows the file where it is shorter; zeros need no memory.</summary>
    public void Preallocate(string path, long bytes)
    {
        lock (_gate)
        {
            if (bytes > _length)
                SetLengthLocked(path, bytes);
        }
    }

    public IMappedRegion Map(string path, long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bytes);
        lock (_gate)
        {
            if (_length < bytes)
                throw new IOException($"Cannot map {bytes:N0} bytes of {path}: it has {_length:N0}.");
            if (_block is null || _block.Bytes < bytes)
            {
                if (_regionCount > 0)
                    throw new IOException($"Cannot map {bytes:N0} bytes of {path}: {_block!.Bytes:N0} are mapped already, and they cannot move.");
                long rounded = (bytes + ChunkBytes - 1) / ChunkBytes * ChunkBytes;
                InMemoryBlock block = new(rounded);
                for (long offset = 0; offset < rounded; offset += ChunkBytes)
                {
                    ReadOnlySpan<byte> piece = PieceLocked(offset, writing: false);
                    if (!piece.IsEmpty)
                        piece[..Math.Min(piece.Length, ChunkBytes)].CopyTo(block.Span(offset, ChunkBytes));
                }

                _block = block;
                for (int chunk = 0; chunk < _chunks.Count && (long)chunk * ChunkBytes < rounded; chunk++)
                    _chunks[chunk] = null;
            }

            _regionCount++;
            return new Region(this, _block, bytes);
        }
    }

    /// <summary>One name less; without any, its bytes do not count as used any more.</summary>
    public void Unlink()
    {
        LinkCount--;
        if (LinkCount > 0)
            return;
        lock (_gate)
        {
            _space.Return(_length);
            _space = InMemorySpace.Uncounted;
        }
    }

    private void SetLengthLocked(string path, long bytes)
    {
        if (bytes > _length)
            _space.Take(path, bytes - _length);
        else
            _space.Return(_length - bytes);

        // What is cut off is zeroed, so that growing again shows zeros.
        for (long offset = bytes; offset < _length;)
        {
            Span<byte> piece = PieceLocked(offset, writing: false);
            if (piece.IsEmpty)
            {
                offset += ChunkBytes - (offset % ChunkBytes);
                continue;
            }

            piece.Clear();
            offset += piece.Length;
        }

        _length = bytes;
        int chunkCount = (int)((bytes + ChunkBytes - 1) / ChunkBytes);
        if (_chunks.Count > chunkCount)
            _chunks.RemoveRange(chunkCount, _chunks.Count - chunkCount);
    }

    // The bytes from an offset to the end of the chunk or block that holds it. Empty when reading a chunk that is all zeros.
    private Span<byte> PieceLocked(long offset, bool writing)
    {
        if (_block is not null && offset < _block.Bytes)
            return _block.Span(offset, (int)Math.Min(_block.Bytes - offset, int.MaxValue));
        int chunk = (int)(offset / ChunkBytes);
        if (!writing && (chunk >= _chunks.Count || _chunks[chunk] is null))
            return default;
        while (_chunks.Count <= chunk)
            _chunks.Add(null);
        byte[] bytes = _chunks[chunk] ??= new byte[ChunkBytes];
        return bytes.AsSpan((int)(offset % ChunkBytes));
    }

    private sealed class Region(InMemoryContent content, InMemoryBlock block, long bytes) : IMappedRegion
    {
        private InMemoryBlock? _block = block;

        public nint Address => _block?.Address ?? 0;

        public long Length => bytes;

        public void Dispose()
        {
            lock (content._gate)
            {
                if (_block is not null)
                    content._regionCount--;
                _block = null;
            }
        }
    }
}

/// <summary>Zeroed native memory at a fixed address; freed when nothing refers to it.</summary>
internal sealed unsafe class InMemoryBlock
{
    public InMemoryBlock(long bytes)
    {
        Bytes = bytes;
        Address = (nint)NativeMemory.AllocZeroed((nuint)bytes);
        GC.AddMemoryPressure(bytes);
    }

    ~InMemoryBlock()
    {
        NativeMemory.Free((void*)Address);
        GC.RemoveMemoryPressure(Bytes);
    }

    public nint Address { get; }

    public long Bytes { get; }

    public Span<byte> Span(long offset, int bytes) => new((byte*)Address + offset, bytes);
}

/// <summary>How many bytes the files of one <see cref="InMemoryFileSystem"/> have and may have.</summary>
internal sealed class InMemorySpace
{
    private long _usedBytes;

    /// <summary>For files without a name: they are on their way out.</summary>
    public static InMemorySpace Uncounted { get; } = new();

    public long CapacityBytes { get; set; } = long.MaxValue;

    public long FreeBytes => Math.Max(0, CapacityBytes - Interlocked.Read(ref _usedBytes));

    public void Take(string path, long bytes)
    {
        if (Interlocked.Add(ref _usedBytes, bytes) <= CapacityBytes)
            return;
        Interlocked.Add(ref _usedBytes, -bytes);
        throw DiskErrors.DiskFull(path, bytes, FreeBytes);
    }

    public void Return(long bytes) => Interlocked.Add(ref _usedBytes, -bytes);
}
