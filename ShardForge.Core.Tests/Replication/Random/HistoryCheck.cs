namespace ShardForge.Tests.Replication.Random;

/// <summary>Checks a whole history for strict serializability (snapshot isolation where a transaction asked for it), knowing the final order of versions.</summary>
/// <remarks>
/// Every operation is a node, a snapshot transaction that writes two (its snapshot, its commit). Edges: version order (ww), reads of a version (wr), reads that a
/// later version overwrote (rw), real time. A cycle is a violation (Adya's G0, G1c, G-single, G2, with real time); so are lost acknowledged writes, visible
/// writes of operations that said no, and effects that came twice.
/// </remarks>
internal sealed class HistoryCheck
{
    private readonly IReadOnlyList<Operation> _operations;
    private readonly IReadOnlyDictionary<ShardKey, List<FinalVersion>> _versions;
    private readonly Dictionary<int, Operation> _byNumber;
    private readonly Dictionary<int, int> _nodes = [];
    private readonly List<List<(int To, string Kind)>> _edges = [];
    private readonly List<string> _names = [];

    private HistoryCheck(IReadOnlyList<Operation> operations, IReadOnlyDictionary<ShardKey, List<FinalVersion>> versions)
    {
        _operations = operations;
        _versions = versions;
        _byNumber = operations.ToDictionary(operation => operation.Number);
    }

    /// <returns>Null: nothing is wrong; else what is.</returns>
    public static string? Run(IReadOnlyList<Operation> operations, IReadOnlyDictionary<ShardKey, List<FinalVersion>> versions) => new HistoryCheck(operations, versions).Run();

    private string? Run() => CheckEffects() ?? CheckSnapshots() ?? CheckCycles();

    private string? CheckEffects()
    {
        HashSet<int> visible = [];
        foreach ((ShardKey key, List<FinalVersion> versions) in _versions)
        {
            HashSet<int> writers = [];
            ulong before = 0;
            string? valueBefore = null;
            foreach (FinalVersion version in versions)
            {
                if (version.Timestamp <= before)
                    return $"one timestamp twice: {key} at {version.Timestamp}";
                before = version.Timestamp;
                if (!_byNumber.TryGetValue(version.Operation, out Operation? writer))
                    return $"a version of nobody: {key} at {version.Timestamp}, #{version.Operation}";
                if (!writers.Add(version.Operation))
                    return $"effect twice: {writer}, {key}";
                if (writer.Outcome == OperationOutcome.NotDone || !writer.Writes.Contains(key))
                    return $"visible write of an operation that was not done: {writer}, {key} at {version.Timestamp}";
                if (writer.Expected.Has && writer.Expected.Value != valueBefore)
                    return $"lost update: {writer} expected {writer.Expected.Value ?? "nothing"}, before it was {valueBefore ?? "nothing"}";
                visible.Add(version.Operation);
                valueBefore = version.Value;
            }
        }

        foreach (Operation operation in _operations)
        {
            if (operation.Outcome != OperationOutcome.Done && !visible.Contains(operation.Number))
                continue;
            foreach (ShardKey key in operation.Writes)
            {
                if (!Versions(key).Any(version => version.Operation == operation.Number))
                    return $"{(operation.Outcome == OperationOutcome.Done ? "acknowledged write lost" : "half a write")}: {operation}, {key}";
            }
        }

        return null;
    }

    // A read at a timestamp is repeatable: it saw what the final state has there.
    private string? CheckSnapshots()
    {
        foreach (Operation operation in _operations)
        {
            if (operation.ReadAt is not { } readAt)
                continue;
            foreach ((ShardKey key, ulong version) in operation.Reads)
            {
                ulong expected = Versions(key).LastOrDefault(candidate => candidate.Timestamp <= readAt).Timestamp;
                if (expected != version)
                    return $"snapshot at {readAt} is not repeatable: {operation} saw {key} at {version}, there is one at {expected}";
            }
        }

        return null;
    }

