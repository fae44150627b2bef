using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

/// <summary>Lets the engine's compactions drop versions below the limit of history (R28): of each key the newest at or below it stays, and not even that one if it deletes.</summary>
/// <remarks>
/// The limit is read from the engine's last durable state: one that is only in memory could be lower after a crash, while what was dropped because of it stays gone.
/// Every version is written once: a replay begins behind what the engine has.
/// </remarks>
internal sealed class VersionFilter : ICompactionFilterSource
{
    public static VersionFilter Instance { get; } = new();

    public ICompactionFilter? Begin(CompactionScope scope)
    {
        VersionBuffer value = VersionBuffer.Rent();
        try
        {
            if (!scope.TryGetDurable(ReplicaStateRecord.Key, value))
                return null;
            Timestamp limit = ReplicaStateRecord.Read(value.Written).HistoryLimit;
            return limit.IsZero ? null : new Merge(limit);
        }
        finally
        {
            VersionBuffer.Return(value);
        }
    }

    private sealed class Merge(Timestamp limit) : ICompactionFilter
    {
        private byte[] _group = [];
        private int _groupBytes;
        private bool _hasVisible;

        public CompactionVerdict Decide(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value, bool isBottom)
        {
            if (key.Length <= MvccKey.SuffixBytes || key[0] != (byte)KeySpace.Version)
                return CompactionVerdict.Keep;
            ReadOnlySpan<byte> group = key[..^MvccKey.SuffixBytes];
            if (!group.SequenceEqual(_group.AsSpan(0, _groupBytes)))
            {
                if (_group.Length < group.Length)
                    _group = new byte[2 * group.Length];
                group.CopyTo(_group);
                _groupBytes = group.Length;
                _hasVisible = false;
            }

            if (MvccKey.ReadSuffix(key[^MvccKey.SuffixBytes..]) > limit)
                return CompactionVerdict.Keep;
            if (_hasVisible)
                return CompactionVerdict.DropUnique;
            _hasVisible = true;
            return isBottom && VersionHeader.Read(value, out _).IsDeleted ? CompactionVerdict.DropUnique : CompactionVerdict.Keep;
        }
    }
}
