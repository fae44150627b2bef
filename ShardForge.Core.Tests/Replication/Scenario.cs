using System.Globalization;
using System.Reflection;
using ShardForge.Mvcc;
using ShardForge.Replication;
using ShardForge.Storage;
using ShardForge.Tests.Replication.Random;
using static ShardForge.Tests.Replication.Requests;

namespace ShardForge.Tests.Replication;

/// <summary>Plays a scenario: a history written down as text, against two shards on scripted groups.</summary>
/// <remarks><code>
/// oracle at 50 | hold | answer [n] | answer #2 | go          the next answer; whoever asks waits; answers (all, the first n, the second that waits)
///                                                            "hold" chooses the answer when it is asked for, and gives it late
/// commits hold | commit [n] | commits go                     entries of shard 1; those of shard 2 are committed at once
/// elect n2 [keep 1] [unknown to n1] | depose n1              of shard 1; "keep": entries not yet committed that survive
/// applies hold n2 | applies go n2
/// w1: put k=v | delete k | batch k=v j=w | cas k a->b        a write (- is absent)
/// t1: txn from 50 reads k j writes k=v                       one-shard transaction; "reads" makes it serializable
/// g1: get k | get k at 55 | get k at now | scan at 55        a read; a name that comes again is the same operation
/// begin s1                                                   its timestamp is taken now, its reads come later
/// over t from 20 writes k=v 2/j=w                            a transaction over shards, the first key its primary; then its steps, one by one:
/// t: prewrite 1 | t: decide [abort] | t: resolve 1           of the keys in shard 1; C is the largest M of the first answers
/// t commits                                                  its coordinator acknowledges it, if every prewrite was answered with an M; else it says no
/// m: mark t 2/j                                              somebody else looks for its lock
/// closes                                                     first of all: timestamps are closed at once, not seconds later
/// f1: stale k at 55                                          on a follower (@n2), at or below what is closed there
/// w1: ... @n2                                                sent to n2; without it to whoever leads
/// retry w1 | cancel w1                                       the same id once more; its deadline
/// limit 80 | collect | hide k                                raise the limit of history; drop what it allows; a split took k away
/// </code>
/// A key is of shard 1 unless it is written 2/k. Whatever ends is written to the transcript when it ends. After the last command everything that is held goes on, and
/// the history is checked.</remarks>
internal sealed class Scenario : IAsyncDisposable
{
    private readonly ScriptedOracle _oracle = new();
    private readonly ScriptedShard[] _shards = new ScriptedShard[2];
    private readonly List<Operation> _operations = [];
    private readonly Dictionary<string, (Operation Operation, ShardRequest Request, CancellationTokenSource Token)> _named = [];
    private readonly List<string> _transcript = [];
    private readonly Dictionary<string, OverShards> _overShards = [];
    private readonly List<Task> _running = [];
    private readonly Dictionary<ShardKey, List<FinalVersion>> _removed = [];
    private long _now;

    private Scenario()
    {
    }

    /// <summary>Plays the commands, with the named rules off.</summary>
    /// <returns>The transcript; its last line is the verdict.</returns>
    public static IReadOnlyList<string> Play(IEnumerable<string> commands, IEnumerable<string> rulesOff) => InlineContinuations.Run(() => PlayAsync(commands, rulesOff));

    public async ValueTask DisposeAsync()
    {
        foreach (ScriptedShard shard in _shards)
            await shard.DisposeAsync();
    }

    private static async Task<IReadOnlyList<string>> PlayAsync(IEnumerable<string> commands, IEnumerable<string> rulesOff)
    {
        ReplicationRules rules = new();
        foreach (string rule in rulesOff)
        {
            PropertyInfo property = typeof(ReplicationRules).GetProperty(rule) ?? throw new ArgumentException($"There is no rule {rule}.");
            property.SetValue(rules, value: false);
        }

        await using Scenario scenario = new();
        string[] script = [.. commands];
        bool closes = script is ["closes", ..];
        for (int shard = 0; shard < scenario._shards.Length; shard++)
        {
            scenario._shards[shard] = await ScriptedShard.OpenAsync(shard + 1, scenario._oracle, configure: options => options with
            {
                Rules = rules,
                EntriesInFlightMax = 1,
                EntryBytesTarget = 1,
                ClosedLag = closes ? TimeSpan.Zero : TimeSpan.FromSeconds(3),
            });
        }

        scenario._oracle.ChoosesWhenAsked = true;
        foreach (string command in script.Where(command => command != "closes"))
        {
            scenario._now++;
            scenario.Run(command);
        }

        scenario.Finish();
        return scenario._transcript;
    }

