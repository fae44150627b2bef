namespace ShardForge.Metadata;

/// <summary>What the oracle's leader knows of the nodes' open snapshots (R28). Not thread-safe: the oracle's lock.</summary>
/// <remarks>
/// A node reports, with each request, a timestamp below which none of its snapshots is open or will be: its oldest open one, or with none open the
/// highest it was ever given. What a request is answered with is above that report, so it is counted as open until the next report by the report alone,
/// in whatever order delayed requests arrive.
/// </remarks>
internal sealed class SnapshotReports
{
    private readonly Dictionary<string, Timestamp> _oldest = new(StringComparer.Ordinal);

    public void Report(string nodeId, Timestamp oldest) => _oldest[nodeId] = oldest;

    /// <summary>A new leader knows nothing until each node has reported.</summary>
    public void Clear() => _oldest.Clear();

    /// <summary>No snapshot below this one is open on any of the nodes; zero while one has not reported.</summary>
    public Timestamp Oldest(IReadOnlyList<NodeInfo> nodes)
    {
        Timestamp oldest = Timestamp.Max;
        foreach (NodeInfo node in nodes)
        {
            if (!node.IsRemoved)
                oldest = Timestamp.Earlier(oldest, _oldest.GetValueOrDefault(node.NodeId));
        }

        return oldest;
    }
}
