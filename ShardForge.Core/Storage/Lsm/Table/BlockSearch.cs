namespace ShardForge.Storage.Lsm.Table;

/// <summary>Finds one entry of a block without building keys on the way: the point read.</summary>
/// <remarks>
/// Entries of a restart interval share bytes with the restart's key, which is smaller than the wanted one (or the first of the block) and has <c>matched</c> bytes
/// in common with it. An entry that shares <c>shared</c> bytes with the restart:
/// 1. shared &gt; matched: it differs from the wanted key where the restart does, so it is smaller too.
/// 2. shared &lt; matched: it left the wanted key's bytes, upwards (entries ascend), so it is larger: this is the one.
/// 3. equal: only its own bytes need comparing.
/// So a found entry's key is always the wanted key's first <see cref="SharedBytes"/> bytes and its own bytes.
/// </remarks>
internal unsafe ref struct BlockSearch
{
    /// <summary>Bytes of the wanted key that the found key starts with.</summary>
    public int SharedBytes { get; private set; }

    /// <summary>The rest of the found key.</summary>
    public ReadOnlySpan<byte> OwnKey { get; private set; }

    public ReadOnlySpan<byte> Value { get; private set; }

    public ulong Trailer { get; private set; }

    /// <summary>Whether the found key is the wanted one.</summary>
    public bool IsKey { get; private set; }

    /// <summary>To the first entry at or after (key, trailer). False: all are before it.</summary>
    public bool Find(in BlockView block, ReadOnlySpan<byte> key, ulong trailer)
    {
        if (block.EntryCount == 0)
            return false;
        int restart = block.FindRestart(key, trailer);
        int entry = restart * block.RestartInterval;
        byte* at = block.Restart(restart);
        int matched = 0;
        for (; entry < block.EntryCount; entry++)
        {
            block.DecodeEntry(ref at, out int shared, out int own, out int valueBytes);
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
                    SharedBytes = shared;
                    OwnKey = ownKey;
                    Value = new(at + own, valueBytes);
                    Trailer = block.Trailer(entry);
                    IsKey = isKey;
                    return true;
                }

                if (entry % block.RestartInterval == 0)
                    matched = common;
            }
            else if (entry % block.RestartInterval == 0)
            {
                BlockView.ThrowMalformed();
            }

            at += own + valueBytes;
        }

        return false;
    }
}