    private void Run(string command)
    {
        string[] words = command.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        if (words[0].EndsWith(':'))
        {
            Start(words[0][..^1], words[1..]);
            return;
        }

        string second = words.Length > 1 ? words[1] : "";
        switch (words[0])
        {
            case "oracle":
                RunOracle(second, words);
                break;
            case "begin":
                Begin(second);
                break;
            case "over":
                BeginOver(second, words);
                break;
            case var name when second == "commits" && _overShards.TryGetValue(name, out OverShards? over):
                Acknowledge(name, over);
                break;
            case "commits":
                _shards[0].Group.HoldsCommits = second == "hold";
                if (second == "go")
                    _shards[0].Group.Commit();
                break;
            case "commit":
                _shards[0].Group.Commit(second.Length > 0 ? Number(second) : null);
                break;
            case "elect":
                int keep = Array.IndexOf(words, "keep");
                _shards[0].Group.Elect(ScriptedShard.ReplicaOf(new(1), Node(second)), keep > 0 ? Number(words[keep + 1]) : 0, deposeOthers: !words.Contains("unknown"));
                break;
            case "depose":
                _shards[0].Group.Depose(ScriptedShard.ReplicaOf(new(1), Node(second)));
                break;
            case "applies":
                _shards[0].Group[ScriptedShard.ReplicaOf(new(1), Node(words[2]))].HoldsApplies = second == "hold";
                break;
            case "retry":
                (Operation operation, ShardRequest request, _) = _named[second];
                CancellationTokenSource token = new();
                _named[second] = (operation, request, token);
                Send($"{second} again", operation, ((WriteRequest)request) with { IsRetry = true }, NodeOf(words), token.Token);
                break;
            case "cancel":
                _named[second].Token.Cancel();
                break;
            case "limit":
                _running.Add(_shards[0].Leader.RaiseHistoryLimitAsync(new((ulong)Number(second)), CancellationToken.None).AsTask());
                break;
            case "collect":
                Remove(Collect);
                break;
            case "hide":
                foreach (ShardReplica replica in _shards[0].Replicas)
                    replica.Reshape(new Epoch(1), new SlotRange(1, 0));
                Remove((_, key, _, _) => key == second);
                break;
            default:
                throw new ArgumentException($"A scenario has no command '{command}'.");
        }
    }

    private void RunOracle(string what, string[] words)
    {
        switch (what)
        {
            case "at":
                _oracle.AdvanceTo(new((ulong)Number(words[2])));
                break;
            case "hold":
                _oracle.Holds = true;
                break;
            case "answer" when words.Length > 2 && words[2][0] == '#':
                _oracle.AnswerOne(Number(words[2][1..]) - 1);
                break;
            case "answer":
                _oracle.Answer(words.Length > 2 ? Number(words[2]) : null);
                break;
            default:
                _oracle.Holds = false;
                _oracle.Answer();
                break;
        }
    }

    private void Start(string name, string[] words)
    {
        if (words[0] is "prewrite" or "decide" or "resolve" or "mark")
        {
            _running.Add(StepAsync(name, words));
            return;
        }

        Operation? operation = _operations.Find(known => known.Name == name);
        operation ??= Begin(name);
        int? node = NodeOf(words);
        words = [.. words.Where(word => word[0] != '@')];
        if (words[0] == "stale")
        {
            ReadStale(name, operation, node ?? 2, ShardKeyOf(words[1]), (ulong)Number(words[3]));
            return;
        }

        ShardRequest request = Parse(operation, words);
        CancellationTokenSource token = new();
        _named[name] = (operation, request, token);
        Send(name, operation, request, node, token.Token);
    }

    private void BeginOver(string name, string[] words)
    {
        ulong start = (ulong)Number(words[3]);
        Operation operation = Begin(name);
        operation.HasTwoPoints = true;
        operation.ReadAt = start;
        operation.CommitBegin = _now;
        operation.Begin = 0;
        WriteRequest[] all = [.. words[5..].Select(write => Write(operation, [write]) with { Shard = new(ShardKeyOf(write.Split('=')[0]).Shard) })];
        foreach (ShardKey key in operation.Writes)
            operation.Reads.Add((key, VersionAt(key, start)));
        PrewriteSpec spec = new() { Primary = all[0].Writes[0].Key.ToArray(), Others = [.. all[1..].Select(request => request.Writes[0].Key.ToArray())] };
        _overShards[name] = new OverShards(operation, [.. all.Select(request => request with { Step = WriteStep.Prewrite, Prewrite = spec, Start = new Timestamp(start), Age = new Timestamp(start) })]);
    }

