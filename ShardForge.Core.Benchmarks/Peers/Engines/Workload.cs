namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>What one operation of a workload does.</summary>
internal enum WorkKind
{
    Put,
    PutBatch,
    PutFlushed,
    Get,
    Seek,
    Scan,
    ReadWhileWriting,
    Mixed,
}

/// <summary>How the next key is chosen.</summary>
internal enum KeyChoice
{
    Sequential,

    /// <summary>Each key once, in an order that looks random.</summary>
    Shuffled,
    Random,

    /// <summary>Between the keys that are there.</summary>
    Missing,

    /// <summary>Of the first hundredth.</summary>
    Hot,

    /// <summary>YCSB's scrambled zipfian, 0.99.</summary>
    Zipfian,
}

/// <summary>A workload after db_bench or YCSB.</summary>
/// <param name="Name">On the command line and in the table.</param>
/// <param name="Kind">What an operation is.</param>
/// <param name="Choice">Which keys.</param>
/// <param name="Threads">How many work at once.</param>
/// <param name="Loaded">Whether the engine holds all keys before.</param>
/// <param name="ReadPercent">Of <see cref="WorkKind.Mixed"/>: gets in a hundred.</param>
/// <param name="Other">Of <see cref="WorkKind.Mixed"/>: what the rest is.</param>
internal sealed record Workload(string Name, WorkKind Kind, KeyChoice Choice, int Threads, bool Loaded, int ReadPercent = 0, MixedKind Other = MixedKind.None)
{
    public const int BatchOperations = 100, SeekEntries = 50, ScanEntriesMax = 100;

    public static IReadOnlyList<Workload> All { get; } =
    [
        new("fillseq", WorkKind.Put, KeyChoice.Sequential, 1, Loaded: false),
        new("fillrandom", WorkKind.Put, KeyChoice.Shuffled, 1, Loaded: false),
        new("fillrandom2", WorkKind.Put, KeyChoice.Shuffled, 2, Loaded: false),
        new("fillbatch", WorkKind.PutBatch, KeyChoice.Shuffled, 1, Loaded: false),
        new("fillsync", WorkKind.PutFlushed, KeyChoice.Shuffled, 1, Loaded: false),
        new("fillsync16", WorkKind.PutFlushed, KeyChoice.Shuffled, 16, Loaded: false),
        new("overwrite", WorkKind.Put, KeyChoice.Random, 1, Loaded: true),
        new("readrandom", WorkKind.Get, KeyChoice.Random, 1, Loaded: true),
        new("readrandom2", WorkKind.Get, KeyChoice.Random, 2, Loaded: true),
        new("readmissing", WorkKind.Get, KeyChoice.Missing, 1, Loaded: true),
        new("readhot", WorkKind.Get, KeyChoice.Hot, 1, Loaded: true),
        new("seek50", WorkKind.Seek, KeyChoice.Random, 1, Loaded: true),
        new("scan", WorkKind.Scan, KeyChoice.Sequential, 1, Loaded: true),
        new("readwhilewriting", WorkKind.ReadWhileWriting, KeyChoice.Random, 2, Loaded: true),
        new("ycsb-a", WorkKind.Mixed, KeyChoice.Zipfian, 1, Loaded: true, 50, MixedKind.Update),
        new("ycsb-b", WorkKind.Mixed, KeyChoice.Zipfian, 1, Loaded: true, 95, MixedKind.Update),
        new("ycsb-c", WorkKind.Mixed, KeyChoice.Zipfian, 1, Loaded: true, 100, MixedKind.Update),
        new("ycsb-e", WorkKind.Mixed, KeyChoice.Zipfian, 1, Loaded: true, 0, MixedKind.ScanOrInsert),
        new("ycsb-f", WorkKind.Mixed, KeyChoice.Zipfian, 1, Loaded: true, 50, MixedKind.ReadModifyWrite),
    ];

    /// <summary>Whether it leaves the directory as it was.</summary>
    public bool OnlyReads => Kind is WorkKind.Get or WorkKind.Seek or WorkKind.Scan || ReadPercent == 100;

    public static Workload Of(string name) => All.FirstOrDefault(workload => workload.Name == name) ?? throw new FormatException($"{name} is not a workload; there are {string.Join(", ", All.Select(workload => workload.Name))}.");
}

/// <summary>What the operations of a mixed workload are that are no gets.</summary>
internal enum MixedKind
{
    None,
    Update,
    ReadModifyWrite,

    /// <summary>95 scans of 1 to 100 entries to 5 inserts.</summary>
    ScanOrInsert,
}
