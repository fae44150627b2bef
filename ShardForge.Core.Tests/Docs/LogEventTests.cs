using System.Reflection;
using Microsoft.Extensions.Logging;
using NUnit.Framework;

namespace ShardForge.Tests.Docs;

/// <summary>The ids of log events are part of the surface: each layer has a range of its own, none is used twice, docs/operations.md has them all.</summary>
/// <remarks><c>SHARDFORGE_REWRITE=1 dotnet test --filter LogEvent</c> writes the table anew; read the difference.</remarks>
[TestFixture]
public sealed class LogEventTests
{
    private const string TableBegin = "<!-- events -->", TableEnd = "<!-- end of events -->";

    private static readonly (string Namespace, int First, int Last)[] s_ranges =
    [
        ("ShardForge.Network", 2000, 2999),
        ("ShardForge.Consensus.NodeLog", 3100, 3999),
        ("ShardForge.Consensus", 3000, 3099),
        ("ShardForge.Storage", 4000, 4999),
        ("ShardForge.Replication", 5000, 5999),
        ("ShardForge.Metadata", 6000, 6999),
        ("ShardForge.Routing", 7000, 7999),
        ("ShardForge.Transactions", 8000, 8999),
        ("ShardForge", 1000, 1999),
    ];

    [Test]
    public void Every_event_has_an_id_of_its_own_in_the_range_of_its_layer()
    {
        Dictionary<int, MethodInfo> seen = [];
        foreach ((MethodInfo method, LoggerMessageAttribute log) in Events())
        {
            string place = method.DeclaringType!.Namespace!;
            (_, int first, int last) = s_ranges.First(range => place.StartsWith(range.Namespace, StringComparison.Ordinal));
            Assert.That(log.EventId, Is.InRange(first, last), $"{method.DeclaringType}.{method.Name}");
            Assert.That(seen.TryAdd(log.EventId, method), $"{log.EventId}: {method.DeclaringType}.{method.Name} and {seen[log.EventId].DeclaringType}.{seen[log.EventId].Name}");
        }
    }

    [Test]
    public void Every_event_is_in_the_documentation()
    {
        string path = Path.Combine(RepositoryFiles.Root, "docs", "operations.md"), page = File.ReadAllText(path);
        string table = string.Join('\n', Events().OrderBy(static log => log.Log.EventId).Select(static log => $"| {log.Log.EventId} | {log.Log.Level} | {log.Log.Message} |"));
        int begin = page.IndexOf(TableBegin, StringComparison.Ordinal) + TableBegin.Length, end = page.IndexOf(TableEnd, StringComparison.Ordinal);
        string expected = $"\n\n| id | level | message |\n|---|---|---|\n{table}\n\n";
        if (Environment.GetEnvironmentVariable("SHARDFORGE_REWRITE") == "1")
            File.WriteAllText(path, page[..begin] + expected + page[end..]);
        else
            Assert.That(page[begin..end], Is.EqualTo(expected), "docs/operations.md has other events; SHARDFORGE_REWRITE=1 writes them anew");
    }

    private static IEnumerable<(MethodInfo Method, LoggerMessageAttribute Log)> Events()
    {
        const BindingFlags All = BindingFlags.Static | BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;
        foreach (Type type in typeof(ShardForgeCluster).Assembly.GetTypes())
        {
            foreach (MethodInfo method in type.GetMethods(All))
            {
                if (method.GetCustomAttribute<LoggerMessageAttribute>() is { } log)
                    yield return (method, log);
            }
        }
    }
}
