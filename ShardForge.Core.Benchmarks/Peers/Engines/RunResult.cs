namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>What one process measured.</summary>
internal sealed record RunResult
{
    public string Engine { get; init; } = "";

    public string Workload { get; init; } = "";

    /// <summary>Why there is no figure; null: there is one.</summary>
    public string? Failure { get; init; }

    public double OperationsPerSecond { get; init; }

    public double P50 { get; init; }

    public double P99 { get; init; }

    public double P999 { get; init; }

    /// <summary>Of the other side of a workload with two; 0: it has one.</summary>
    public double WriterOperationsPerSecond { get; init; }

    public double WriterP99 { get; init; }

    public long DiskBytes { get; init; }

    public double WriteAmplification { get; init; }

    public long PeakMemory { get; init; }

    public double AllocatedBytesPerOperation { get; init; }

    public int Gen2Collections { get; init; }
}

/// <summary>What a process is asked to do.</summary>
internal sealed record RunOrder
{
    public string Engine { get; init; } = "";

    /// <summary>Null: load the keys, and nothing else.</summary>
    public string? Workload { get; init; }

    public string Directory { get; init; } = "";

    public int Keys { get; init; }

    public int Operations { get; init; }

    public int Seconds { get; init; }

    public KeyShape Shape { get; init; }

    public bool LoadsFirst { get; init; }
}
