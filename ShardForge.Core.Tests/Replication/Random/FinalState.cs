using NUnit.Framework;
using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Tests.Replication.Random;

/// <summary>Reads every version that a replica's engine holds.</summary>
internal static class FinalState
{
    /// <summary>Adds a shard's versions, oldest first.</summary>
    public static void Read(IStorageEngine engine, int shard, Dictionary<ShardKey, List<FinalVersion>> versions)
    {
        using IStorageIterator iterator = engine.Scan(MvccKey.VersionRange(KeyRange.All));
        while (iterator.MoveNext())
        {
            byte[] userKey = new byte[iterator.Key.Length];
            Assert.That(MvccKey.TryReadVersion(iterator.Key, userKey, out int length, out Timestamp timestamp));
            VersionHeader header = VersionHeader.Read(iterator.Value, out int headerBytes);
            ShardKey key = new(shard, Requests.Text(userKey[..length])!);
            if (!versions.TryGetValue(key, out List<FinalVersion>? list))
                versions.Add(key, list = []);
            // Newest first in the engine.
            list.Insert(0, new FinalVersion(timestamp.Value, (int)header.Operation.Low, header.IsDeleted ? null : Requests.Text(iterator.Value[headerBytes..].ToArray())));
        }
    }
}
