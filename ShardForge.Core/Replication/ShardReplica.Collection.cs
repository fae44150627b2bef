using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

/// <content>Collection of old versions (R28) in engines whose compactions do not ask <see cref="VersionFilter"/>.</content>
internal sealed partial class ShardReplica
{
    private byte[]? _collectedUpTo;
    private Timestamp _collectedLimit;

    /// <summary>Whether the engine's compactions drop old versions by themselves.</summary>
    public bool CollectsInCompactions => Engine is Storage.Lsm.LsmEngine;

    /// <summary>Drops a part of what the limit of history allows; each replica for itself, since reads below the limit are refused on all of them.</summary>
    /// <param name="entriesMax">How many versions to look at.</param>
    /// <param name="cancellationToken">Ends it between two parts.</param>
    /// <remarks>
    /// The limit is in the engine before the deletes are, and an engine comes back as a prefix of what was written: what is gone is below a limit that is there.
    /// </remarks>
    public async ValueTask CollectVersionsAsync(int entriesMax, CancellationToken cancellationToken)
    {
        Timestamp limit = HistoryLimit;
        if (_collectedUpTo is null && limit == _collectedLimit)
            return;
        if (!TryEnterEngine(out EngineHandle? engine))
            return;
        try
        {
            StorageBatch batch = new();
            _collectedUpTo = CollectInto(batch, engine.Engine, limit, _collectedUpTo, entriesMax);
            if (_collectedUpTo is null)
                _collectedLimit = limit;
            if (batch.Count > 0)
                await engine.Engine.WriteAsync(batch, StorageDurability.Buffered, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            engine.Exit();
        }
    }

    // Whole keys only, so that a delete marker goes together with what it hides.
    private static byte[]? CollectInto(StorageBatch batch, IStorageEngine engine, Timestamp limit, byte[]? from, int entriesMax)
    {
        using IStorageIterator iterator = engine.Scan(MvccKey.VersionRange(KeyRange.All));
        byte[] group = [];
        bool hasVisible = false;
        bool any = from is null ? iterator.MoveNext() : iterator.Seek(from);
        for (int i = 0; any; i++, any = iterator.MoveNext())
        {
            ReadOnlySpan<byte> key = iterator.Key;
            if (!key[..^MvccKey.SuffixBytes].SequenceEqual(group))
            {
                if (i >= entriesMax)
                    return key.ToArray();
                group = key[..^MvccKey.SuffixBytes].ToArray();
                hasVisible = false;
            }

            if (MvccKey.ReadSuffix(key[^MvccKey.SuffixBytes..]) > limit)
                continue;
            if (hasVisible || VersionHeader.Read(iterator.Value, out _).IsDeleted)
                batch.Delete(key);
            hasVisible = true;
        }

        return null;
    }
}