    private void Acknowledge(string name, OverShards over)
    {
        over.Operation.End = _now;
        over.Operation.Outcome = over.Minimums.Count == over.Prewrites.Length ? OperationOutcome.Done : OperationOutcome.NotDone;
        _transcript.Add($"{name}: {(over.Operation.Outcome == OperationOutcome.Done ? $"committed @{over.Commit.Value}" : "not written")}");
    }

    private async Task StepAsync(string name, string[] words)
    {
        OverShards over = _overShards[words[0] == "mark" ? words[1] : name];
        string step = words[0];
        if (step == "prewrite")
        {
            foreach (WriteRequest prewrite in over.Prewrites.Where(prewrite => prewrite.Shard.Value == Number(words[1])))
            {
                ShardResponse response = await _shards[prewrite.Shard.Value - 1].Leader.ExecuteAsync(prewrite, CancellationToken.None);
                if (response.Status == ShardStatus.Ok)
                    over.Minimums.TryAdd(prewrite, response.Timestamp);
                _transcript.Add($"{name}: prewrite {words[1]}: {(response.Status == ShardStatus.Ok ? $"M {response.Timestamp.Value}" : response.Status)}");
            }

            return;
        }

        foreach (WriteRequest prewrite in over.Prewrites)
        {
            string key = Text(prewrite.Writes[0].Key.ToArray())!;
            bool isMeant = step switch
            {
                "decide" => prewrite == over.Prewrites[0],
                "resolve" => prewrite.Shard.Value == Number(words[1]),
                _ => ShardKeyOf(words[2]) == new ShardKey(prewrite.Shard.Value, key),
            };
            if (!isMeant)
                continue;
            WriteRequest request = prewrite with
            {
                Step = step switch { "decide" => WriteStep.Decide, "resolve" => WriteStep.Resolve, _ => WriteStep.Mark },
                Prewrite = null,
                CommitAt = step == "mark" || words.Contains("abort") ? default : over.Commit,
            };
            ShardResponse response = await _shards[request.Shard.Value - 1].Leader.ExecuteAsync(request, CancellationToken.None);
            _transcript.Add($"{name}: {string.Join(' ', words)}: {response.Status} @{response.Timestamp.Value}");
        }
    }

    private sealed record OverShards(Operation Operation, WriteRequest[] Prewrites)
    {
        public Dictionary<WriteRequest, Timestamp> Minimums { get; } = [];

        public Timestamp Commit => Minimums.Values.Aggregate(Timestamp.Zero, Timestamp.Later);
    }

    private Operation Begin(string name)
    {
        Operation operation = new(_operations.Count + 1, name) { Name = name, Begin = _now };
        _operations.Add(operation);
        return operation;
    }

    private ShardRequest Parse(Operation operation, string[] words)
    {
        ulong? at = words.Length > 2 && words[^2] == "at" ? words[^1] == "now" ? _oracle.Take().Value : (ulong)Number(words[^1]) : null;
        operation.ReadAt = at;
        switch (words[0])
        {
            case "get":
                ShardKey key = ShardKeyOf(words[1]);
                return Get(key.Key, at, key.Shard);
            case "scan":
                return Scan(at!.Value);
            case "put" or "batch":
                return Write(operation, words[1..]);
            case "delete":
                return Write(operation, [$"{words[1]}=-"]);
            case "cas":
                string[] change = words[2].Split("->");
                operation.Expected = (true, Absent(change[0]));
                return Write(operation, [$"{words[1]}={change[1]}"]) with { HasCondition = true, ExpectedValue = Absent(change[0]) is { } expected ? (ReadOnlyMemory<byte>?)Bytes(expected) : null };
            case "txn":
                ulong start = (ulong)Number(words[2]);
                int writes = Array.IndexOf(words, "writes");
                string[] reads = words[3] == "reads" ? words[4..writes] : [];
                // What it read at its start was read by others of the scenario; here it counts as read then.
                operation.HasTwoPoints = reads.Length == 0;
                operation.ReadAt = start;
                operation.CommitBegin = _now;
                operation.Begin = 0;
                foreach (string read in reads)
                    operation.Reads.Add((ShardKeyOf(read), VersionAt(ShardKeyOf(read), start)));
                // Under snapshot isolation it read what it writes, else it could lose no update.
                if (reads.Length == 0)
                    operation.Reads.Add((ShardKeyOf(words[writes + 1].Split('=')[0]), VersionAt(ShardKeyOf(words[writes + 1].Split('=')[0]), start)));
                return Write(operation, words[(writes + 1)..]) with { Start = new Timestamp(start), ReadKeys = [.. reads.Select(read => (ReadOnlyMemory<byte>)Bytes(read))] };
            default:
                throw new ArgumentException($"A scenario has no operation '{words[0]}'.");
        }
    }

