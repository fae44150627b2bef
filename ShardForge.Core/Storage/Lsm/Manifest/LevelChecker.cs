namespace ShardForge.Storage.Lsm.Manifest;

/// <summary>Checks that a version is what <see cref="LsmVersion"/> promises. For invariant builds, after every edit.</summary>
internal static class LevelChecker
{
    /// <summary>More entries than this are not walked: the check must stay cheap beside the compaction that it follows.</summary>
    private const long EntriesMax = 20_000;

    public static void Verify(LsmVersion version, int suffixBytes)
    {
        TableFile[] zero = version.Levels[0];
        for (int index = 0; index < zero.Length; index++)
        {
            for (int older = index + 1; older < zero.Length; older++)
                Invariant.Require(zero[index].Summary.SmallestSequence > zero[older].Summary.LargestSequence || AreDisjoint(zero[index], zero[older]));
        }

        long entries = 0;
        for (int level = 0; level < version.Levels.Length; level++)
        {
            TableFile[] tables = version.Levels[level];
            for (int index = 0; index < tables.Length; index++)
            {
                TableFile table = tables[index];
                entries += table.Summary.Entries;
                Invariant.Require(table.Smallest.AsSpan().SequenceCompareTo(table.End) < 0);
                Invariant.Require(table.Summary.SmallestSequence <= table.Summary.LargestSequence);
                if (level > 0 && index > 0)
                    Invariant.Require(tables[index - 1].End.AsSpan().SequenceCompareTo(table.Smallest) <= 0);
            }
        }

        if (entries <= EntriesMax)
            VerifyAges(version, suffixBytes);
    }

    private static bool AreDisjoint(TableFile left, TableFile right) =>
        left.End.AsSpan().SequenceCompareTo(right.Smallest) <= 0 || right.End.AsSpan().SequenceCompareTo(left.Smallest) <= 0;

    /// <summary>Of one key group, no entry is newer than one in a younger place.</summary>
    private static void VerifyAges(LsmVersion version, int suffixBytes)
    {
        Dictionary<string, ulong> oldest = new(StringComparer.Ordinal);
        List<(string Group, ulong Sequence)> place = [];
        foreach (TableFile[] run in Runs(version))
        {
            place.Clear();
            foreach (TableFile table in run)
            {
                using Table.TableCursor cursor = new(fillCache: false);
                cursor.Open(table.Reader);
                for (cursor.SeekFirst(); cursor.IsValid; cursor.MoveNext())
                {
                    ulong sequence = EntryTrailer.Sequence(cursor.Trailer);
                    string group = $"{cursor.Key.Length}:{Convert.ToHexString(KeyGroup.Of(cursor.Key, suffixBytes))}";
                    place.Add((group, sequence));
                }
            }

            foreach ((string group, ulong sequence) in place)
                Invariant.Require(!oldest.TryGetValue(group, out ulong younger) || sequence <= younger);
            foreach ((string group, ulong sequence) in place)
                oldest[group] = oldest.TryGetValue(group, out ulong known) ? Math.Min(known, sequence) : sequence;
        }
    }

    private static IEnumerable<TableFile[]> Runs(LsmVersion version)
    {
        foreach (TableFile table in version.Levels[0])
            yield return [table];
        for (int level = 1; level < version.Levels.Length; level++)
            yield return version.Levels[level];
    }
}
