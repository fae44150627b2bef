using NUnit.Framework;

namespace ShardForge.Tests.Replication;

/// <summary>
/// Every file in Scenarios, played twice: with all rules on, and with the rules off that it names, where the anomaly that they prevent appears.
/// `SHARDFORGE_REWRITE=folder of the sources` writes the transcripts anew; read the difference like code.
/// </summary>
internal sealed class ScenarioTests
{
    private const string OnMark = "---- rules on", OffMark = "---- rules off";

    private static string Folder => Path.Combine(TestContext.CurrentContext.TestDirectory, "Replication", "Scenarios");

    public static IEnumerable<TestCaseData> Files() =>
        Directory.GetFiles(Path.Combine(AppContext.BaseDirectory, "Replication", "Scenarios"), "*.txt")
            .Order(StringComparer.Ordinal).Select(file => new TestCaseData(Path.GetFileName(file)).SetName(Path.GetFileNameWithoutExtension(file)));

    [TestCaseSource(nameof(Files))]
    public void Scenario_goes_as_written(string file)
    {
        string text = File.ReadAllText(Path.Combine(Folder, file)).ReplaceLineEndings("\n");
        string head = text.Split(OnMark)[0].TrimEnd() + "\n";
        string[] commands = [.. head.Split('\n').Select(line => line.Trim()).Where(line => line.Length > 0 && line[0] != '#')];
        Assert.That(commands[0], Does.StartWith("off: "), "the first line says which rules are off in the second run");
        string[] off = commands[0]["off: ".Length..].Split([',', ' '], StringSplitOptions.RemoveEmptyEntries);
        IReadOnlyList<string> on = Scenario.Play(commands[1..], []), broken = Scenario.Play(commands[1..], off);
        string played = $"{head}{OnMark}\n{string.Join('\n', on)}\n{OffMark}\n{string.Join('\n', broken)}\n";
        if (Environment.GetEnvironmentVariable("SHARDFORGE_REWRITE") is { Length: > 0 } sources)
            File.WriteAllText(Path.Combine(sources, file), played);
        else
            Assert.That(played, Is.EqualTo(text));
        Assert.That(on[^1], Is.EqualTo("history: ok"));
        Assert.That(broken[^1], Is.Not.EqualTo("history: ok"), "with the rule off the anomaly appears");
    }

    [Test]
    public void Every_rule_has_a_scenario()
    {
        string[] covered = [.. Directory.GetFiles(Folder, "*.txt").SelectMany(file => File.ReadAllLines(file)).Where(line => line.StartsWith("off: ", StringComparison.Ordinal))
            .SelectMany(line => line["off: ".Length..].Split([',', ' '], StringSplitOptions.RemoveEmptyEntries))];
        string[] rules = [.. typeof(ShardForge.Replication.ReplicationRules).GetProperties().Where(property => property.PropertyType == typeof(bool)).Select(property => property.Name)];
        // R18's horizon is in milliseconds, which the small timestamps of scenarios have not: ShardReplicaTests has it.
        Assert.That(rules.Except(covered), Is.EqualTo(new[] { nameof(ShardForge.Replication.ReplicationRules.R18RefusesTooOld) }));
    }
}