    private static WriteRequest Write(Operation operation, string[] writes)
    {
        List<(string, string?)> parsed = [];
        foreach (string write in writes)
        {
            string[] parts = write.Split('=');
            ShardKey key = ShardKeyOf(parts[0]);
            operation.Writes.Add(key);
            parsed.Add((key.Key, Absent(parts[1])));
        }

        return Batch([.. parsed], operation.Writes[0].Shard) with { Id = new OperationId(0, (ulong)operation.Number) };
    }

    private void Send(string name, Operation operation, ShardRequest request, int? node, CancellationToken cancellationToken)
    {
        ScriptedShard shard = _shards[request.Shard.Value - 1];
        ShardReplica replica = node is { } number ? shard[number] : shard.Leader;
        _running.Add(SendAsync(name, operation, replica, request, cancellationToken));
    }

    private async Task SendAsync(string name, Operation operation, ShardReplica replica, ShardRequest request, CancellationToken cancellationToken)
    {
        ShardResponse response = await replica.ExecuteAsync(request, cancellationToken);
        operation.End = _now;
        if (operation.Outcome != OperationOutcome.Done)
        {
            operation.Outcome = response.Status switch
            {
                ShardStatus.Ok => OperationOutcome.Done,
                ShardStatus.OutcomeUnknown => OperationOutcome.Unknown,
                _ => OperationOutcome.NotDone,
            };
        }

        string result = $"{response.Status}";
        if (response.Status == ShardStatus.Ok && request is WriteRequest)
        {
            result = $"written @{response.Timestamp.Value}";
        }
        else if (response.Status == ShardStatus.Ok && request is GetRequest get)
        {
            result = $"{Text(response.Value) ?? "-"} @{response.Timestamp.Value}";
            operation.Reads.Add((new ShardKey(get.Shard.Value, Text(get.Key.ToArray())!), response.Timestamp.Value));
        }
        else if (response.Status == ShardStatus.Ok)
        {
            result = Page(response);
            ulong readAt = ((ScanRequest)request).ReadAt.Value;
            foreach (ShardKey key in _operations.SelectMany(known => known.Writes).Where(key => key.Shard == request.Shard.Value).Distinct())
                operation.Reads.Add((key, response.Entries.Any(entry => Text(entry.Key) == key.Key) ? VersionAt(key, readAt) : 0));
        }
        else if (response.Status == ShardStatus.ConditionFailed)
        {
            // It was a read.
            WriteRequest write = (WriteRequest)request;
            operation.Outcome = OperationOutcome.Done;
            operation.Writes.Clear();
            operation.Expected = default;
            operation.Reads.Add((new ShardKey(write.Shard.Value, Text(write.Writes[0].Key.ToArray())!), response.Timestamp.Value));
            result += $", it has the version @{response.Timestamp.Value}";
        }

        _transcript.Add($"{name}: {result}");
    }

    // R13 on a follower: at or below what is closed there, the engine alone answers.
    private void ReadStale(string name, Operation operation, int node, ShardKey key, ulong readAt)
    {
        ShardReplica replica = _shards[key.Shard - 1][node];
        if (replica.ClosedTimestamp.Value < readAt)
        {
            _transcript.Add($"{name}: not closed");
            return;
        }

        VersionRead version = MvccReader.Read(replica.Engine, Bytes(key.Key), new(readAt));
        operation.Begin = 0;
        operation.End = long.MaxValue;
        operation.Outcome = OperationOutcome.Done;
        operation.ReadAt = readAt;
        operation.Reads.Add((key, version.Timestamp.Value));
        _transcript.Add($"{name}: {Text(version.Value) ?? "-"} @{version.Timestamp.Value}");
    }

