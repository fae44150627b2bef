using NUnit.Framework;
using ShardForge.Samples;

namespace ShardForge.Tests.Docs;

/// <summary>The C# in README.md and docs/ is the code of samples/Snippets, which compiles; a link to a file of the repository leads to one.</summary>
[TestFixture]
public sealed class SnippetTests
{
    private static readonly string s_root = RepositoryFiles.Root;

    private static IEnumerable<string> Pages =>
        Directory.EnumerateFiles(Path.Combine(s_root, "docs"), "*.md").Append(Path.Combine(s_root, "README.md")).Select(static path => Path.GetRelativePath(s_root, path)).Order();

    [TestCaseSource(nameof(Pages))]
    public void Every_block_of_code_is_compiled(string page)
    {
        Dictionary<string, string> snippets = ReadSnippets();
        string[] lines = File.ReadAllLines(Path.Combine(s_root, page));
        for (int at = 0; at < lines.Length; at++)
        {
            if (lines[at] != "```csharp")
                continue;
            string marker = at == 0 ? "" : lines[at - 1];
            Assert.That(marker, Does.Match("^<!-- snippet: [a-z-]+ -->$"), $"{page}, line {at + 1}: the block does not say which snippet it is");
            string name = marker["<!-- snippet: ".Length..^" -->".Length];
            int end = Array.IndexOf(lines, "```", at);
            Assert.That(snippets, Does.ContainKey(name), $"{page}, line {at}");
            Assert.That(string.Join('\n', lines[(at + 1)..end]), Is.EqualTo(snippets[name]), $"{page}, line {at}: differs from the snippet '{name}' in samples/Snippets");
        }
    }

    [TestCaseSource(nameof(Pages))]
    public void Every_link_to_a_file_leads_to_one(string page)
    {
        string folder = Path.GetDirectoryName(Path.Combine(s_root, page))!;
        foreach (string part in File.ReadAllText(Path.Combine(s_root, page)).Split("](").Skip(1))
        {
            string target = part[..part.IndexOf(')', StringComparison.Ordinal)].Split('#')[0];
            if (target.Length == 0 || target.Contains("://", StringComparison.Ordinal))
                continue;
            string path = Path.Combine(folder, target);
            Assert.That(File.Exists(path) || Directory.Exists(path), $"{page} links to {target}");
        }
    }

    [Test]
    public async Task The_snippet_of_the_lost_node_does_what_it_says() => await ReadmeSnippets.LostNodeAsync();

    private static Dictionary<string, string> ReadSnippets()
    {
        const string Begin = "// snippet: ", End = "// end";
        Dictionary<string, string> snippets = [];
        foreach (string path in Directory.EnumerateFiles(Path.Combine(s_root, "samples", "Snippets"), "*.cs"))
        {
            string? name = null;
            int indent = 0;
            List<string> body = [];
            foreach (string line in File.ReadAllLines(path))
            {
                string text = line.Trim();
                if (text.StartsWith(Begin, StringComparison.Ordinal))
                {
                    (name, indent) = (text[Begin.Length..], line.IndexOf('/', StringComparison.Ordinal));
                    body.Clear();
                }
                else if (text == End && name is not null)
                {
                    snippets.Add(name, string.Join('\n', body));
                    name = null;
                }
                else if (name is not null)
                {
                    body.Add(line.Length > indent ? line[indent..] : "");
                }
            }
        }

        return snippets;
    }
}
