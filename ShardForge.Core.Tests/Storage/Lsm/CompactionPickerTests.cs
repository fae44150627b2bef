using System.Text;
using NUnit.Framework;
using ShardForge.Storage;
using ShardForge.Storage.Lsm;
using ShardForge.Storage.Lsm.Compaction;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Table;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>What is compacted next, from levels written as <c>number:first-last:bytes</c>.</summary>
internal sealed class CompactionPickerTests
{
    private static readonly LsmOptions s_options = new() { LevelZeroTables = 2, LevelBaseBytes = 10_000, LevelMultiplier = 10, TableBytes = 4000 };
    private static readonly LsmOptions s_runs = s_options with { LevelZeroTables = 3, MemtableBytes = 4096 };

    // Level 0 youngest first; levels separated by |.
    [TestCase("", ExpectedResult = "nothing")]
    [TestCase("3:a-z:500", ExpectedResult = "nothing")]
    [TestCase("4:a-z:500 3:a-z:500", ExpectedResult = "0 [4 3] + 1 [] to 1")]
    [TestCase("4:d-f:500 3:a-c:500 | 1:a-b:900 2:x-z:900", ExpectedResult = "0 [4 3] + 1 [1] to 1")]
    [TestCase("4:d-f:3000 3:a-c:3000 | 1:x-z:900", ExpectedResult = "move 0 [4 3] to 1")]
    [TestCase("4:d-f:3000 3:a-d:3000 | 1:x-z:900", ExpectedResult = "0 [4 3] + 1 [] to 1")]
    [TestCase(" | 1:a-c:6000 2:d-f:6000 | 5:a-c:9000 6:d-d:100", ExpectedResult = "1 [2] + 2 [6] to 2")]
    [TestCase(" | 1:a-c:6000 2:d-f:6000 | 5:a-c:9000", ExpectedResult = "move 1 [2] + 2 [] to 2")]
    [TestCase("9:a-z:10 8:a-z:10 7:a-z:10 | 1:a-c:11000", ExpectedResult = "0 [9 8 7] + 1 [1] to 1")]
    [TestCase("9:a-z:10 8:a-z:10 | 1:a-c:60000", ExpectedResult = "move 1 [1] + 2 [] to 2")]
    public string Pick(string levels)
    {
        CompactionPick? pick = CompactionPicker.Pick(Parse(levels, suffixBytes: 0), s_options, []);
        return pick is null ? "nothing" : Show(pick);
    }

    // Level 1 to 2 runs beside level 0 to 1; two results in one level must not overlap.
    [TestCase("9:a-b:1 8:a-b:1 4:d-f:500 3:a-c:500 | 1:a-b:6000 2:x-z:6000 | 5:x-z:10", ExpectedResult = "0 [9 8 4 3] + 1 [1] to 1; 1 [2] + 2 [5] to 2")]
    [TestCase("9:a-b:1 8:a-b:1 4:d-f:500 3:a-c:500 | 1:a-b:6000 2:e-e:6000", ExpectedResult = "0 [9 8 4 3] + 1 [1 2] to 1")]
    [TestCase(" | 1:a-c:9500 2:d-f:9000 3:g-i:9000 | 5:b-e:9000 6:h-h:100", ExpectedResult = "1 [3] + 2 [6] to 2; 1 [1] + 2 [5] to 2")]
    public string Side_by_side(string levels) => PickAll(levels, s_options);

    // Runs, young to old: neighbours of level 0 that do not overlap are one.
    [TestCase("3:a-z:900 2:a-z:1000", ExpectedResult = "nothing")]
    [TestCase("4:a-z:900 3:a-z:900 2:a-z:900", ExpectedResult = "0 [4] + 0 [3] + 0 [2] to 6")]
    [TestCase("4:a-z:900 3:a-z:900 | | | 2:a-z:90000 ", ExpectedResult = "0 [4] + 0 [3] to 2")]
    [TestCase("4:a-z:900 3:a-c:900 | 1:a-z:90000", ExpectedResult = "0 [4] + 0 [3] to 0")]
    [TestCase("5:d-f:900 4:a-c:900 3:g-i:900 | | | | | | 2:x-z:900 ", ExpectedResult = "move 0 [4 5 3] to 6")]
    public string Universal(string levels) => PickAll(levels, s_runs with { CompactionStyle = LsmCompactionStyle.Universal });

