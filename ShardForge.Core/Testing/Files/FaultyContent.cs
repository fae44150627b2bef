using ShardForge.Common;

namespace ShardForge.Testing;

/// <summary>What of one file's bytes is not durable, and what a power cut would bring back.</summary>
/// <remarks>
/// For each block written since the last flush it keeps the durable bytes (null: the file did not reach there, so zeros). Blocks whose flush
/// failed are kept apart: they read back, but no later flush makes them durable. A map is compared with a copy taken at the last flush.
/// <para>Shared by all handles and names of the file. Threads: one lock, held through a flush.</para>
/// </remarks>
internal sealed class FaultyContent(IFile file, bool existed, long order, bool flushInner)
{
    private const int BlockBytes = 4096, SectorBytes = 512;
    private readonly Lock _gate = new();
    private readonly Dictionary<long, byte[]?> _before = [], _lost = [];
    private readonly List<Region> _regions = [];
    private long _durableLength = existed ? file.Length : 0;
    private bool _closed;

    public IFile File => file;

    /// <summary>Creation order, so that a seed always meets the files in the same order.</summary>
    public long Order => order;

    /// <summary>Full paths, those among the lost files included. Guarded by the file system's lock, as the count is.</summary>
    public HashSet<string> Names { get; } = new(StringComparer.Ordinal);

    public int HandleCount { get; set; }

    public bool IsMapped
    {
        get
        {
            lock (_gate)
                return _regions.Count > 0;
        }
    }

    public bool HasUnflushed
    {
        get
        {
            lock (_gate)
                return _before.Count > 0 || _lost.Count > 0 || _regions.Count > 0 || (!_closed && file.Length != _durableLength);
        }
    }

    public void Write(ReadOnlySpan<byte> bytes, long offset)
    {
        lock (_gate)
        {
            ThrowIfClosed();
            if (!bytes.IsEmpty)
                RememberLocked(offset, offset + bytes.Length);
            file.Write(bytes, offset);
        }
    }

    public void SetLength(long bytes)
    {
        lock (_gate)
        {
            ThrowIfClosed();
            long length = file.Length;
            if (bytes < Math.Min(length, _durableLength))
                RememberLocked(bytes, Math.Min(length, _durableLength));
            file.SetLength(bytes);
        }
    }

    public void Preallocate(long bytes)
    {
        lock (_gate)
        {
            ThrowIfClosed();
            if (flushInner)
                file.Preallocate(bytes);
            else if (file.Length < bytes)
                file.SetLength(bytes);
        }
    }

    public void Flush()
    {
        lock (_gate)
        {
            ThrowIfClosed();
            // Maps are copied first: what is stored during the flush may be missed by it.
            foreach (Region region in _regions)
                region.Bytes.CopyTo(region.Durable);
            if (flushInner)
                file.Flush();
            _before.Clear();
            _durableLength = file.Length;
        }
    }

    /// <summary>A flush failed as on Linux: the pages count as clean from now on, and never reach the disk.</summary>
    public void LoseUnflushed()
    {
        lock (_gate)
        {
            foreach ((long block, byte[]? bytes) in _before)
                _lost.TryAdd(block, bytes);
            _before.Clear();
        }
    }

    public IMappedRegion Map(long bytes)
    {
        lock (_gate)
        {
            ThrowIfClosed();
            Region region = new(this, file.Map(bytes));
            _regions.Add(region);
            return region;
        }
    }

