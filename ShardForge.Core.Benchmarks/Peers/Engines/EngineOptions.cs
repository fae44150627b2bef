using System.Globalization;

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>What to compare, from the command line.</summary>
internal sealed record EngineOptions
{
    public const string Usage = """
        engines [--peers rocksdb,sqlite,lmdb,zonetree] [--workloads fillseq,readrandom,...] [--runs 3] [--keys 1000000] [--ops 1000000]
                [--seconds 20] [--shape binary|decimal|user|random] [--fresh] [--large] [--directory DIR] [--json FILE]
          --fresh   read what the same process has just written (part of it still in memtables) instead of a directory that was closed and reopened
          --large   10 M keys, only the workloads that are asked for at that size
        """;

    private static readonly string[] s_large = ["fillrandom", "readrandom", "readrandom2", "seek50", "scan"];

    public string[] Peers { get; private set; } = ["rocksdb"];

    public string[] Workloads { get; private set; } = [.. Workload.All.Select(workload => workload.Name)];

    public int Runs { get; private set; } = 3;

    public int Keys { get; private set; } = 1_000_000;

    public int Operations { get; private set; } = 1_000_000;

    public int Seconds { get; private set; } = 20;

    public KeyShape Shape { get; private set; } = KeyShape.Binary;

    public bool Fresh { get; private set; }

    public string Directory { get; private set; } = Path.Combine(Path.GetTempPath(), "shardforge-engines-" + Environment.ProcessId.ToString(CultureInfo.InvariantCulture));

    public string? Json { get; private set; }

    public static EngineOptions Parse(string[] arguments)
    {
        EngineOptions options = new();
        bool namesWorkloads = false;
        for (int at = 0; at < arguments.Length; at++)
        {
            string name = arguments[at];
            switch (name)
            {
                case "--fresh":
                    options.Fresh = true;
                    continue;
                case "--large":
                    options.Keys = 10_000_000;
                    options.Seconds = 60;
                    if (!namesWorkloads)
                        options.Workloads = s_large;
                    continue;
            }

            if (++at == arguments.Length)
                throw new FormatException($"{name} needs a value.");
            string value = arguments[at];
            switch (name)
            {
                case "--peers": options.Peers = List(value); break;
                case "--workloads": options.Workloads = List(value); namesWorkloads = true; break;
                case "--runs": options.Runs = Number(value); break;
                case "--keys": options.Keys = Number(value); break;
                case "--ops": options.Operations = Number(value); break;
                case "--seconds": options.Seconds = Number(value); break;
                case "--shape": options.Shape = Enum.Parse<KeyShape>(value, ignoreCase: true); break;
                case "--directory": options.Directory = Path.GetFullPath(value); break;
                case "--json": options.Json = Path.GetFullPath(value); break;
                default: throw new FormatException($"{name} is not an option.");
            }
        }

        return options;
    }

    private static string[] List(string value) => value.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    private static int Number(string value) => int.Parse(value, NumberStyles.AllowThousands, CultureInfo.InvariantCulture);
}
