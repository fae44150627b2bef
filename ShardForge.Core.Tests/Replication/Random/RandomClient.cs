using ShardForge.Replication;
using static ShardForge.Tests.Replication.Requests;

namespace ShardForge.Tests.Replication.Random;

/// <summary>One client of a <see cref="RandomRun"/>: one operation after the other, each tried again as a router would.</summary>
internal sealed class RandomClient(RandomRun run, int number)
{
    private const int AttemptsMax = 12;

    private readonly ITimestampSource _timestamps = run.Oracle.CreateSource();
    private readonly Dictionary<ShardKey, string?> _lastSeen = [];

    public async Task RunAsync(int operationCount)
    {
        for (int i = 0; i < operationCount; i++)
        {
            await run.MessageAsync();
            switch (run.Next(9))
            {
                case 0 or 1:
                    await PutAsync();
                    break;
                case 2:
                    await BatchAsync();
                    break;
                case 3:
                    await CompareAndSetAsync();
                    break;
                case 4 or 5:
                    await GetAsync();
                    break;
                case 6:
                    await SnapshotAsync();
                    break;
                default:
                    await TransactAsync(isSerializable: run.Chance(50));
                    break;
            }
        }
    }

    private ShardKey PickKey() => new(1 + run.Next(RandomRun.ShardCount), ((char)('a' + run.Next(RandomRun.KeyCount))).ToString());

    private async Task PutAsync()
    {
        ShardKey key = PickKey();
        Operation operation = run.Begin("");
        string? value = run.Chance(25) ? null : $"{operation.Number}";
        operation.What = $"c{number} put {key}={value ?? "deleted"}";
        operation.Writes.Add(key);
        await WriteAsync(operation, Put(key.Key, value, key.Shard));
    }

    private async Task BatchAsync()
    {
        int shard = 1 + run.Next(RandomRun.ShardCount);
        Operation operation = run.Begin("");
        string[] keys = run.Chance(50) ? ["a", "b"] : ["c", "a"];
        operation.What = $"c{number} batch {shard}/{string.Join(',', keys)}";
        operation.Writes.AddRange(keys.Select(key => new ShardKey(shard, key)));
        await WriteAsync(operation, Batch([.. keys.Select(key => (key, (string?)$"{operation.Number}"))], shard));
    }

    private async Task CompareAndSetAsync()
    {
        ShardKey key = PickKey();
        Operation operation = run.Begin("");
        string? expected = _lastSeen.GetValueOrDefault(key);
        operation.What = $"c{number} cas {key} {expected ?? "absent"}->{operation.Number}";
        operation.Writes.Add(key);
        operation.Expected = (true, expected);
        ShardResponse? response = await WriteAsync(operation, CompareAndSet(key.Key, expected, $"{operation.Number}", key.Shard));
        if (response is { Status: ShardStatus.ConditionFailed } && operation.Outcome == OperationOutcome.NotDone)
        {
            // It was a read: it counts as one that was done.
            operation.Writes.Clear();
            operation.Expected = default;
            operation.Reads.Add((key, response.Timestamp.Value));
            operation.Outcome = OperationOutcome.Done;
        }
    }

    private async Task GetAsync()
    {
        ShardKey key = PickKey();
        Operation operation = run.Begin($"c{number} get {key}");
        ShardResponse? response = await ReadAsync(operation, () => Get(key.Key, shard: key.Shard));
        if (response is null)
            return;
        operation.Reads.Add((key, response.Timestamp.Value));
        operation.What += $" saw {Text(response.Value) ?? "nothing"}@{response.Timestamp.Value}";
        operation.Outcome = OperationOutcome.Done;
        operation.End = run.Tick();
        _lastSeen[key] = Text(response.Value);
    }

    private async Task SnapshotAsync()
    {
        Operation operation = run.Begin($"c{number} snapshot");
        Timestamp readAt = await _timestamps.NextAsync(CancellationToken.None);
        operation.ReadAt = readAt.Value;
        operation.What += $"@{readAt.Value}";
        for (int shard = 1; shard <= RandomRun.ShardCount; shard++)
        {
            for (int i = 0; i < RandomRun.KeyCount; i++)
            {
                ShardKey key = new(shard, ((char)('a' + i)).ToString());
                if (await ReadAtAsync(operation, key, readAt) is null)
                    return;
            }

            // The scan has to say the same as the point reads, and it has no other way to be right.
            int asked = shard;
            ShardResponse? page = await ReadAsync(operation, () => Scan(readAt.Value, reverse: run.Chance(50), shard: asked));
            if (page is null)
                return;
            string[] scanned = [.. page.Entries.Select(entry => Text(entry.Key)!).Order(StringComparer.Ordinal)];
            string[] got = [.. operation.Reads.Where(read => read.Key.Shard == asked && _lastSeen[read.Key] is not null).Select(read => read.Key.Key)];
            if (!scanned.SequenceEqual(got, StringComparer.Ordinal))
                throw new InvalidOperationException($"{operation}: scan and gets differ: {string.Join(',', scanned)} and {string.Join(',', got)}");
        }

        operation.Outcome = OperationOutcome.Done;
        operation.End = run.Tick();
    }