    /// <summary>Brings the bytes into a state that a disk may have after a power cut.</summary>
    public void CutPower(Random random)
    {
        lock (_gate)
        {
            if (_closed)
                return;
            foreach (Region region in _regions)
                RememberRegionLocked(region);
            long length = file.Length;
            long longer = Math.Max(length, _durableLength), shorter = Math.Min(length, _durableLength);
            long newLength = random.Next(4) switch
            {
                0 => _durableLength,
                1 => length,
                _ => random.NextInt64(shorter, longer + 1),
            };
            if (longer > length)
                file.SetLength(longer);

            Fate fate = (Fate)random.Next(4);
            List<long> blocks = [.. _before.Keys];
            blocks.Sort();
            int kept = random.Next(blocks.Count + 1);
            for (int i = 0; i < blocks.Count; i++)
            {
                Fate blockFate = fate == Fate.Prefix ? (i < kept ? Fate.Kept : i == kept ? Fate.Mixed : Fate.Lost) : fate;
                RestoreLocked(blocks[i], _before[blocks[i]], blockFate, random, longer);
            }

            foreach ((long block, byte[]? bytes) in _lost)
                RestoreLocked(block, bytes, Fate.Lost, random, longer);
            file.SetLength(newLength);
            _before.Clear();
            _lost.Clear();
            _durableLength = newLength;
        }
    }

    public void Close()
    {
        lock (_gate)
        {
            if (!_closed)
                file.Dispose();
            _closed = true;
        }
    }

    private void ThrowIfClosed()
    {
        if (_closed)
            throw new IOException($"This handle of {file.Path} is from before the power cut.");
    }

    private void RememberLocked(long start, long end)
    {
        for (long block = start / BlockBytes; block * BlockBytes < end; block++)
        {
            if (_before.ContainsKey(block))
                continue;
            if (_lost.Remove(block, out byte[]? lost))
            {
                _before.Add(block, lost);
                continue;
            }

            byte[]? durable = null;
            if (block * BlockBytes < _durableLength)
            {
                durable = new byte[BlockBytes];
                file.Read(durable.AsSpan(0, (int)Math.Min(BlockBytes, _durableLength - (block * BlockBytes))), block * BlockBytes);
            }

            _before.Add(block, durable);
        }
    }

    private void RememberRegionLocked(Region region)
    {
        for (int offset = 0; offset < region.Durable.Length; offset += BlockBytes)
        {
            int bytes = Math.Min(BlockBytes, region.Durable.Length - offset);
            ReadOnlySpan<byte> durable = region.Durable.AsSpan(offset, bytes);
            if (region.Bytes.Slice(offset, bytes).SequenceEqual(durable) && !_before.ContainsKey(offset / BlockBytes))
                continue;
            byte[] block = new byte[BlockBytes];
            if (bytes < BlockBytes)
                file.Read(block, offset);
            durable.CopyTo(block);
            _before[offset / BlockBytes] = block;
        }
    }

    private void RestoreLocked(long block, byte[]? durable, Fate fate, Random random, long length)
    {
        if (fate == Fate.Kept)
            return;
        durable ??= new byte[BlockBytes];
        for (int at = 0; at < BlockBytes && (block * BlockBytes) + at < length; at += SectorBytes)
        {
            int keptBytes = fate == Fate.Lost ? 0 : random.Next(3) switch { 0 => 0, 1 => SectorBytes, _ => random.Next(SectorBytes) };
            long offset = (block * BlockBytes) + at + keptBytes;
            int bytes = (int)Math.Min(SectorBytes - keptBytes, length - offset);
            if (bytes > 0)
                file.Write(durable.AsSpan(at + keptBytes, bytes), offset);
        }
    }

    private enum Fate
    {
        Kept,
        Lost,

        /// <summary>Blocks reached the disk in order, up to one that is torn.</summary>
        Prefix,

        /// <summary>Each sector on its own.</summary>
        Mixed,
    }

    private sealed class Region : IMappedRegion
    {
        private readonly FaultyContent _content;
        private readonly IMappedRegion _inner;

        public Region(FaultyContent content, IMappedRegion inner)
        {
            _content = content;
            _inner = inner;
            Durable = new byte[inner.Length];
            Bytes.CopyTo(Durable);
        }

        public byte[] Durable { get; }

        public unsafe Span<byte> Bytes => new((byte*)_inner.Address, checked((int)_inner.Length));

        public nint Address => _inner.Address;

        public long Length => _inner.Length;

        public void Dispose()
        {
            lock (_content._gate)
            {
                if (!_content._regions.Remove(this))
                    return;
                if (!_content._closed)
                    _content.RememberRegionLocked(this);
                _inner.Dispose();
            }
        }
    }
}
