using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;
using Log = ShardForge.Consensus.NodeLog.NodeLog;

namespace ShardForge.Tests.Consensus.NodeLog;

/// <summary>Random but valid calls on a node log, by seed, with a model beside it: for each replica all states it went through and which of them was acknowledged last.</summary>
internal sealed class LogScript(int seed, ulong replicaCount, int largeBytes)
{
    private readonly Random _random = new(seed);
    private readonly SortedDictionary<ulong, List<ReplicaModel>> _states = [];
    private readonly Dictionary<ulong, int> _acknowledged = [];
    private readonly HashSet<ulong> _maybeCreated = [];
    private int _number;

    /// <summary>Calls that were made, for the report of a failure.</summary>
    public List<string> Calls { get; } = [];

    /// <summary>One more call, awaited. What it throws, it throws.</summary>
    public async Task StepAsync(Log log)
    {
        ulong id = 1 + (ulong)_random.NextInt64((long)replicaCount);
        if (!_states.TryGetValue(id, out List<ReplicaModel>? states))
        {
            if (_maybeCreated.Contains(id) && log.WasCreated(new(id)))
                throw new InvalidOperationException("The script lost track.");
            Calls.Add($"create {id}");
            _maybeCreated.Add(id);
            await log.CreateReplicaAsync(new(id), new byte[] { (byte)id }, new byte[] { 1 });
            _states[id] = [new ReplicaModel(id)];
            _acknowledged[id] = 0;
            return;
        }

        ReplicaModel now = states[^1];
        if (now.IsRemoved)
        {
            Calls.Add($"nothing to {id}");
            return;
        }

        IReplicaLog replica = log.Replicas.Single(replica => replica.Replica.Value == id);
        ReplicaModel next;
        Func<ValueTask> call;
        // A call that sends several records may be found half done, as long as nobody was told that it is done.
        List<ReplicaModel> between = [];
        int choice = _random.Next(100);
        if (choice < 15)
        {
            ulong vote = now.Vote != 0 || _random.Next(3) == 0 ? 0 : 1 + (ulong)_random.Next(3);
            next = _random.Next(2) == 0 && vote != 0 ? now with { Vote = vote } : now with { Term = now.Term + 1, Vote = vote };
            call = () => replica.SetHardStateAsync(new(next.Term), new(next.Vote));
            Calls.Add($"hard state {id} term {next.Term} vote {next.Vote}");
        }
        else if (choice < 55)
        {
            ModelEntry[] entries = NewEntries(now.Term, _random.Next(1, 6));
            next = now.Append(entries);
            for (int i = 1; i < entries.Length; i++)
                between.Add(now.Append(entries[..i]));
            call = () => LeaderAppendAsync(replica, entries);
            Calls.Add($"append {id} {entries.Length} behind {now.Last}");
        }
        else if (choice < 70 && now.Last > now.Compacted)
        {
            long first = _random.NextInt64(now.Compacted + 1, now.Last + 2);
            long termBefore = first == now.Compacted + 1 ? now.CompactedTerm : now.Entries[(int)(first - now.Compacted - 2)].Term;
            ModelEntry[] entries = NewEntries(_random.NextInt64(Math.Max(1, termBefore), now.Term + 1), _random.Next(1, 5));
            if (entries[0].Term < now.LastTerm && _random.Next(2) == 0)
                entries = NewEntries(now.Term, entries.Length);
            next = now.AppendFrom(first, entries);
            for (int i = 1; i < entries.Length; i++)
                between.Add(now.AppendFrom(first, entries[..i]));
            for (long kept = now.Compacted; kept < now.Last; kept++)
                between.Add(now with { Entries = [.. now.Entries.Take((int)(kept - now.Compacted))] });
            between.RemoveAll(state => !next.Entries.Take(state.Entries.Count).SequenceEqual(state.Entries));
            call = () => replica.AppendAsync(new(first), entries.Select(static entry => entry.ToEntry()).ToArray(), new(now.Compacted));
            Calls.Add($"follow {id} {first}+{entries.Length} term {entries[0].Term}");
        }
        else if (choice < 88 && now.Last > now.Compacted)
        {
            long index = _random.NextInt64(now.Compacted + 1, now.Last + 1);
            next = now.Compact(index);
            call = () =>
            {
                replica.Compact(new(index));
                return ValueTask.CompletedTask;
            };
            Calls.Add($"compact {id} {index}");
        }
        else if (choice < 96)
        {
            long index = now.Compacted + 1 + _random.Next(6), term = index <= now.Last && _random.Next(2) == 0 ? now.Entries[(int)(index - now.Compacted - 1)].Term : now.Term;
            if (index <= now.Last && now.Entries[(int)(index - now.Compacted - 1)].Term != term)
                index = now.Last + 1;
            byte configuration = (byte)(1 + _random.Next(200));
            next = now.Reset(index, Math.Max(term, index > now.Last ? now.LastTerm : 0), configuration, now.Generation + 1);
            call = () => replica.ResetToSnapshotAsync(new(index), new(next.CompactedTerm), new[] { configuration }, next.Generation);
            Calls.Add($"snapshot {id} {index} term {next.CompactedTerm}");
        }
        else if (choice >= 99)
        {
            next = now with { IsRemoved = true };
            call = () => log.RemoveReplicaAsync(new(id));
            Calls.Add($"remove {id}");
        }
        else
        {
            return;
        }

        states.AddRange(between);
        states.Add(next);
        await call();
        // A mark is not awaited; a later record is durable only with it, but a call that changes nothing sends none.
        if (!Calls[^1].StartsWith("compact", StringComparison.Ordinal) && next.Describe() != now.Describe())
            _acknowledged[id] = states.Count - 1;
    }

