namespace ShardForge.Storage.Lsm.Memtables;

/// <summary>Walks a memtable. Entries that are added meanwhile may or may not be met; their sequence numbers tell.</summary>
internal sealed unsafe class MemtableCursor(SkipList entries) : EntryCursor
{
    private byte* _node;

    public override bool IsValid => _node != null;

    public override ReadOnlySpan<byte> Key => SkipList.Key(_node);

    public override ulong Trailer => SkipList.Trailer(_node);

    public override ReadOnlySpan<byte> Value => SkipList.Value(_node);

    public override void SeekFirst() => _node = entries.First();

    public override void SeekLast() => _node = entries.Last();

    public override void Seek(ReadOnlySpan<byte> key, ulong trailer) => _node = entries.FindAtOrAfter(key, trailer);

    public override void SeekBefore(ReadOnlySpan<byte> key, ulong trailer) => _node = entries.FindLastBefore(key, trailer);

    public override void MoveNext() => _node = SkipList.Next(_node);

    public override void MovePrevious() => _node = entries.FindLastBefore(SkipList.Key(_node), SkipList.Trailer(_node));

    public override void Dispose() => _node = null;
}
