using ShardForge.Common;
using ShardForge.Replication;
using ShardForge.Routing;

namespace ShardForge.Transactions;

/// <summary>Validates what a transaction read over shards, up to its commit timestamp (R16). Used once.</summary>
internal sealed class ReadValidation(TransactionContext context, CommitSpec spec, Timestamp commit)
{
    private readonly TransactionContext _context = context;
    private readonly CommitSpec _spec = spec;
    private readonly Timestamp _commit = commit;

    /// <summary>Completes when nothing that was read has changed up to C.</summary>
    /// <exception cref="TransactionConflictException">Something has, or a lock is there that it may not wait for.</exception>
    public async ValueTask RunAsync(Deadline deadline)
    {
        while (true)
        {
            // All shards under one map: with a split between two of them, what moved could be looked at in neither.
            ShardMap map = _context.Router.Maps.Current!;
            Dictionary<ShardId, (List<ReadOnlyMemory<byte>> Keys, List<KeyRange> Ranges)> byShard = GroupReads(map);
            Task[] validating = new Task[byShard.Count];
            int count = 0;
            foreach ((ShardId shard, (List<ReadOnlyMemory<byte>> keys, List<KeyRange> ranges)) in byShard)
                validating[count++] = ValidateAsync(shard, keys, ranges, deadline);
            await Task.WhenAll(validating).ConfigureAwait(false);
            if (_context.Router.Maps.Current!.Version == map.Version)
                return;
        }
    }

    private Dictionary<ShardId, (List<ReadOnlyMemory<byte>> Keys, List<KeyRange> Ranges)> GroupReads(ShardMap map)
    {
        Dictionary<ShardId, (List<ReadOnlyMemory<byte>> Keys, List<KeyRange> Ranges)> byShard = [];
        foreach (ReadOnlyMemory<byte> key in _spec.ReadKeys)
            Of(map.Find(key.Span).Shard).Keys.Add(key);
        foreach (KeyRange range in _spec.ReadRanges)
        {
            if (map.PartitionRule.SlotOf(range) is { } slot)
            {
                Of(map.Find(slot).Shard).Ranges.Add(range);
                continue;
            }

            foreach (ShardRoute shard in map.Shards)
                Of(shard.Shard).Ranges.Add(range);
        }

        return byShard;

        (List<ReadOnlyMemory<byte>> Keys, List<KeyRange> Ranges) Of(ShardId shard)
        {
            if (!byShard.TryGetValue(shard, out (List<ReadOnlyMemory<byte>> Keys, List<KeyRange> Ranges) reads))
                byShard.Add(shard, reads = ([], []));
            return reads;
        }
    }

    private async Task ValidateAsync(ShardId shard, List<ReadOnlyMemory<byte>> keys, List<KeyRange> ranges, Deadline deadline)
    {
        ValidateRequest request = new()
        {
            Shard = shard,
            Epoch = default,
            Transaction = _spec.Id,
            Start = _spec.Start!.Value,
            Age = _spec.Age,
            Commit = _commit,
            ReadKeys = keys,
            ReadRanges = ranges,
        };
        ShardResponse response = await _context.Router.ReadAsync(request, static (validate, map) => map.Find(validate.Shard), deadline).ConfigureAwait(false);
        if (response.Status != ShardStatus.Ok)
            throw new TransactionConflictException($"Conflict in shard {shard}: {response.Message ?? "what was read has changed"} Nothing was written.");
    }
}
