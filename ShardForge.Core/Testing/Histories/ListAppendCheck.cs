namespace ShardForge.Testing;

/// <summary>Looks for what a level of isolation forbids in a history of list appends. Used once.</summary>
/// <remarks>
/// Under snapshot isolation a transaction that writes happens at two moments, its snapshot and its commit, each a node; else it is one. Edges, each saying "not after":
/// <code>
/// snapshot → commit                       of one transaction
/// commit of the writer → snapshot of who read it (wr), or wrote the next element (ww: the first committer wins)
/// snapshot of who read → commit of who wrote the next element (rw)
/// commit → snapshot of who began after it ended (time)
/// </code>
/// A cycle is a violation (Adya's G0, G1c, G-single; G2 where every transaction is one node). Before that: elements of aborted transactions that were read (G1a), halves
/// of transactions (G1b), lists that do not continue each other, elements that come twice.
/// </remarks>
internal sealed class ListAppendCheck(IReadOnlyList<HistoryTransaction> transactions, IsolationLevel isolation)
{
    private readonly Dictionary<string, HistoryTransaction> _writers = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<string>> _orders = new(StringComparer.Ordinal);
    private readonly Dictionary<HistoryTransaction, int> _nodes = [];
    private readonly List<List<(int To, string Kind)>> _edges = [];
    private readonly List<HistoryTransaction?> _owners = [];
    private readonly HashSet<string> _seen = new(StringComparer.Ordinal);

    public string? Run() => CollectWriters() ?? CollectOrders() ?? CheckReads() ?? CheckCycles();

    private static string NameOf(string key, string element) => $"{key}+{element}";

    private string? CollectWriters()
    {
        foreach (HistoryTransaction transaction in transactions)
        {
            foreach ((string key, string element) in transaction.Appends)
            {
                if (!_writers.TryAdd(NameOf(key, element), transaction))
                    return $"The history is no such one: {element} is appended to {key} twice, by {transaction}.";
            }
        }

        return null;
    }

    // The longest list that was read is the order; every other one must be its beginning.
    private string? CollectOrders()
    {
        foreach (HistoryTransaction reader in transactions)
        {
            foreach ((string key, IReadOnlyList<string> list) in reader.Reads)
            {
                if (!_orders.TryGetValue(key, out List<string>? order))
                    _orders.Add(key, order = []);
                for (int i = 0; i < Math.Min(order.Count, list.Count); i++)
                {
                    if (order[i] != list[i])
                        return $"Incompatible orders: {reader} read {key} with {list[i]} at place {i}, where another read had {order[i]}.";
                }

                for (int i = order.Count; i < list.Count; i++)
                {
                    if (!_seen.Add(NameOf(key, list[i])))
                        return $"Effect twice: {reader} read {key} with {list[i]} twice.";
                    order.Add(list[i]);
                }
            }
        }

        return null;
    }

    private string? CheckReads()
    {
        foreach (HistoryTransaction reader in transactions)
        {
            foreach ((string key, IReadOnlyList<string> list) in reader.Reads)
            {
                for (int i = 0; i < list.Count; i++)
                {
                    if (!_writers.TryGetValue(NameOf(key, list[i]), out HistoryTransaction? writer))
                        return $"Read of nothing: {reader} read {list[i]} in {key}, which nobody appended.";
                    if (writer.Outcome == HistoryTransaction.End.Aborted)
                        return $"Aborted read (G1a): {reader} read {list[i]} in {key}, of {writer}.";
                    // The last of a writer's elements ends what belongs together.
                    bool isEnd = i == list.Count - 1 && writer != reader;
                    if (isEnd && writer.Appends.Last(append => append.Key == key).Element != list[i])
                        return $"Intermediate read (G1b): {reader} read {key} up to {list[i]}, in the middle of {writer}.";
                }
            }
        }

        return null;
    }

    private bool Counts(HistoryTransaction transaction) => transaction.Outcome switch
    {
        HistoryTransaction.End.Committed => true,
        HistoryTransaction.End.Aborted => false,
        _ => transaction.Appends.Any(append => _seen.Contains(NameOf(append.Key, append.Element))),
    };

