using System.Buffers;
using System.Runtime.InteropServices;
using ShardForge.Storage;

namespace ShardForge.Mvcc;

/// <summary>What a point read found.</summary>
/// <param name="Timestamp">Of the version; zero: there is none.</param>
/// <param name="Header">The version's header.</param>
/// <param name="Value">The value; null: absent, deleted, expired as of the read, or not asked for.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct VersionRead(Timestamp Timestamp, VersionHeader Header, byte[]? Value);

/// <summary>Point reads of versions, locks and operations over any engine. Stateless.</summary>
/// <remarks>
/// A point read asks the engine for one version: as of now that is atomic, so it needs no snapshot. What compares several things of one moment
/// (a version and a lock) passes one.
/// </remarks>
internal static class MvccReader
{
    private const int StackKeyBytes = 512;

    /// <summary>The newest version at or below a timestamp.</summary>
    /// <param name="engine">Where to read.</param>
    /// <param name="userKey">The key.</param>
    /// <param name="readAt"><see cref="Timestamp.Max"/>: the newest of all.</param>
    /// <param name="snapshot">Null: as of now.</param>
    public static VersionRead Read(IStorageEngine engine, ReadOnlySpan<byte> userKey, Timestamp readAt, IStorageSnapshot? snapshot = null) =>
        Read(engine, userKey, readAt, withValue: true, snapshot);

    /// <summary>Timestamp and header of the newest version at or below a timestamp, without its value.</summary>
    public static VersionRead ReadHeader(IStorageEngine engine, ReadOnlySpan<byte> userKey, Timestamp readAt, IStorageSnapshot? snapshot = null) =>
        Read(engine, userKey, readAt, withValue: false, snapshot);

    /// <summary>The version above a timestamp that a given operation wrote (R14, R22); zero: there is none.</summary>
    public static Timestamp FindOperation(IStorageEngine engine, ReadOnlySpan<byte> userKey, OperationId operation, Timestamp above, IStorageSnapshot? snapshot = null)
    {
        Timestamp readAt = Timestamp.Max;
        while (true)
        {
            VersionRead version = ReadHeader(engine, userKey, readAt, snapshot);
            if (version.Timestamp <= above)
                return default;
            if (version.Header.Operation == operation)
                return version.Timestamp;
            readAt = version.Timestamp.Previous;
        }
    }

    /// <summary>The lock on a key, encoded; null: none.</summary>
    public static byte[]? ReadLock(IStorageEngine engine, ReadOnlySpan<byte> userKey, IStorageSnapshot? snapshot = null)
    {
        byte[] key = ArrayPool<byte>.Shared.Rent(MvccKey.BytesMax(userKey.Length));
        VersionBuffer value = VersionBuffer.Rent();
        try
        {
            int length = MvccKey.WriteLock(key, userKey);
            return engine.TryGet(key.AsSpan(0, length), value, snapshot) ? value.Written.ToArray() : null;
        }
        finally
        {
            VersionBuffer.Return(value);
            ArrayPool<byte>.Shared.Return(key);
        }
    }

    /// <summary>The first lock on a key of a range with M at or below a timestamp; null: none.</summary>
    public static LockRecord? FindLock(IStorageEngine engine, KeyRange userKeys, Timestamp upTo, IStorageSnapshot? snapshot = null)
    {
        using IStorageIterator iterator = engine.Scan(MvccKey.LockRange(userKeys), snapshot is null ? null : new StorageScanOptions { Snapshot = snapshot });
        while (iterator.MoveNext())
        {
            if (LockRecord.ReadMinimumCommit(iterator.Value) <= upTo)
                return LockRecord.Decode(iterator.Value);
        }

        return null;
    }

    /// <summary>Whether any key of a range has a version, delete markers too, above one timestamp and at or below another.</summary>
    public static bool HasVersionBetween(IStorageEngine engine, KeyRange userKeys, Timestamp above, Timestamp upTo, IStorageSnapshot? snapshot = null)
    {
        using IStorageIterator iterator = engine.Scan(MvccKey.VersionRange(userKeys), snapshot is null ? null : new StorageScanOptions { Snapshot = snapshot });
        while (iterator.MoveNext())
        {
            Timestamp timestamp = MvccKey.ReadSuffix(iterator.Key[^MvccKey.SuffixBytes..]);
            if (timestamp > above && timestamp <= upTo)
                return true;
        }

        return false;
    }

    /// <summary>A mark, decision or result under a key; null: none.</summary>
    public static OperationRecord? ReadOperation(IStorageEngine engine, ReadOnlySpan<byte> userKey, OperationRecordKind kind, OperationId id, IStorageSnapshot? snapshot = null)
    {
        byte[] key = ArrayPool<byte>.Shared.Rent(MvccKey.OperationBytesMax(userKey.Length));
        VersionBuffer value = VersionBuffer.Rent();
        try
        {
            int length = MvccKey.WriteOperation(key, userKey, kind, id);
            return engine.TryGet(key.AsSpan(0, length), value, snapshot) ? OperationRecord.Read(value.Written) : null;
        }
        finally
        {
            VersionBuffer.Return(value);
            ArrayPool<byte>.Shared.Return(key);
        }
    }

    private static VersionRead Read(IStorageEngine engine, ReadOnlySpan<byte> userKey, Timestamp readAt, bool withValue, IStorageSnapshot? snapshot)
    {
        int bytesMax = MvccKey.BytesMax(userKey.Length);
        byte[]? rented = null;
        Span<byte> key = bytesMax <= StackKeyBytes ? stackalloc byte[StackKeyBytes] : (rented = ArrayPool<byte>.Shared.Rent(bytesMax));
        VersionBuffer value = VersionBuffer.Rent();
        try
        {
            int length = MvccKey.WriteVersion(key, userKey, readAt);
            Span<byte> suffix = stackalloc byte[MvccKey.SuffixBytes];
            if (!engine.TryGetVersion(key[..length], MvccKey.SuffixBytes, suffix, value, snapshot))
                return default;
            VersionHeader header = VersionHeader.Read(value.Written, out int headerBytes);
            Timestamp timestamp = MvccKey.ReadSuffix(suffix);
            Invariant.Check(timestamp <= readAt);
            return new VersionRead(timestamp, header, withValue && header.IsPresentAt(readAt) ? value.Written[headerBytes..].ToArray() : null);
        }
        finally
        {
            VersionBuffer.Return(value);
            if (rented is not null)
                ArrayPool<byte>.Shared.Return(rented);
        }
    }
}
