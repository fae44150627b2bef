using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ShardForge.Storage.Lsm;

/// <summary>A cursor over entries in their order (key ascending, trailer descending): of a memtable, a table, a level, or a merge of them.</summary>
/// <remarks>
/// Key and value live until the next move. A cursor that was sought forward (<see cref="SeekFirst"/>, <see cref="Seek"/>) moves with
/// <see cref="MoveNext"/>, one sought backward (<see cref="SeekLast"/>, <see cref="SeekBefore"/>) with <see cref="MovePrevious"/>;
/// to turn around, seek again. That keeps merges simple, and costs one seek per turn. One thread at a time.
/// <para>What it stands on is kept in fields that each move sets, so that looking at an entry is no call. They point into native or pinned memory.</para>
/// </remarks>
internal abstract unsafe class EntryCursor : IDisposable
{
    private byte* _key, _value;
    private int _keyBytes, _valueBytes;

    public bool IsValid { get; private set; }

    public ReadOnlySpan<byte> Key => new(_key, _keyBytes);

    public ulong Trailer { get; private set; }

    public ReadOnlySpan<byte> Value => new(_value, _valueBytes);

    /// <summary>First bytes of the key (<see cref="Table.KeyWord"/>), for whoever compares this cursor with others: theirs to set.</summary>
    internal ulong Word { get; set; }

    public abstract void SeekFirst();

    public abstract void SeekLast();

    /// <summary>Has fetched what <see cref="Seek"/> will look at, so that several cursors wait for their memory at once. Stands nowhere then.</summary>
    public virtual void PrepareSeek(ReadOnlySpan<byte> key, ulong trailer) { }

    /// <summary>To the first entry at or after (key, trailer).</summary>
    public abstract void Seek(ReadOnlySpan<byte> key, ulong trailer);

    /// <summary>To the last entry before (key, trailer).</summary>
    public abstract void SeekBefore(ReadOnlySpan<byte> key, ulong trailer);

    public abstract void MoveNext();

    public abstract void MovePrevious();

    public abstract void Dispose();

    /// <summary>Stands on an entry. Its bytes do not move and stay until the next move.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    protected void StandOn(byte* key, int keyBytes, ulong trailer, byte* value, int valueBytes)
    {
        _key = key;
        _keyBytes = keyBytes;
        Trailer = trailer;
        _value = value;
        _valueBytes = valueBytes;
        IsValid = true;
    }

    /// <summary>Stands on an entry of native memory.</summary>
    protected void StandOn(ReadOnlySpan<byte> key, ulong trailer, ReadOnlySpan<byte> value) =>
        StandOn((byte*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(key)), key.Length, trailer, (byte*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(value)), value.Length);

    /// <summary>Stands where another cursor does.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    protected void StandOn(EntryCursor other) => StandOn(other._key, other._keyBytes, other.Trailer, other._value, other._valueBytes);

    /// <summary>Stands nowhere.</summary>
    protected void StandNowhere() => IsValid = false;
}
