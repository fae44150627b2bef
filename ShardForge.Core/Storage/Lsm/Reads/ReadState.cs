using System.Buffers;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Memtables;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Storage.Lsm.Reads;

/// <summary>All places that a read looks in, at one moment: the memtable that is written, those that wait for their flush, the version.</summary>
/// <remarks>
/// Immutable; it holds what it names, so whoever holds it reads memory and files that stay: inside an epoch in which it was the engine's (point reads), or with a
/// reference (iterators). A reader takes the state first and the sequence number that it reads at after that: a state is complete for every sequence number that was
/// visible when it was taken, and one taken later may already have lost what an older number needs.
/// <para>Places are searched from young to old, and the first entry found for a key is the newest.</para>
/// </remarks>
internal sealed class ReadState : IRetired
{
    private readonly Memtable[] _memtables;    // newest first; the first one is written
    private readonly LsmVersion _version;
    private readonly TableRun[] _runs;         // newest first
    private readonly int _suffixBytes;
    private int _references = 1;

    public ReadState(Memtable active, IReadOnlyList<Memtable> immutables, LsmVersion version, int suffixBytes)
    {
        _suffixBytes = suffixBytes;
        _memtables = [active, .. immutables];
        _version = version;
        _runs = TableRun.Of(version);
        foreach (Memtable memtable in _memtables)
            Invariant.Require(memtable.TryAddReference());
        Invariant.Require(version.TryAddReference());
    }

    public LsmVersion Version => _version;

    public long MemtableBytes
    {
        get
        {
            long bytes = 0;
            foreach (Memtable memtable in _memtables)
                bytes += memtable.Bytes;
            return bytes;
        }
    }

    public long MemtableEntries
    {
        get
        {
            long entries = 0;
            foreach (Memtable memtable in _memtables)
                entries += memtable.EntryCount;
            return entries;
        }
    }

    public bool TryAddReference()
    {
        int references = Volatile.Read(ref _references);
        while (references > 0)
        {
            int seen = Interlocked.CompareExchange(ref _references, references + 1, references);
            if (seen == references)
                return true;
            references = seen;
        }

        return false;
    }

    public void Release()
    {
        int left = Interlocked.Decrement(ref _references);
        Invariant.Require(left >= 0);
        if (left == 0)
            ReadEpoch.Retire(this);
    }

    void IRetired.OnUnreachable()
    {
        foreach (Memtable memtable in _memtables)
            memtable.Release();
        _version.Release();
    }

    /// <summary>The newest value of a key at a sequence number. Inside an epoch.</summary>
    public bool TryGet(ReadOnlySpan<byte> key, ulong sequence, IBufferWriter<byte> value)
    {
        ulong seek = EntryTrailer.Visible(sequence);
        ulong covered = HasTombstones ? NewestTombstone(key, sequence) : 0;
        foreach (Memtable memtable in _memtables)
        {
            if (memtable.TrySeek(key, seek, out ReadOnlySpan<byte> found, out ulong trailer, out ReadOnlySpan<byte> bytes) && found.SequenceEqual(key))
                return Deliver(trailer, bytes, covered, value);
        }

        if (_runs.Length == 0)
            return false;
        ulong hash = BloomFilter.Hash(key, _suffixBytes);
        foreach (TableRun run in _runs)
        {
            TableFile? table = run.FindTable(key);
            if (table is null)
                continue;
            TableReader reader = table.Reader;
            if (!reader.MayContain(hash))
                continue;
            TableHit hit = default;
            try
            {
                if (reader.TrySeek(key, hash, seek, nextBlock: false, ref hit) && hit.Found.IsKey)
                    return Deliver(hit.Found.Trailer, hit.Found.Value, covered, value);
            }
            finally
            {
                hit.Release();
            }
        }

        return false;
    }

    /// <summary>The first entry at or after a key that is of its group, at a sequence number. Stops at the first place that has one (R26). Inside an epoch.</summary>
    public VersionRead TryGetVersion(ReadOnlySpan<byte> key, ulong sequence, Span<byte> suffix, IBufferWriter<byte> value)
    {
        if (HasTombstones)
            return VersionRead.NeedsMerge;
        foreach (Memtable memtable in _memtables)
        {
            VersionRead read = ReadVersion(memtable, key, sequence, suffix, value);
            if (read != VersionRead.NotHere)
                return read;
        }

        if (_runs.Length == 0)
            return VersionRead.NotHere;
        ulong hash = BloomFilter.Hash(key, _suffixBytes);
        foreach (TableRun run in _runs)
        {
            int at = run.FindEndingAfter(key);
            if (at == run.Count)
                continue;
            VersionRead read = ReadVersion(run[at].Reader, hash, key, sequence, suffix, value);
            if (read != VersionRead.NotHere)
                return read;
        }

        return VersionRead.NotHere;
    }