    private async Task TransactAsync(bool isSerializable)
    {
        int shard = 1 + run.Next(RandomRun.ShardCount);
        Operation operation = run.Begin($"c{number} {(isSerializable ? "serializable" : "snapshot")} txn {shard}/");
        Timestamp start = await _timestamps.NextAsync(CancellationToken.None);
        operation.HasTwoPoints = !isSerializable;
        operation.ReadAt = start.Value;
        operation.What += $"@{start.Value} reads";
        List<ShardKey> read = [];
        for (int i = 1 + run.Next(2); i > 0; i--)
        {
            ShardKey key = PickKey() with { Shard = shard };
            if (!read.Contains(key))
                read.Add(key);
        }

        foreach (ShardKey key in read)
        {
            operation.What += $" {key}";
            if (await ReadAtAsync(operation, key, start) is null)
                return;
        }

        ShardKey written = PickKey() with { Shard = shard };
        operation.Writes.Add(written);
        operation.What += $" writes {written}";
        operation.CommitBegin = run.Tick();
        bool asRange = run.Chance(50);
        await WriteAsync(operation, Put(written.Key, $"{operation.Number}", shard) with
        {
            Start = start,
            ReadKeys = isSerializable && !asRange ? [.. read.Select(key => (ReadOnlyMemory<byte>)Bytes(key.Key))] : [],
            ReadRanges = isSerializable && asRange ? [.. read.Select(key => KeyRange.Prefix(Bytes(key.Key)))] : [],
        });
    }

    private async Task<ShardResponse?> ReadAtAsync(Operation operation, ShardKey key, Timestamp readAt)
    {
        ShardResponse? response = await ReadAsync(operation, () => Get(key.Key, readAt.Value, key.Shard));
        if (response is not null)
        {
            operation.Reads.Add((key, response.Timestamp.Value));
            _lastSeen[key] = Text(response.Value);
        }

        return response;
    }

    // Null: it could not be read; the operation has failed.
    private async Task<ShardResponse?> ReadAsync(Operation operation, Func<ShardRequest> request)
    {
        for (int attempt = 0; attempt < AttemptsMax; attempt++)
        {
            ShardRequest sent = request();
            ShardReplica replica = await SendAsync(sent.Shard);
            ShardResponse response = await replica.ExecuteAsync(sent, run.Deadline(operation));
            await run.MessageAsync();
            if (response.Status == ShardStatus.Ok)
                return response;
            if (response.Status is ShardStatus.HistoryGone)
                break;
            if (response.Status is not (ShardStatus.NotLeader or ShardStatus.TimedOut))
                throw new InvalidOperationException($"{operation}: {response.Status}, {response.Message}");
        }

        operation.Outcome = OperationOutcome.NotDone;
        operation.Reads.Clear();
        operation.End = run.Tick();
        return null;
    }

    // R22: a negative answer is final only if no other attempt is open.
    private async Task<ShardResponse?> WriteAsync(Operation operation, WriteRequest request)
    {
        request = request with { Id = new OperationId(0, (ulong)operation.Number), KnownTimestamp = _timestamps.LastKnown };
        int openCount = 0;
        ShardResponse? response = null;
        bool isRetry = false;
        for (int attempt = 0; attempt < AttemptsMax; attempt++)
        {
            Task<ShardResponse> sent = AttemptAsync(operation, request with { IsRetry = isRetry });
            isRetry = true;
            if (run.Chance(8))
            {
                // The answer does not come in time: it is tried again while the first attempt may still be on its way.
                openCount++;
                await run.MessageAsync();
                continue;
            }

            response = await sent;
            if (response.Status is ShardStatus.OutcomeUnknown)
                openCount++;
            if (response.Status is not (ShardStatus.NotLeader or ShardStatus.TimedOut or ShardStatus.OutcomeUnknown))
                break;
            response = null;
        }

        operation.Outcome = response switch
        {
            { Status: ShardStatus.Ok } => OperationOutcome.Done,
            null => openCount == 0 ? OperationOutcome.NotDone : OperationOutcome.Unknown,
            _ => openCount == 0 ? OperationOutcome.NotDone : OperationOutcome.Unknown,
        };
        operation.End = run.Tick();
        operation.What += $" -> {response?.Status}@{response?.Timestamp.Value}";
        return response;
    }

    private async Task<ShardResponse> AttemptAsync(Operation operation, WriteRequest request)
    {
        ShardReplica replica = await SendAsync(request.Shard);
        ShardResponse response = await replica.ExecuteAsync(request, run.Deadline(operation));
        run.Log($"#{operation.Number} at {replica.Options.NodeId}: {response.Status} {response.Timestamp.Value}");
        await run.MessageAsync();
        return response;
    }

    // Mostly to whom leads, sometimes to whom led.
    private async Task<ShardReplica> SendAsync(ShardId shard)
    {
        ScriptedShard target = run.Shards[shard.Value - 1];
        ShardReplica replica = run.Chance(80) ? target.Leader : target.Replicas[run.Next(ScriptedShard.ReplicaCount)];
        await run.MessageAsync();
        return replica;
    }
}
