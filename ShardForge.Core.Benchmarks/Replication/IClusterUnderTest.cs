namespace ShardForge.Benchmarks.Replication;

/// <summary>A cluster of three nodes on loopback, as the benchmark sees it.</summary>
internal interface IClusterUnderTest : IAsyncDisposable
{
    string Name { get; }

    /// <summary>Starts it, empty; ready when it ends.</summary>
    Task StartAsync();

    /// <summary>Stops all nodes in order and starts them on what they left: what a bulk load leaves in memory must not count.</summary>
    Task RestartAsync();

    /// <summary>Durable on two of three nodes when it ends.</summary>
    /// <param name="caller">Decides which node is asked.</param>
    /// <param name="key">The key.</param>
    /// <param name="value">The value.</param>
    ValueTask PutAsync(int caller, byte[] key, byte[] value);

    /// <summary>Linearizable.</summary>
    /// <param name="caller">Decides which node is asked.</param>
    /// <param name="key">The key.</param>
    ValueTask<byte[]?> GetAsync(int caller, byte[] key);

    /// <summary>What the nodes and the callers have used so far.</summary>
    Usage Measure();
}

/// <summary>Totals over the three nodes and the callers.</summary>
/// <param name="Cpu">Processor time.</param>
/// <param name="DiskBytes">Bytes given to the disk; by the kernel's count.</param>
/// <param name="MemoryBytes">Resident, of the nodes; where they live in this process, of the process.</param>
/// <param name="AllocatedBytes">By this process's collector.</param>
internal readonly record struct Usage(TimeSpan Cpu, long DiskBytes, long MemoryBytes, long AllocatedBytes)
{
    /// <summary>Flushes of all logs, where that is known.</summary>
    public long Flushes { get; init; }

    /// <summary>Entries of all groups, where that is known.</summary>
    public long Entries { get; init; }

    public static Usage OfProcesses(IEnumerable<System.Diagnostics.Process> nodes)
    {
        using System.Diagnostics.Process self = System.Diagnostics.Process.GetCurrentProcess();
        TimeSpan cpu = self.TotalProcessorTime;
        long disk = WrittenBy(self.Id), memory = 0;
        foreach (System.Diagnostics.Process node in nodes)
        {
            node.Refresh();
            cpu += node.TotalProcessorTime;
            disk += WrittenBy(node.Id);
            memory += node.WorkingSet64;
        }

        return new(cpu, disk, memory == 0 ? self.WorkingSet64 : memory, GC.GetTotalAllocatedBytes());
    }

    private static long WrittenBy(int process)
    {
        string path = $"/proc/{process}/io";
        if (!File.Exists(path))
            return 0;
        foreach (string line in File.ReadLines(path))
        {
            if (line.StartsWith("write_bytes:", StringComparison.Ordinal))
                return long.Parse(line.AsSpan(12), System.Globalization.CultureInfo.InvariantCulture);
        }

        return 0;
    }
}