    /// <summary>A cursor over everything; the caller holds the state as long as it uses it.</summary>
    public MergeCursor OpenCursors(ScanCursors cursors)
    {
        foreach (Memtable memtable in _memtables)
        {
            if (!memtable.IsEmpty)
                cursors.Add(memtable.NewCursor());
        }

        foreach (TableRun run in _runs)
            cursors.Add(run);
        return cursors.Open();
    }

    /// <summary>Cursors over tables: one for each of level 0, one for each other level.</summary>
    public static void AddTableCursors(List<EntryCursor> cursors, TableFile[][] levels, bool fillCache)
    {
        foreach (TableFile table in levels[0])
            cursors.Add(new LevelCursor(new TableRun([table]), fillCache));
        for (int level = 1; level < levels.Length; level++)
        {
            if (levels[level].Length > 0)
                cursors.Add(new LevelCursor(new TableRun(levels[level]), fillCache));
        }
    }

    /// <summary>Range tombstones of all places, each set on its own; none in the usual case.</summary>
    public RangeTombstoneSet[] TombstoneSets()
    {
        if (!HasTombstones)
            return [];
        List<RangeTombstoneSet> sets = [];
        foreach (Memtable memtable in _memtables)
        {
            if (memtable.HasTombstones)
                sets.Add(memtable.Tombstones);
        }

        if (_version.HasTombstones)
            sets.Add(_version.Tombstones);
        return sets.ToArray();
    }

    private bool HasTombstones
    {
        get
        {
            foreach (Memtable memtable in _memtables)
            {
                if (memtable.HasTombstones)
                    return true;
            }

            return _version.HasTombstones;
        }
    }

    private static bool Deliver(ulong trailer, ReadOnlySpan<byte> bytes, ulong covered, IBufferWriter<byte> value)
    {
        if (EntryTrailer.Kind(trailer) != EntryKind.Put || EntryTrailer.Sequence(trailer) < covered)
            return false;
        value.Write(bytes);
        return true;
    }

    private ulong NewestTombstone(ReadOnlySpan<byte> key, ulong sequence)
    {
        ulong newest = 0;
        foreach (Memtable memtable in _memtables)
        {
            if (memtable.HasTombstones)
                newest = Math.Max(newest, memtable.Tombstones.NewestOver(key, sequence));
        }

        return _version.HasTombstones ? Math.Max(newest, _version.Tombstones.NewestOver(key, sequence)) : newest;
    }

    private VersionRead ReadVersion(Memtable memtable, ReadOnlySpan<byte> key, ulong sequence, Span<byte> suffix, IBufferWriter<byte> value)
    {
        ReadOnlySpan<byte> from = key;
        while (memtable.TrySeek(from, EntryTrailer.Visible(sequence), out ReadOnlySpan<byte> found, out ulong trailer, out ReadOnlySpan<byte> bytes) &&
            KeyGroup.Same(found, key, _suffixBytes))
        {
            if (EntryTrailer.Sequence(trailer) > sequence)
            {
                // Another version, written after the snapshot: on to what the snapshot sees of it, or to the next one.
                from = found;
                continue;
            }

            if (EntryTrailer.Kind(trailer) != EntryKind.Put)
                return VersionRead.NeedsMerge;
            found[^_suffixBytes..].CopyTo(suffix);
            value.Write(bytes);
            return VersionRead.Found;
        }

        return VersionRead.NotHere;
    }

    private VersionRead ReadVersion(TableReader table, ulong hash, ReadOnlySpan<byte> key, ulong sequence, Span<byte> suffix, IBufferWriter<byte> value)
    {
        if (!table.MayContain(hash))
            return VersionRead.NotHere;
        TableHit hit = default;
        try
        {
            if (!table.TrySeek(key, hash, EntryTrailer.Visible(sequence), nextBlock: true, ref hit) || !hit.Found.IsInGroup(key, _suffixBytes))
                return VersionRead.NotHere;

            // A version that the snapshot does not see lies in between, or a delete: rare enough for the merge.
            if (EntryTrailer.Sequence(hit.Found.Trailer) > sequence || EntryTrailer.Kind(hit.Found.Trailer) != EntryKind.Put)
                return VersionRead.NeedsMerge;
            hit.Found.CopySuffix(suffix[.._suffixBytes]);
            value.Write(hit.Found.Value);
            return VersionRead.Found;
        }
        finally
        {
            hit.Release();
        }
    }
}

/// <summary>What the point read of a version found.</summary>
internal enum VersionRead
{
    NotHere,
    Found,

    /// <summary>A delete, a range tombstone or a snapshot is in the way: only a merge of all places can tell.</summary>
    NeedsMerge,
}
