namespace ShardForge.Storage.Lsm;

/// <summary>A cursor over entries in their order (key ascending, trailer descending): of a memtable, a table, a level, or a merge of them.</summary>
/// <remarks>
/// Key and value live until the next move. A cursor that was sought forward (<see cref="SeekFirst"/>, <see cref="Seek"/>) moves with
/// <see cref="MoveNext"/>, one sought backward (<see cref="SeekLast"/>, <see cref="SeekBefore"/>) with <see cref="MovePrevious"/>;
/// to turn around, seek again. That keeps merges simple, and costs one seek per turn. One thread at a time.
/// </remarks>
internal abstract class EntryCursor : IDisposable
{
    public abstract bool IsValid { get; }

    public abstract ReadOnlySpan<byte> Key { get; }

    public abstract ulong Trailer { get; }

    public abstract ReadOnlySpan<byte> Value { get; }

    public abstract void SeekFirst();

    public abstract void SeekLast();

    /// <summary>To the first entry at or after (key, trailer).</summary>
    public abstract void Seek(ReadOnlySpan<byte> key, ulong trailer);

    /// <summary>To the last entry before (key, trailer).</summary>
    public abstract void SeekBefore(ReadOnlySpan<byte> key, ulong trailer);

    public abstract void MoveNext();

    public abstract void MovePrevious();

    public abstract void Dispose();
}
