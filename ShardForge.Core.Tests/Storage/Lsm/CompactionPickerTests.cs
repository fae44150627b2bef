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

    // Level 0 youngest first; levels separated by |.
    [TestCase("", ExpectedResult = "nothing")]
    [TestCase("3:a-z:500", ExpectedResult = "nothing")]
    [TestCase("4:a-z:500 3:a-z:500", ExpectedResult = "0 [4 3] + 1 []")]
    [TestCase("4:d-f:500 3:a-c:500 | 1:a-b:900 2:x-z:900", ExpectedResult = "0 [4 3] + 1 [1]")]
    [TestCase("4:d-f:3000 3:a-c:3000 | 1:x-z:900", ExpectedResult = "move 0 [4 3] to 1")]
    [TestCase("4:d-f:3000 3:a-d:3000 | 1:x-z:900", ExpectedResult = "0 [4 3] + 1 []")]
    [TestCase(" | 1:a-c:6000 2:d-f:6000 | 5:a-c:9000 6:d-d:100", ExpectedResult = "1 [2] + 2 [6]")]
    [TestCase(" | 1:a-c:6000 2:d-f:6000 | 5:a-c:9000", ExpectedResult = "move 1 [2] to 2")]
    [TestCase("9:a-z:10 8:a-z:10 7:a-z:10 | 1:a-c:11000", ExpectedResult = "0 [9 8 7] + 1 [1]")]
    [TestCase("9:a-z:10 8:a-z:10 | 1:a-c:60000", ExpectedResult = "move 1 [1] to 2")]
    public string Pick(string levels)
    {
        CompactionPick? pick = CompactionPicker.Pick(Parse(levels, suffixBytes: 0), s_options);
        return pick is null ? "nothing" : Show(pick);
    }

    [Test]
    public void Versions_of_one_key_go_down_together()
    {
        // Two tables of level 1 cannot share a key group; the next level's table with other versions of the same key is merged, although no key is in both.
        LsmVersion version = Parse(" | 1:key_05-key_04:20000 | 2:key_09-key_07:500 3:kez_01-kez_01:500", suffixBytes: 2);
        Assert.That(Show(CompactionPicker.Pick(version, s_options)!), Is.EqualTo("1 [1] + 2 [2]"));
    }

    private static string Show(CompactionPick pick)
    {
        string inputs = string.Join(' ', pick.Inputs.Select(table => table.Number)), others = string.Join(' ', pick.OutputInputs.Select(table => table.Number));
        return pick.IsMove ? $"move {pick.Level} [{inputs}] to {pick.OutputLevel}" : $"{pick.Level} [{inputs}] + {pick.OutputLevel} [{others}]";
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