    /// <summary>Compares a reopened log: each replica must be in its last acknowledged state, or a later one; and goes on from there.</summary>
    /// <returns>Null: all is as it must be.</returns>
    public string? Check(Log log)
    {
        foreach (ulong id in _maybeCreated)
        {
            IReplicaLog? found = log.Replicas.SingleOrDefault(replica => replica.Replica.Value == id);
            if (!_states.TryGetValue(id, out List<ReplicaModel>? states))
            {
                if (found is null)
                    continue;
                states = _states[id] = [new ReplicaModel(id)];
                _acknowledged[id] = 0;
            }

            string actual = found is not null ? ReplicaModel.Describe(found) : log.WasCreated(new(id)) ? "removed" : "absent";
            int at = states.FindIndex(_acknowledged[id], state => state.Describe() == actual);
            if (at < 0)
                return $"replica {id} is {actual}; acknowledged was {states[_acknowledged[id]].Describe()}, sent {states[^1].Describe()}";
            if (found is not null && (found.DurableIndex != found.LastIndex || !log.GetDescriptor(new(id)).Span.SequenceEqual([(byte)id])))
                return $"replica {id} has durable index {found.DurableIndex} of {found.LastIndex}";
            _states[id] = [states[at]];
            _acknowledged[id] = 0;
        }

        return null;
    }

    private ModelEntry[] NewEntries(long term, int count)
    {
        ModelEntry[] entries = new ModelEntry[count];
        for (int i = 0; i < count; i++)
        {
            bool isConfiguration = _random.Next(12) == 0;
            int bytes = isConfiguration ? 3 : _random.Next(8) == 0 ? _random.Next(largeBytes) : _random.Next(600);
            entries[i] = new ModelEntry(term, 1 + (++_number % 250), bytes, isConfiguration);
        }

        return entries;
    }

    private static async ValueTask LeaderAppendAsync(IReplicaLog replica, ModelEntry[] entries)
    {
        LogIndex last = default;
        foreach (ModelEntry entry in entries)
        {
            if (!replica.TryAppend(new(entry.Term), entry.IsConfiguration ? RaftEntryKind.Configuration : RaftEntryKind.Command, entry.Payload, out last))
                throw new InvalidOperationException("The script lost track of the term.");
        }

        await replica.WaitDurableAsync(last);
    }
}
