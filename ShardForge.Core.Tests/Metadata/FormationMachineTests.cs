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
    public void R37_disks_never_hold_two_clusters([Range(1, 40)] int seed)
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
        for (int step = 0; step < 200; step++)
        {
            string node = members[random.Next(3)], other = members[random.Next(3)];
            string name = "m" + random.Next(6).ToString(CultureInfo.InvariantCulture);
            switch (random.Next(14))
            {
                case 0 when simulation.IsUp(node) && random.Next(3) == 0:
                    Do($"kill {node}", () => simulation.Kill(node));
                    break;
                case 1 when simulation.IsUp(node) && random.Next(6) == 0:
                    Do($"wipe {node}", () => simulation.Wipe(node));
                    break;
                case 2 when simulation.IsUp(node):
                    Do($"hold disk {node}", () => simulation.HoldDisk(node));
                    break;
                case 3 when simulation.IsRecording(node):
                    Do($"finish disk {node}", () => simulation.FinishDisk(node));
                    break;
                case 4 when !simulation.IsUp(node):
                    Do($"up {node}", () => simulation.Up(node));
                    break;
                case 5 or 6 or 7 when node != other:
                    Do($"hold {name} {node} {other}", () => simulation.Hold(name, node, other));
                    break;
                case 8 or 9 or 10:
                    Do($"deliver {name}", () => simulation.Deliver(name));
                    break;
                case 11 when node != other && random.Next(4) == 0:
                    Do($"ask {node} {other}", () => simulation.Ask(node, other));
                    break;
                case 12 when node != other && random.Next(3) == 0:
                    Do($"cut {node} {other}", () => simulation.Cut(node, other));
                    break;
                case 13 when random.Next(6) == 0:
                    Do("heal", simulation.Heal);
                    break;
                default:
                    break;
            }
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
