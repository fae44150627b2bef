namespace ShardForge.Storage.Lsm.Memtables;

/// <summary>Walks a memtable. Entries that are added meanwhile may or may not be met; their sequence numbers tell.</summary>
internal sealed unsafe class MemtableCursor(SkipList entries) : EntryCursor
{
    private SkipPosition _position;

    public override void SeekFirst()
    {
        entries.SeekFirst(ref _position);
        Stand();
    }

    public override void SeekLast()
    {
        entries.SeekLast(ref _position);
        Stand();
    }

    public override void Seek(ReadOnlySpan<byte> key, ulong trailer)
    {
        entries.Seek(ref _position, key, trailer);
        Stand();
    }

    public override void SeekBefore(ReadOnlySpan<byte> key, ulong trailer)
    {
        entries.SeekBefore(ref _position, key, trailer);
        Stand();
    }

    public override void MoveNext()
    {
        entries.MoveNext(ref _position);
        Stand();
    }

    public override void MovePrevious()
    {
        entries.MovePrevious(ref _position);
        Stand();
    }

    public override void Dispose()
    {
        _position = default;
        Stand();
    }

    private void Stand()
    {
        if (_position.Entry == null)
            StandNowhere();
        else
            StandOn(SkipBlock.Key(_position.Entry), SkipBlock.Trailer(_position.Entry), SkipBlock.Value(_position.Entry));
    }
}
