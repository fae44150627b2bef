using System.Runtime.CompilerServices;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>Finds one entry of a block without building keys on the way: the point read.</summary>
/// <remarks>
/// Entries of a restart interval share bytes with the restart's key, which is smaller than the wanted one (or the first of the block) and has <c>matched</c> bytes
/// in common with it. An entry that shares <c>shared</c> bytes with the restart:
/// 1. shared &gt; matched: it differs from the wanted key where the restart does, so it is smaller too.
/// 2. shared &lt; matched: it left the wanted key's bytes, upwards (entries ascend), so it is larger: this is the one.
/// 3. equal: only its own bytes need comparing.
/// A found entry's key is <see cref="SharedKey"/> and <see cref="OwnKey"/>.
/// </remarks>
internal unsafe ref struct BlockSearch
{
    private byte* _restartKey, _own;
    private int _shared, _ownBytes, _valueBytes, _entry;

    /// <summary>The found key's first bytes.</summary>
    public readonly ReadOnlySpan<byte> SharedKey => new(_restartKey, _shared);

    /// <summary>The rest of the found key.</summary>
    public readonly ReadOnlySpan<byte> OwnKey => new(_own, _ownBytes);

    public readonly int KeyBytes => _shared + _ownBytes;

    public readonly ReadOnlySpan<byte> Value => new(_own + _ownBytes, _valueBytes);

    public ulong Trailer { get; private set; }

    /// <summary>Whether the found key is the wanted one.</summary>
    public bool IsKey { get; private set; }

    /// <summary>To the first entry at or after (key, trailer). False: all are before it.</summary>
    public bool Find(in BlockView block, ReadOnlySpan<byte> key, ulong trailer)
    {
        int count = block.EntryCount;
        if (count == 0)
            return false;
        int restart = block.FindRestart(key, trailer), interval = block.RestartInterval;
        byte* at = block.Restart(restart);
        int matched = 0, untilRestart = 0;
        for (int entry = restart * interval; entry < count; entry++)
        {
            block.DecodeEntry(ref at, out int shared, out int own, out int valueBytes);
            bool isRestart = untilRestart-- == 0;
            if (isRestart)
            {
                if (shared > 0)
                    BlockView.ThrowMalformed();
                untilRestart = interval - 1;
                _restartKey = at;
                matched = 0;
            }

            if (shared <= matched)
            {
                ReadOnlySpan<byte> ownKey = new(at, own);
                ReadOnlySpan<byte> rest = key[shared..];
                int common = ownKey.CommonPrefixLength(rest);
                bool ends = common == own, wantedEnds = common == rest.Length;
                bool isKey = ends && wantedEnds;
                bool atOrAfter = isKey ? block.Trailer(entry) <= trailer : wantedEnds || (!ends && ownKey[common] > rest[common]);
                if (atOrAfter || shared < matched)
                {
                    _shared = shared;
                    _own = at;
                    _ownBytes = own;
                    _valueBytes = valueBytes;
                    _entry = entry;
                    Trailer = block.Trailer(entry);
                    IsKey = isKey;
                    return true;
                }

                if (isRestart)
                    matched = common;
            }

            at += own + valueBytes;
        }

        return false;
    }

    /// <summary>Stands on an entry if it is of the key's group.</summary>
    /// <param name="block">The block.</param>
    /// <param name="entry">Its number.</param>
    /// <param name="at">Where it is.</param>
    /// <param name="restart">Where its restart is.</param>
    /// <param name="key">The wanted key.</param>
    /// <param name="suffixBytes">See <see cref="KeyGroup"/>.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryStand(in BlockView block, int entry, byte* at, byte* restart, ReadOnlySpan<byte> key, int suffixBytes)
    {
        block.DecodeEntry(ref restart, out _, out int restartBytes, out _);
        _restartKey = restart;
        block.DecodeEntry(ref at, out _shared, out _ownBytes, out _valueBytes);
        if (_shared > restartBytes)
            BlockView.ThrowMalformed();
        _own = at;
        _entry = entry;
        return IsInGroup(key, suffixBytes);
    }

    /// <summary>From the first entry of the key's group, which it stands on, to the first at or after (key, trailer). False: the group has none in this block.</summary>
    public bool ToAtOrAfter(in BlockView block, ReadOnlySpan<byte> key, ulong trailer, int suffixBytes)
    {
        while (true)
        {
            Trailer = block.Trailer(_entry);
            int order = KeyGroup.Of(key, suffixBytes).Length == key.Length ? 0 : CompareKey(key);
            IsKey = order == 0;
            if (order > 0 || (order == 0 && Trailer <= trailer))
                return true;
            byte* at = _own + _ownBytes + _valueBytes;
            if (++_entry >= block.EntryCount)
                return false;
            byte* restart = _entry % block.RestartInterval == 0 ? at : null;
            block.DecodeEntry(ref at, out _shared, out _ownBytes, out _valueBytes);
            _own = at;
            if (restart != null)
                _restartKey = at;
            if (!IsInGroup(key, suffixBytes))
                return false;
        }
    }

    /// <summary>Whether the found key is a version of the wanted one.</summary>
    public readonly bool IsInGroup(ReadOnlySpan<byte> key, int suffixBytes)
    {
        if (KeyBytes != key.Length)
            return false;
        int groupBytes = KeyGroup.Of(key, suffixBytes).Length;
        return _shared >= groupBytes
            ? new ReadOnlySpan<byte>(_restartKey, groupBytes).SequenceEqual(key[..groupBytes])
            : key[_shared..groupBytes].SequenceEqual(new(_own, groupBytes - _shared)) && SharedKey.SequenceEqual(key[.._shared]);
    }

    /// <summary>The found key's last bytes.</summary>
    public readonly void CopySuffix(Span<byte> suffix)
    {
        int fromShared = Math.Max(0, suffix.Length - _ownBytes);
        new ReadOnlySpan<byte>(_restartKey + _shared - fromShared, fromShared).CopyTo(suffix);
        OwnKey[^(suffix.Length - fromShared)..].CopyTo(suffix[fromShared..]);
    }

    private readonly int CompareKey(ReadOnlySpan<byte> key)
    {
        int order = SharedKey.SequenceCompareTo(key[..Math.Min(_shared, key.Length)]);
        return order != 0 ? order : OwnKey.SequenceCompareTo(key[_shared..]);
    }
}