    private void Finish()
    {
        _now++;
        foreach (ScriptedShard shard in _shards)
            shard.Group.HoldsCommits = false;
        for (int node = 1; node <= ScriptedShard.ReplicaCount; node++)
        {
            foreach (ScriptedShard shard in _shards)
                shard.Group[ScriptedShard.ReplicaOf(shard.Group.Shard, node)].HoldsApplies = false;
            if (_shards[0][node] != _shards[0].Leader)
                _shards[0].Group.Depose(ScriptedShard.ReplicaOf(new(1), node));
        }

        RunOracle("go", []);
        foreach (ScriptedShard shard in _shards)
            shard.Group.Commit();
        foreach ((_, _, CancellationTokenSource token) in _named.Values)
            token.Cancel();
        if (_running.Find(task => !task.IsCompletedSuccessfully) is { } left)
            throw new InvalidOperationException($"A scenario ended with a task {left.Status}: {left.Exception}");
        Dictionary<ShardKey, List<FinalVersion>> versions = FinalVersions();
        _transcript.Add($"history: {HistoryCheck.Run(_operations, versions) ?? "ok"}");
    }

    private ulong VersionAt(ShardKey key, ulong readAt) => (FinalVersions().GetValueOrDefault(key) ?? []).LastOrDefault(version => version.Timestamp <= readAt).Timestamp;

    // With what was collected or moved away: it was there.
    private Dictionary<ShardKey, List<FinalVersion>> FinalVersions()
    {
        Dictionary<ShardKey, List<FinalVersion>> versions = [];
        foreach (ScriptedShard shard in _shards)
            FinalState.Read(shard.Leader.Engine, shard.Group.Shard.Value, versions);
        foreach ((ShardKey key, List<FinalVersion> removed) in _removed)
            versions[key] = [.. (versions.GetValueOrDefault(key) ?? []).Concat(removed).DistinctBy(version => version.Timestamp).OrderBy(version => version.Timestamp)];
        return versions;
    }

    // What a compaction does with the limit that the shard has: of each key, the newest version at or below it stays, and not even that one if it deletes.
    private static bool Collect(ShardReplica replica, string key, Timestamp timestamp, VersionHeader header)
    {
        Timestamp limit = replica.HistoryLimit;
        if (timestamp > limit)
            return false;
        Timestamp kept = MvccReader.ReadHeader(replica.Engine, Bytes(key), limit).Timestamp;
        return timestamp < kept || header.IsDeleted;
    }

    private void Remove(Func<ShardReplica, string, Timestamp, VersionHeader, bool> isDropped)
    {
        foreach (ShardReplica replica in _shards[0].Replicas)
        {
            StorageBatch batch = new();
            using (IStorageIterator iterator = replica.Engine.Scan(MvccKey.VersionRange(KeyRange.All)))
            {
                while (iterator.MoveNext())
                {
                    byte[] userKey = new byte[iterator.Key.Length];
                    _ = MvccKey.TryReadVersion(iterator.Key, userKey, out int length, out Timestamp timestamp);
                    VersionHeader header = VersionHeader.Read(iterator.Value, out int headerBytes);
                    ShardKey key = new(1, Text(userKey[..length])!);
                    if (!isDropped(replica, key.Key, timestamp, header))
                        continue;
                    batch.Delete(iterator.Key);
                    if (!_removed.TryGetValue(key, out List<FinalVersion>? removed))
                        _removed.Add(key, removed = []);
                    removed.Add(new FinalVersion(timestamp.Value, (int)header.Operation.Low, header.IsDeleted ? null : Text(iterator.Value[headerBytes..].ToArray())));
                }
            }

            replica.Engine.WriteAsync(batch).AsTask().GetAwaiter().GetResult();
        }
    }

    private static ShardKey ShardKeyOf(string text) => text.StartsWith("2/", StringComparison.Ordinal) ? new(2, text[2..]) : new(1, text);

    private static string? Absent(string text) => text == "-" ? null : text;

    private static int? NodeOf(string[] words) => Array.Find(words, word => word[0] == '@') is { } at ? Node(at[1..]) : null;

    private static int Node(string text) => Number(text[1..]);

    private static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
}
