namespace ShardForge.Storage.Lsm.Memtables;

/// <summary>Walks a memtable. Entries that are added meanwhile may or may not be met; their sequence numbers tell.</summary>
internal sealed unsafe class MemtableCursor(SkipList entries) : EntryCursor
{
    private SkipPosition _position;

    public override bool IsValid => _position.Entry != null;

    public override ReadOnlySpan<byte> Key => SkipBlock.Key(_position.Entry);

    public override ulong Trailer => SkipBlock.Trailer(_position.Entry);

    public override ReadOnlySpan<byte> Value => SkipBlock.Value(_position.Entry);

    public override void SeekFirst() => entries.SeekFirst(ref _position);

    public override void SeekLast() => entries.SeekLast(ref _position);

    public override void Seek(ReadOnlySpan<byte> key, ulong trailer) => entries.Seek(ref _position, key, trailer);

    public override void SeekBefore(ReadOnlySpan<byte> key, ulong trailer) => entries.SeekBefore(ref _position, key, trailer);

    public override void MoveNext() => entries.MoveNext(ref _position);

    public override void MovePrevious() => entries.MovePrevious(ref _position);

    public override void Dispose() => _position = default;
}
