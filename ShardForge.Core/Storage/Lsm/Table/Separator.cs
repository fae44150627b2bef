namespace ShardForge.Storage.Lsm.Table;

/// <summary>A short key between two blocks.</summary>
internal static class Separator
{
    /// <summary>A key at or above <paramref name="last"/> and below <paramref name="next"/>, as short as is easy to find.</summary>
    public static ReadOnlySpan<byte> Between(ReadOnlySpan<byte> last, ReadOnlySpan<byte> next)
    {
        Invariant.Check(last.SequenceCompareTo(next) < 0);
        int common = last.CommonPrefixLength(next);
        if (common == last.Length)
            return last;

        // The next key's first different byte already makes it larger; it stays below the next key if that goes on.
        if (common + 1 < next.Length)
            return next[..(common + 1)];
        if (last[common] + 1 < next[common] && common + 1 < last.Length)
        {
            byte[] shorter = last[..(common + 1)].ToArray();
            shorter[common]++;
            return shorter;
        }

        return last;
    }
}
