using System.Globalization;
using NUnit.Framework;
using ShardForge.Metadata;

namespace ShardForge.Tests.Metadata;

/// <summary>R37 as text-file scenarios, and by chance.</summary>
[Parallelizable(ParallelScope.All)]
internal sealed class FormationMachineTests
{
    private const string FileName = "formation.txt";

    private static IEnumerable<TestCaseData> Scenarios() => TextScenarios.Load(FileName);

    [TestCaseSource(nameof(Scenarios))]
    public void R37_scenario(string input, string expected) =>
        TextScenarios.Check(FileName, TestContext.CurrentContext.Test.Name, input, expected, Run);

    [Test]
    public void R37_disks_never_hold_two_clusters([Range(1, 25)] int seed)
    {
        for (int run = 0; run < 50; run++)
            RunByChance((seed * 1_000) + run);
    }

    private static void RunByChance(int seed)
    {
        Random random = new(seed);
        string[] members = ["a", "b", "c"];
        FormationSimulation simulation = new(members);
        List<string> operations = [];
        // Cut off from each other at first, the nodes have only the messages that are held back: the interesting orders are not rare then.
        // One answer stays on its way for long.
        simulation.Cut("a", "b");
        simulation.Cut("a", "c");
        simulation.Cut("b", "c");
        for (int step = 0; step < 300; step++)
        {
            string node = members[random.Next(3)], other = members[random.Next(3)];
            string name = "m" + random.Next(4).ToString(CultureInfo.InvariantCulture);
            int chance = random.Next(100);
            if (!simulation.IsUp(node))
                Do($"up {node}", () => simulation.Up(node));
            else if (chance < 2)
                Do($"kill {node}", () => simulation.Kill(node));
            else if (chance < 4 && node == "a")
                Do($"wipe {node}", () => simulation.Wipe(node));
            else if (chance < 10)
                Do($"hold-disk {node}", () => simulation.HoldDisk(node));
            else if (chance < 30 && simulation.IsRecording(node))
                Do($"finish-disk {node}", () => simulation.FinishDisk(node));
            else if (chance < 60 && node != other)
                Do($"hold {name} {node} {other}", () => simulation.Hold(name, node, other));
            else if (chance < 62)
                Do("hold late c a, deliver it", () => HoldAnswer(simulation));
            else if (chance < 63)
                Do("deliver late", () => simulation.Deliver("late"));
            else if (chance < 97)
                Do($"deliver {name}", () => simulation.Deliver(name));
            else if (chance == 97 && random.Next(4) == 0)
                Do("heal", simulation.Heal);
            else if (chance > 97 && node != other)
                Do($"ask {node} {other}", () => simulation.Ask(node, other));
        }

        void Do(string operation, Action action)
        {
            operations.Add(operation);
            action();
            ClusterState?[] records = [.. members.Select(simulation.RecordOnDisk).Where(static record => record is not null)];
            if (records.Select(static record => record!.ClusterId).Distinct().Count() > 1)
                Assert.Fail($"Seed {seed}: two clusters on disks. {simulation.Describe()}\n{string.Join('\n', operations)}");
        }
    }

    /// <summary>An answer that stays on its way for long.</summary>
    private static void HoldAnswer(FormationSimulation simulation)
    {
        if (simulation.Held.Contains("late"))
            return;
        simulation.Hold("late", "c", "a");
        simulation.Deliver("late");
    }

    private static string Run(string[] lines)
    {
        string[] members = Words(lines[0])[1..];
        FormationSimulation simulation = new(members);
        List<string> output = [];
        foreach (string line in lines[1..])
        {
            string[] words = Words(line);
            switch (words[0])
            {
                case "up" when words is [_, string node, "members", .. string[] configured]:
                    simulation.Up(node, configured);
                    break;
                case "up" when words is [_, string node, "cluster", string cluster]:
                    simulation.Up(node, cluster: cluster);
                    break;
                case "up":
                    foreach (string node in words[1..])
                        simulation.Up(node);
                    break;
                case "kill":
                    simulation.Kill(words[1]);
                    break;
                case "wipe":
                    simulation.Wipe(words[1]);
                    break;
                case "hold-disk":
                    simulation.HoldDisk(words[1]);
                    break;
                case "finish-disk":
                    simulation.FinishDisk(words[1]);
                    break;
                case "ask":
                    simulation.Ask(words[1], words[2]);
                    break;
                case "hold":
                    simulation.Hold(words[1], words[2], words[3]);
                    break;
                case "deliver":
                    simulation.Deliver(words[1]);
                    break;
                case "cut":
                    simulation.Cut(words[1], words[2]);
                    break;
                case "heal":
                    simulation.Heal();
                    break;
                case "drop":
                    simulation.Drop(words[1]);
                    break;
                case "run":
                    simulation.Run();
                    break;
                default:
                    throw new InvalidOperationException($"'{line}' is no operation.");
            }

            output.Add($"{line} → {(simulation.Trace.Count == 0 ? "" : string.Join(", ", simulation.Trace) + " | ")}{simulation.Describe()}");
            simulation.Trace.Clear();
        }

        return string.Join('\n', output);
    }

    private static string[] Words(string line) => line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
}
