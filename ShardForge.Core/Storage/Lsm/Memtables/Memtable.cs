namespace ShardForge.Storage.Lsm.Memtables;

/// <summary>A memtable: the youngest entries, sorted, in native memory, with their range tombstones.</summary>
/// <remarks>
/// Parts: <see cref="NativeChunkPool"/> → <see cref="Arena"/> → <see cref="SkipBlock"/> → <see cref="SkipList"/> → <see cref="MemtableCursor"/>; <see cref="MemtableTombstones"/>.
/// Threads: one writer (the engine's write latch), readers without a lock. Counted: the native memory goes with the last
/// reference, so a reader that holds one can never meet freed memory. Sequence numbers only grow, so one that is not yet visible is skipped by readers.
/// </remarks>
[System.Diagnostics.CodeAnalysis.SuppressMessage("Design", "CA1001", Justification = "Counted: the last release frees the arena.")]
internal sealed unsafe class Memtable
{
    private readonly Arena _arena;
    private readonly SkipList _entries;
    private readonly MemtableTombstones _tombstones = new();
    private int _references = 1;
    private long _entryCount;

    /// <param name="pool">Where the memory comes from.</param>
    /// <param name="logNumber">The write-ahead log that holds the same writes; 0: none.</param>
    public Memtable(NativeChunkPool pool, ulong logNumber)
    {
        _arena = new Arena(pool);
        _entries = new SkipList(_arena);
        LogNumber = logNumber;
    }

    public ulong LogNumber { get; }

    /// <summary>Native memory held, in bytes.</summary>
    public long Bytes => _arena.AllocatedBytes;

    /// <summary>Bytes its entries take; for the writer.</summary>
    public long UsedBytes => _arena.UsedBytes;

    /// <summary>Operations in it, range tombstones included.</summary>
    public long EntryCount => Volatile.Read(ref _entryCount);

    public bool IsEmpty => EntryCount == 0;

    /// <summary>Sequence number of the last operation; 0 while it is empty.</summary>
    public ulong LastSequence { get; private set; }

    public bool HasTombstones => _tombstones.Count > 0;

    public RangeTombstoneSet Tombstones => _tombstones.Get();

    /// <summary>The same as one piece, for walking its fragments.</summary>
    public RangeTombstoneSet GetWholeTombstones() => _tombstones.GetWhole();

    /// <summary>Applies the operations of an encoded batch; the first gets <paramref name="sequence"/>, the next the one above.</summary>
    /// <returns>How many there were.</returns>
    public int Apply(ReadOnlySpan<byte> encoded, ulong sequence)
    {
        Invariant.Check(sequence > LastSequence);
        int count = 0;
        StorageBatchReader reader = new(encoded);
        while (reader.MoveNext())
        {
            ulong own = sequence + (ulong)count++;
            switch (reader.Kind)
            {
                case StorageOperationKind.Put:
                    _entries.Insert(reader.Key, EntryTrailer.Of(own, EntryKind.Put), reader.Value);
                    break;
                case StorageOperationKind.Delete:
                    _entries.Insert(reader.Key, EntryTrailer.Of(own, EntryKind.Delete), []);
                    break;
                default:
                    _tombstones.Add(new RangeTombstone(reader.Key.ToArray(), reader.Value.ToArray(), own));
                    break;
            }

            LastSequence = own;
        }

        Volatile.Write(ref _entryCount, _entryCount + count);
        return count;
    }

    /// <summary>The first entry at or after (key, trailer); it lives as long as the caller's reference.</summary>
    public bool TrySeek(ReadOnlySpan<byte> key, ulong trailer, out ReadOnlySpan<byte> foundKey, out ulong foundTrailer, out ReadOnlySpan<byte> value)
    {
        byte* node = _entries.FindAtOrAfter(key, trailer);
        if (node == null)
        {
            foundKey = value = default;
            foundTrailer = 0;
            return false;
        }

        foundKey = SkipBlock.Key(node);
        foundTrailer = SkipBlock.Trailer(node);
        value = SkipBlock.Value(node);
        return true;
    }

    /// <summary>A cursor over the entries; the caller holds a reference as long as it uses it.</summary>
    public MemtableCursor NewCursor() => new(_entries);

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
            _arena.Dispose();
    }
}
