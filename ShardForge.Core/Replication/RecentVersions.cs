namespace ShardForge.Replication;

/// <summary>An upper bound of each key's newest version, so that most writes need not read the engine to be above it (R06). Guarded by the replica's gate.</summary>
/// <remarks>
/// One timestamp per bucket of keys. Invariant: every version of a key, applied or fixed, is at or below its bucket. It holds at the start, because a new
/// leader's fresh timestamp is above every M fixed before (R06: M passes the oracle's last by at most one; R10), and every M fixed since is noted here.
/// </remarks>
internal sealed class RecentVersions
{
    // 8 KiB per led shard. Two keys that share a bucket cost one of them a look into the engine, if they are written at the same time.
    private const int BucketCount = 1024;

    private readonly ulong[] _buckets = new ulong[BucketCount];

    public void Start(Timestamp above) => Array.Fill(_buckets, above.Value);

    public Timestamp Bound(ulong keyHash) => new(_buckets[keyHash % BucketCount]);

    public void Note(ulong keyHash, Timestamp version)
    {
        ref ulong bucket = ref _buckets[keyHash % BucketCount];
        bucket = Math.Max(bucket, version.Value);
    }
}
