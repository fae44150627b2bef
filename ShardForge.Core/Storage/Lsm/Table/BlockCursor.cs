using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>Walks a block, building each key in its own buffer. Reusable for one block after another; the caller keeps the block pinned.</summary>
/// <remarks>One thread. Backwards it walks again from the restart before: a block is short. The buffer starts with the bytes of the restart's key that the last
/// entry shared, and those are all that the next one can share.</remarks>
internal sealed unsafe class BlockCursor
{
    private BlockView _block;
    private byte[] _buffer;             // pinned, and has room for a vector behind the key
    private byte* _key;
    private int _room, _keyBytes, _sharedMax, _untilRestart, _entry, _valueBytes;
    private byte* _value;

    public BlockCursor()
    {
        _buffer = [];
        Grow(64);
    }

    public bool IsValid => (uint)_entry < (uint)_block.EntryCount;

    /// <summary>Until the next move.</summary>
    public byte* KeyAt => _key;

    public int KeyBytes => _keyBytes;

    public ReadOnlySpan<byte> Key => new(_key, _keyBytes);

    public byte* ValueAt => _value;

    public int ValueBytes => _valueBytes;

    public ReadOnlySpan<byte> Value => new(_value, _valueBytes);

    public ulong Trailer => _block.Trailer(_entry);

    /// <summary>Takes a block; stands nowhere.</summary>
    public void Open(in BlockView block)
    {
        _block = block;
        _entry = block.EntryCount;
        Invariant.Poison(_buffer);
    }

    /// <summary>Lets go of the block.</summary>
    public void Close()
    {
        _block = default;
        _entry = 0;
    }

    public void SeekFirst()
    {
        if (_block.EntryCount == 0)
        {
            _entry = 0;
            return;
        }

        ToRestart(0);
    }

    public void SeekLast() => SeekEntry(_block.EntryCount - 1);

    public void Seek(ReadOnlySpan<byte> key, ulong trailer)
    {
        if (_block.EntryCount == 0)
            return;
        ToRestart(_block.FindRestart(key, trailer));
        while (EntryTrailer.Compare(Key, Trailer, key, trailer) < 0)
        {
            if (!MoveNext())
                return;
        }
    }

    /// <summary>To the first entry at or after (key, trailer) of a cached block that has tags: without walking there.</summary>
    public void Seek(CachedBlock* block, ReadOnlySpan<byte> key, ulong trailer)
    {
        int entry = BlockTags.FindAtOrAfter(block, _block, key, trailer), interval = _block.RestartInterval;
        _entry = entry;
        if (entry >= _block.EntryCount)
            return;
        int behindRestart = entry % interval;
        _untilRestart = 0;
        Decode(BlockTags.Entry(block, _block, entry - behindRestart));
        if (behindRestart == 0)
            return;
        _untilRestart = interval - behindRestart;
        Decode(BlockTags.Entry(block, _block, entry));
    }

    public void SeekBefore(ReadOnlySpan<byte> key, ulong trailer)
    {
        Seek(key, trailer);
        SeekEntry((IsValid ? _entry : _block.EntryCount) - 1);
    }

    /// <returns>False: that was the last one.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool MoveNext()
    {
        if (++_entry >= _block.EntryCount)
            return false;
        Decode(_value + _valueBytes);
        return true;
    }

    public void MovePrevious() => SeekEntry(_entry - 1);

    private void SeekEntry(int entry)
    {
        if (entry < 0)
        {
            _entry = _block.EntryCount;
            return;
        }

        ToRestart(entry / _block.RestartInterval);
        while (_entry < entry)
            MoveNext();
    }

    private void ToRestart(int restart)
    {
        _entry = restart * _block.RestartInterval;
        _untilRestart = 0;
        Decode(_block.Restart(restart));
    }

    private void Decode(byte* at)
    {
        _block.DecodeEntry(ref at, out int shared, out int own, out int valueBytes);
        bool isRestart = --_untilRestart < 0;
        if (isRestart)
        {
            _untilRestart = _block.RestartInterval - 1;
            _sharedMax = 0;
        }

        if (shared > _sharedMax)
            BlockView.ThrowMalformed();
        int keyBytes = shared + own;
        if (keyBytes > _room)
            Grow(keyBytes);

        // Sixteen bytes may be read, whatever is wanted: the block's tail follows its entries.
        if (own <= Vector128<byte>.Count)
            Vector128.Load(at).Store(_key + shared);
        else
            new ReadOnlySpan<byte>(at, own).CopyTo(new Span<byte>(_key + shared, own));
        _sharedMax = isRestart ? own : shared;
        _keyBytes = keyBytes;
        _value = at + own;
        _valueBytes = valueBytes;
    }

    private void Grow(int keyBytes)
    {
        _room = Math.Max(keyBytes, 2 * _room);
        byte[] larger = GC.AllocateArray<byte>(_room + Vector128<byte>.Count, pinned: true);
        _buffer.AsSpan(0, Math.Min(_buffer.Length, _room)).CopyTo(larger);
        _buffer = larger;
        _key = (byte*)Unsafe.AsPointer(ref MemoryMarshal.GetArrayDataReference(larger));
    }
}
