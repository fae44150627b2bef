using System.Globalization;

namespace ShardForge.Tests.Processes;

/// <summary>What the parent knows of one node's writers: the highest number tried and acknowledged for each key. Outlives the node's processes.</summary>
/// <remarks>Writers number upwards and use their keys in turn (see NodeSession in NodeHost), so a key holds at least what was acknowledged and at most what was tried.</remarks>
internal sealed class WriteRecord(string nodeId)
{
    private const int KeysPerWriter = 32;
    private readonly Lock _gate = new();
    private readonly Dictionary<string, (long Acknowledged, long Tried)> _byKey = [];
    private readonly List<(long AcknowledgedCount, TaskCompletionSource Reached)> _waiters = [];
    private long _acknowledgedCount, _highestTried;

    public string NodeId { get; } = nodeId;

    public long AcknowledgedCount
    {
        get
        {
            lock (_gate)
                return _acknowledgedCount;
        }
    }

    /// <summary>Above every number that was used.</summary>
    public long NextNumber
    {
        get
        {
            lock (_gate)
                return _highestTried + 1;
        }
    }

    public void Tried(int writer, long number)
    {
        lock (_gate)
        {
            string key = KeyOf(writer, number);
            (long acknowledged, _) = _byKey.GetValueOrDefault(key, (-1, -1));
            _byKey[key] = (acknowledged, number);
            _highestTried = Math.Max(_highestTried, number);
        }
    }

    public void Acknowledged(int writer, long number)
    {
        List<TaskCompletionSource> reached = [];
        lock (_gate)
        {
            string key = KeyOf(writer, number);
            _byKey[key] = (number, _byKey[key].Tried);
            _acknowledgedCount++;
            for (int at = _waiters.Count - 1; at >= 0; at--)
            {
                if (_waiters[at].AcknowledgedCount > _acknowledgedCount)
                    continue;
                reached.Add(_waiters[at].Reached);
                _waiters.RemoveAt(at);
            }
        }

        foreach (TaskCompletionSource waiter in reached)
            waiter.TrySetResult();
    }

    /// <summary>Completes when so many writes have been acknowledged since the beginning.</summary>
    public Task WaitForAsync(long acknowledgedCount, TimeSpan limit)
    {
        TaskCompletionSource reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_gate)
        {
            if (_acknowledgedCount >= acknowledgedCount)
                return Task.CompletedTask;
            _waiters.Add((acknowledgedCount, reached));
        }

        return reached.Task.WaitAsync(limit);
    }

    /// <summary>What of a node's content contradicts what is known; empty: nothing was lost and nothing appeared.</summary>
    public IReadOnlyList<string> Contradictions(IReadOnlyDictionary<string, long> content)
    {
        List<string> found = [];
        lock (_gate)
        {
            foreach ((string key, (long acknowledged, long tried)) in _byKey)
            {
                if (!content.TryGetValue(key, out long number))
                {
                    if (acknowledged >= 0)
                        found.Add($"{key}: {acknowledged} was acknowledged, the key is missing");
                }
                else if (number < acknowledged || number > tried)
                {
                    found.Add($"{key}: holds {number}; {acknowledged} was acknowledged, {tried} tried last{(number < 0 ? " (-1: not whole, or scan and get differ)" : "")}");
                }
            }

            foreach (string key in content.Keys)
            {
                if (key.StartsWith($"{NodeId}/", StringComparison.Ordinal) && !_byKey.ContainsKey(key))
                    found.Add($"{key}: is there and was never written");
            }
        }

        return found;
    }

    private string KeyOf(int writer, long number) => string.Create(CultureInfo.InvariantCulture, $"{NodeId}/{writer}/{number % KeysPerWriter}");
}
