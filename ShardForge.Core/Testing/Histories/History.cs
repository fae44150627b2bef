namespace ShardForge.Testing;

/// <summary>What clients did in transactions on lists, and what they were told, to be checked for isolation. Works with any test framework.</summary>
/// <remarks>
/// Every write appends an element that is used once. A list that was read then tells its whole past: which elements came in which order, so who wrote before whom, who
/// read whom, and who overwrote what was read. The check looks for cycles in that, as Elle does (Kingsbury and Alvaro, 2020); real time counts, so a stale read is a
/// violation too.
/// <code>
/// History history = new();
/// HistoryTransaction recorded = history.Begin();
/// recorded.Read("k", list); recorded.Append("k", element);       // what the transaction did, as it does it
/// recorded.Committed();                                          // or Aborted(), or Unknown() where the outcome is not known
/// ...
/// history.AssertSnapshotIsolated();
/// </code>
/// End with a transaction that reads every key: only what is read is checked.
/// Threads: <see cref="Begin"/> may be called by many; each transaction has one thread at a time.</remarks>
public sealed class History
{
    private readonly Lock _gate = new();
    private readonly List<HistoryTransaction> _transactions = [];
    private long _clock;

    /// <summary>Transactions begun so far.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
                return _transactions.Count;
        }
    }

    /// <summary>Records the begin of a transaction: call it before its snapshot is taken.</summary>
    public HistoryTransaction Begin()
    {
        lock (_gate)
        {
            HistoryTransaction transaction = new(this, _transactions.Count + 1, Now());
            _transactions.Add(transaction);
            return transaction;
        }
    }

    /// <summary>Null: the history is possible under the level, in real-time order; else what is wrong.</summary>
    /// <param name="isolation">The level that every transaction was promised.</param>
    public string? FindViolation(IsolationLevel isolation)
    {
        HistoryTransaction[] transactions;
        lock (_gate)
            transactions = [.. _transactions];
        return new ListAppendCheck(transactions, isolation).Run();
    }

    /// <summary>Throws where the history is not possible under strict snapshot isolation.</summary>
    /// <exception cref="HistoryException">It names the anomaly and the transactions.</exception>
    public void AssertSnapshotIsolated() => Assert(IsolationLevel.Snapshot);

    /// <summary>Throws where the history is not strictly serializable.</summary>
    /// <exception cref="HistoryException">It names the anomaly and the transactions.</exception>
    public void AssertSerializable() => Assert(IsolationLevel.Serializable);

    internal long Now() => Interlocked.Increment(ref _clock);

    private void Assert(IsolationLevel isolation)
    {
        if (FindViolation(isolation) is { } violation)
            throw new HistoryException(violation);
    }
}

/// <summary>One transaction of a <see cref="History"/>. One thread at a time.</summary>
public sealed class HistoryTransaction
{
    private readonly History _history;
    private readonly List<(string Key, string Element)> _appends = [];
    private readonly List<(string Key, IReadOnlyList<string> List)> _reads = [];

    internal HistoryTransaction(History history, int number, long begin)
    {
        _history = history;
        Number = number;
        BeginAt = begin;
    }

    internal enum End : byte
    {
        Open,
        Committed,
        Aborted,
        Unknown,
    }

    /// <summary>Which one it is, in the order of their begins; for messages.</summary>
    public int Number { get; }

    internal long BeginAt { get; }

    internal long EndAt { get; private set; } = long.MaxValue;

    internal End Outcome { get; private set; }

    internal IReadOnlyList<(string Key, string Element)> Appends => _appends;

    /// <summary>Without what the transaction itself had appended before.</summary>
    internal IReadOnlyList<(string Key, IReadOnlyList<string> List)> Reads => _reads;

    /// <summary>It appended an element to a list.</summary>
    /// <param name="key">The list.</param>
    /// <param name="element">Used once in the whole history.</param>
    public void Append(string key, string element) => _appends.Add((key, element));

    /// <summary>It read a list; a key that is absent is an empty one.</summary>
    /// <param name="key">The list.</param>
    /// <param name="list">Its elements, those that the transaction itself appended included.</param>
    public void Read(string key, IReadOnlyList<string> list)
    {
        ArgumentNullException.ThrowIfNull(list);
        List<string> others = [.. list];
        for (int i = _appends.Count - 1; i >= 0; i--)
        {
            if (_appends[i].Key == key && others.Count > 0 && others[^1] == _appends[i].Element)
                others.RemoveAt(others.Count - 1);
        }

        _reads.Add((key, others));
    }

    /// <summary>Its commit was acknowledged: call it after that.</summary>
    public void Committed() => Finish(End.Committed);

    /// <summary>It was told that nothing was written.</summary>
    public void Aborted() => Finish(End.Aborted);

    /// <summary>Whether it was committed is not known.</summary>
    public void Unknown() => Finish(End.Unknown);

    /// <inheritdoc/>
    public override string ToString() =>
        $"T{Number} ({Outcome}; reads {string.Join(", ", _reads.Select(static read => $"{read.Key}=[{string.Join(' ', read.List.TakeLast(3))}]({read.List.Count})"))}; appends {string.Join(", ", _appends.Select(static append => $"{append.Key}+{append.Element}"))})";

    private void Finish(End outcome)
    {
        if (Outcome != End.Open)
            throw new InvalidOperationException($"Transaction {Number} of the history has ended already ({Outcome}).");
        // Of unknown outcome: it may take effect at any time.
        EndAt = outcome == End.Unknown ? long.MaxValue : _history.Now();
        Outcome = outcome;
    }
}

/// <summary>A history breaks the promise that it was checked for.</summary>
public sealed class HistoryException : Exception
{
    /// <summary>Creates the error.</summary>
    /// <param name="message">The anomaly and the operations that show it.</param>
    public HistoryException(string message) : base(message) { }
}
