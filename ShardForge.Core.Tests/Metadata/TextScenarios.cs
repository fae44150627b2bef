using System.Runtime.CompilerServices;
using System.Text;
using NUnit.Framework;

namespace ShardForge.Tests.Metadata;

/// <summary>Scenarios in text files: a title, the input, four dashes, what is expected. With SHARDFORGE_REWRITE=1 the files get what comes out instead.</summary>
/// <remarks><code>
/// # Title of the first case.
/// input
/// ----
/// expected
///
/// # Title of the second case.
/// ...
/// </code></remarks>
internal static class TextScenarios
{
    public static IEnumerable<TestCaseData> Load(string name)
    {
        foreach (Case it in Parse(File.ReadAllLines(PathOf(name))))
            yield return new TestCaseData(it.Input, it.Expected).SetName(it.Title.TrimEnd('.'));
    }

    /// <summary>Runs every case of a file; fails with the first difference, or rewrites the file.</summary>
    public static void Check(string name, string title, string input, string expected, Func<string[], string> run)
    {
        string actual = run(input.Split('\n')).TrimEnd('\n');
        if (Environment.GetEnvironmentVariable("SHARDFORGE_REWRITE") == "1")
        {
            Rewrite(name, title, actual);
            return;
        }

        Assert.That(actual, Is.EqualTo(expected), $"{name}: {title} (SHARDFORGE_REWRITE=1 writes what came out into the file)");
    }

    private static string PathOf(string name, [CallerFilePath] string here = "") =>
        File.Exists(Path.Combine(Path.GetDirectoryName(here)!, "Scenarios", name))
            ? Path.Combine(Path.GetDirectoryName(here)!, "Scenarios", name)
            : Path.Combine(TestContext.CurrentContext.TestDirectory, "Metadata", "Scenarios", name);

    private static List<Case> Parse(string[] lines)
    {
        List<Case> cases = [];
        int at = 0;
        while (at < lines.Length)
        {
            if (!lines[at].StartsWith("# ", StringComparison.Ordinal))
            {
                at++;
                continue;
            }

            string title = lines[at++][2..];
            List<string> input = [], expected = [];
            while (lines[at] != "----")
                input.Add(lines[at++]);
            for (at++; at < lines.Length && lines[at].Length > 0; at++)
                expected.Add(lines[at]);
            cases.Add(new(title, string.Join('\n', input), string.Join('\n', expected)));
        }

        return cases;
    }

    private static void Rewrite(string name, string title, string actual)
    {
        string path = PathOf(name);
        lock (s_files)
        {
            StringBuilder text = new();
            foreach (Case it in Parse(File.ReadAllLines(path)))
            {
                string expected = it.Title.TrimEnd('.') == title ? actual : it.Expected;
                text.Append(text.Length == 0 ? "" : "\n").Append("# ").Append(it.Title).Append('\n').Append(it.Input).Append("\n----\n").Append(expected).Append('\n');
            }

            File.WriteAllText(path, text.ToString());
        }
    }

    private static readonly Lock s_files = new();

    private sealed record Case(string Title, string Input, string Expected);
}