    private string? CheckCycles()
    {
        List<Operation> counted = [.. _operations.Where(operation => operation.Outcome == OperationOutcome.Done || _versions.Values.Any(versions => versions.Any(version => version.Operation == operation.Number)))];
        foreach (Operation operation in counted)
        {
            _nodes[operation.Number] = AddNode(operation.HasTwoPoints ? $"{operation} (snapshot)" : $"{operation}");
            if (operation.HasTwoPoints)
                AddNode($"{operation} (commit)");
        }

        AddRealTime(counted);
        foreach (Operation operation in counted)
        {
            if (operation.HasTwoPoints)
                Edge(Snapshot(operation), Commit(operation), "self");
            foreach ((ShardKey key, ulong read) in operation.Reads)
            {
                List<FinalVersion> versions = Versions(key);
                int at = versions.FindIndex(version => version.Timestamp == read);
                if (read != 0 && at < 0)
                    return $"read of a version that is not there: {operation}, {key} at {read}";
                if (at >= 0 && versions[at].Operation != operation.Number)
                    Edge(Commit(_byNumber[versions[at].Operation]), Snapshot(operation), "wr");
                if (at + 1 < versions.Count && versions[at + 1].Operation != operation.Number)
                    Edge(Snapshot(operation), Commit(_byNumber[versions[at + 1].Operation]), "rw");
            }
        }

        foreach (List<FinalVersion> versions in _versions.Values)
        {
            for (int i = 1; i < versions.Count; i++)
                Edge(Commit(_byNumber[versions[i - 1].Operation]), Snapshot(_byNumber[versions[i].Operation]), "ww");
        }

        return FindCycle();
    }

    // One node per end, chained in time, instead of an edge between every two operations.
    private void AddRealTime(List<Operation> counted)
    {
        List<Operation> ended = [.. counted.Where(operation => operation.Outcome == OperationOutcome.Done).OrderBy(operation => operation.End)];
        int first = _edges.Count;
        for (int i = 0; i < ended.Count; i++)
        {
            int node = AddNode("");
            Edge(Commit(ended[i]), node, "time");
            if (i > 0)
                Edge(node - 1, node, "time");
        }

        void After(long moment, int node)
        {
            int last = ended.FindLastIndex(operation => operation.End < moment);
            if (last >= 0)
                Edge(first + last, node, "time");
        }

        foreach (Operation operation in counted)
        {
            After(operation.Begin, Snapshot(operation));
            if (operation.HasTwoPoints)
                After(operation.CommitBegin, Commit(operation));
        }
    }

    private string? FindCycle()
    {
        List<(int Node, string Kind)>? shortest = null;
        for (int start = 0; start < _edges.Count; start++)
        {
            Dictionary<int, (int From, string Kind)> came = [];
            Queue<int> queue = new([start]);
            while (queue.TryDequeue(out int node) && !came.ContainsKey(start))
            {
                foreach ((int to, string kind) in _edges[node])
                {
                    if (came.TryAdd(to, (node, kind)))
                        queue.Enqueue(to);
                }
            }

            if (!came.ContainsKey(start))
                continue;
            List<(int, string)> walk = [];
            int at = start;
            do
            {
                (int from, string kind) = came[at];
                walk.Insert(0, (from, kind));
                at = from;
            }
            while (at != start);
            if (shortest is null || walk.Count < shortest.Count)
                shortest = walk;
        }

        return shortest is null ? null : "cycle: " + string.Join(" ", shortest.Where(step => _names[step.Node].Length > 0).Select(step => $"{_names[step.Node]} --{step.Kind}-->"));
    }

    private List<FinalVersion> Versions(ShardKey key) => _versions.GetValueOrDefault(key) ?? [];

    private int Snapshot(Operation operation) => _nodes[operation.Number];

    private int Commit(Operation operation) => _nodes[operation.Number] + (operation.HasTwoPoints ? 1 : 0);

    private int AddNode(string name)
    {
        _edges.Add([]);
        _names.Add(name);
        return _edges.Count - 1;
    }

    private void Edge(int from, int to, string kind) => _edges[from].Add((to, kind));
}