    [TestCase("4:a-z:900 3:a-z:1000", ExpectedResult = "nothing")]
    [TestCase("4:a-z:900 3:a-z:1100 2:a-z:1000", ExpectedResult = "0 [4] + 0 [3] + 0 [2] to 6")]
    [TestCase("4:a-z:900 3:a-z:1100 2:a-z:1000 | | | | 1:a-z:30000 ", ExpectedResult = "0 [4] + 0 [3] + 0 [2] to 3")]
    [TestCase("4:a-z:900 | 3:a-z:30000 | 2:a-z:20000 | 1:a-z:30000 ", ExpectedResult = "1 [3] + 2 [2] + 3 [1] to 6")]
    public string Tiered(string levels) => PickAll(levels, s_runs with { CompactionStyle = LsmCompactionStyle.Tiered });

    [Test]
    public void Versions_of_one_key_go_down_together()
    {
        // Two tables of level 1 cannot share a key group; the next level's table with other versions of the same key is merged, although no key is in both.
        LsmVersion version = Parse(" | 1:key_05-key_04:20000 | 2:key_09-key_07:500 3:kez_01-kez_01:500", suffixBytes: 2);
        Assert.That(Show(CompactionPicker.Pick(version, s_options, [])!), Is.EqualTo("1 [1] + 2 [2] to 2"));
    }

    [Test]
    public void A_merge_is_cut_into_parts_at_first_keys_of_tables()
    {
        LsmVersion version = Parse("4:a-z:4000 3:a-z:4000 | 1:a-c:4000 2:d-f:4000 5:g-k:4000 6:p-q:4000", suffixBytes: 0);
        CompactionPick pick = LeveledPicker.Down(version, 0, version.Levels[0], mayMove: false);
        Assert.That(CompactionCuts.Choose(pick, 3, 1000).Select(Encoding.UTF8.GetString).ToArray(), Is.EqualTo(new[] { "d", "g" }));
        Assert.That(CompactionCuts.Choose(pick, 3, 20_000), Is.Empty);
        Assert.That(CompactionCuts.Choose(pick, 1, 1000), Is.Empty);
    }

    private static string PickAll(string levels, LsmOptions options)
    {
        LsmVersion version = Parse(levels, suffixBytes: 0);
        List<CompactionPick> running = [];
        while (CompactionPicker.Pick(version, options, running) is { } pick)
            running.Add(pick);
        return running.Count == 0 ? "nothing" : string.Join("; ", running.Select(Show));
    }

    private static string Show(CompactionPick pick)
    {
        IEnumerable<string> inputs = pick.Inputs.Select(input => $"{input.Level} [{string.Join(' ', input.Tables.Select(table => table.Number))}]");
        return $"{(pick.IsMove ? "move " : "")}{string.Join(" + ", inputs)} to {pick.OutputLevel}";
    }

    private static LsmVersion Parse(string text, int suffixBytes)
    {
        TableFile[][] levels = new TableFile[LsmOptions.LevelCount][];
        Array.Fill(levels, []);
        string[] parts = text.Split('|', StringSplitOptions.TrimEntries);
        for (int level = 0; level < parts.Length; level++)
            levels[level] = [.. parts[level].Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(table => ParseTable(table, suffixBytes))];
        return new LsmVersion(levels);
    }

    private static TableFile ParseTable(string text, int suffixBytes)
    {
        string[] parts = text.Split(':'), keys = parts[1].Split('-');
        ulong number = ulong.Parse(parts[0]);
        return new TableFile(null!, number, new TableSummary(long.Parse(parts[2]), Encoding.UTF8.GetBytes(keys[0]), Encoding.UTF8.GetBytes(keys[1]), false, number, number, 1, 0, 0), suffixBytes);
    }
}