    private string? CheckCycles()
    {
        List<HistoryTransaction> counted = [.. transactions.Where(Counts)];
        foreach (HistoryTransaction transaction in counted)
        {
            _nodes.Add(transaction, AddNode(transaction));
            if (HasTwo(transaction))
                Edge(Snapshot(transaction), AddNode(transaction), "self");
        }

        AddRealTime(counted);
        foreach ((string key, List<string> order) in _orders)
        {
            for (int i = 1; i < order.Count; i++)
                Connect(_writers[NameOf(key, order[i - 1])], _writers[NameOf(key, order[i])], "ww");
        }

        ILookup<string, HistoryTransaction> unseen = counted.SelectMany(static transaction => transaction.Appends, static (transaction, append) => (transaction, append))
            .Where(it => !_seen.Contains(NameOf(it.append.Key, it.append.Element))).ToLookup(static it => it.append.Key, static it => it.transaction, StringComparer.Ordinal);
        foreach (HistoryTransaction reader in counted)
        {
            foreach ((string key, IReadOnlyList<string> list) in reader.Reads)
            {
                List<string> order = _orders[key];
                if (list.Count > 0)
                    Connect(_writers[NameOf(key, list[^1])], reader, "wr");
                if (list.Count < order.Count)
                    ConnectRead(reader, _writers[NameOf(key, order[list.Count])]);
                // What nobody saw comes after everything that was seen.
                foreach (HistoryTransaction writer in unseen[key])
                    ConnectRead(reader, writer);
            }
        }

        return FindCycle();
    }

    private bool HasTwo(HistoryTransaction transaction) => isolation == IsolationLevel.Snapshot && transaction.Appends.Count > 0;

    private void Connect(HistoryTransaction before, HistoryTransaction after, string kind)
    {
        if (before != after)
            Edge(Commit(before), Snapshot(after), kind);
    }

    private void ConnectRead(HistoryTransaction reader, HistoryTransaction overwriter)
    {
        if (reader != overwriter)
            Edge(Snapshot(reader), Commit(overwriter), "rw");
    }

    // One node per end, chained in time, instead of an edge between every two.
    private void AddRealTime(List<HistoryTransaction> counted)
    {
        List<HistoryTransaction> ended = [.. counted.Where(static transaction => transaction.EndAt != long.MaxValue).OrderBy(static transaction => transaction.EndAt)];
        long[] ends = [.. ended.Select(static transaction => transaction.EndAt)];
        int first = _edges.Count;
        for (int i = 0; i < ended.Count; i++)
        {
            int node = AddNode(null);
            Edge(Commit(ended[i]), node, "time");
            if (i > 0)
                Edge(node - 1, node, "time");
        }

        foreach (HistoryTransaction transaction in counted)
        {
            int at = Array.BinarySearch(ends, transaction.BeginAt);
            int last = (at < 0 ? ~at : at) - 1;
            if (last >= 0)
                Edge(first + last, Snapshot(transaction), "time");
        }
    }

    private string? FindCycle()
    {
        // Only nodes that are left after taking away, again and again, those without predecessors can be on a cycle: the rest is searched for the shortest one.
        int[] predecessors = new int[_edges.Count];
        foreach (List<(int To, string Kind)> edges in _edges)
        {
            foreach ((int to, _) in edges)
                predecessors[to]++;
        }

        Queue<int> free = new(Enumerable.Range(0, _edges.Count).Where(node => predecessors[node] == 0));
        int left = _edges.Count;
        while (free.TryDequeue(out int node))
        {
            left--;
            foreach ((int to, _) in _edges[node])
            {
                if (--predecessors[to] == 0)
                    free.Enqueue(to);
            }
        }

        if (left == 0)
            return null;
        List<(int Node, string Kind)>? shortest = null;
        for (int start = 0; start < _edges.Count; start++)
        {
            if (predecessors[start] > 0 && _owners[start] is not null && Walk(start) is { } walk && (shortest is null || walk.Count < shortest.Count))
                shortest = walk;
        }

        List<(int Node, string Kind)> steps = [.. shortest!.Where(step => _owners[step.Node] is not null)];
        int readOverwrites = shortest!.Count(static step => step.Kind == "rw");
        string name = readOverwrites switch { 0 => "G0 or G1c", 1 => "G-single", _ => "G2" };
        string path = string.Join("\n", steps.Select(step => $"  {_owners[step.Node]}\n    --{step.Kind}-->"));
        return $"Cycle ({name}{(shortest!.Any(static step => step.Kind == "time") ? ", with real time" : "")}):\n{path}\n  (the first again)";
    }

    private List<(int Node, string Kind)>? Walk(int start)
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
            return null;
        List<(int, string)> walk = [];
        int at = start;
        do
        {
            (int from, string kind) = came[at];
            walk.Insert(0, (from, kind));
            at = from;
        }
        while (at != start);
        return walk;
    }

    private int Snapshot(HistoryTransaction transaction) => _nodes[transaction];

    private int Commit(HistoryTransaction transaction) => _nodes[transaction] + (HasTwo(transaction) ? 1 : 0);

    private int AddNode(HistoryTransaction? owner)
    {
        _edges.Add([]);
        _owners.Add(owner);
        return _edges.Count - 1;
    }

    private void Edge(int from, int to, string kind) => _edges[from].Add((to, kind));
}
