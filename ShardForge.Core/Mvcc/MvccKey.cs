using System.Buffers.Binary;

namespace ShardForge.Mvcc;

/// <summary>Engine keys of user keys, versions, locks and operations. They compare as plain bytes.</summary>
/// <remarks><code>
/// version   | 40 | escaped user key | 00 01 | inverted timestamp 8 |             ordered by key, then newest first
/// lock      | 20 | escaped user key | 00 01 | zeros 8 |
/// operation | 30 | escaped user key | 00 01 | kind 1 | operation id 16 |
/// local     | 10 | number 1 | zeros 8 |
///
/// escaped            00 becomes 00 FF, every other byte stays; the terminator 00 01 is below both, so a key that is the beginning
///                    of another comes first
/// inverted timestamp bitwise complement, big-endian
/// </code>
/// Every key ends in <see cref="SuffixBytes"/> bytes that filters and prefix bounds leave out; only those of a version mean something.
/// Versions of the format: 1 (this one); a newer one takes another key space.</remarks>
internal static class MvccKey
{
    /// <summary>Length of the version suffix: <see cref="Storage.StorageEngineContext.VersionSuffixBytes"/> of a replica's engine.</summary>
    public const int SuffixBytes = 8;

    private const int SpaceBytes = 1, TerminatorBytes = 2, KindBytes = 1;
    private const byte Escape = 0x00, EscapedZero = 0xFF, Terminator = 0x01;

    /// <summary>Longest encoding of a user key's version or lock.</summary>
    public static int BytesMax(int userKeyBytes) => SpaceBytes + (2 * userKeyBytes) + TerminatorBytes + SuffixBytes;

    /// <summary>Longest encoding of an operation's key.</summary>
    public static int OperationBytesMax(int userKeyBytes) => SpaceBytes + (2 * userKeyBytes) + TerminatorBytes + KindBytes + OperationId.Bytes;

    /// <summary>Writes the key of a version.</summary>
    /// <returns>Bytes written.</returns>
    public static int WriteVersion(Span<byte> target, ReadOnlySpan<byte> userKey, Timestamp timestamp)
    {
        int length = WritePrefix(target, KeySpace.Version, userKey);
        WriteSuffix(target[length..], timestamp);
        return length + SuffixBytes;
    }

    /// <summary>Writes the key of a lock.</summary>
    /// <returns>Bytes written.</returns>
    public static int WriteLock(Span<byte> target, ReadOnlySpan<byte> userKey)
    {
        int length = WritePrefix(target, KeySpace.Lock, userKey);
        target.Slice(length, SuffixBytes).Clear();
        return length + SuffixBytes;
    }

    /// <summary>Writes the key of an operation's mark, record or result.</summary>
    /// <returns>Bytes written.</returns>
    public static int WriteOperation(Span<byte> target, ReadOnlySpan<byte> userKey, OperationRecordKind kind, OperationId id)
    {
        int length = WritePrefix(target, KeySpace.Operation, userKey);
        target[length] = (byte)kind;
        BinaryPrimitives.WriteUInt64BigEndian(target[(length + 1)..], id.High);
        BinaryPrimitives.WriteUInt64BigEndian(target[(length + 9)..], id.Low);
        return length + KindBytes + OperationId.Bytes;
    }

    /// <summary>The key of something that is the replica's own.</summary>
    public static byte[] Local(byte number)
    {
        byte[] key = new byte[SpaceBytes + 1 + SuffixBytes];
        key[0] = (byte)KeySpace.ReplicaLocal;
        key[1] = number;
        return key;
    }

    /// <summary>Writes space, escaped key and terminator: what all versions of a key begin with.</summary>
    /// <returns>Bytes written.</returns>
    public static int WritePrefix(Span<byte> target, KeySpace space, ReadOnlySpan<byte> userKey)
    {
        target[0] = (byte)space;
        int length = SpaceBytes + WriteEscaped(target[SpaceBytes..], userKey);
        target[length] = Escape;
        target[length + 1] = Terminator;
        return length + TerminatorBytes;
    }

    /// <summary>Writes the suffix by which versions of one key are ordered newest first.</summary>
    public static void WriteSuffix(Span<byte> target, Timestamp timestamp) => BinaryPrimitives.WriteUInt64BigEndian(target, ~timestamp.Value);

    /// <summary>Reads what <see cref="WriteSuffix"/> wrote.</summary>
    public static Timestamp ReadSuffix(ReadOnlySpan<byte> suffix) => new(~BinaryPrimitives.ReadUInt64BigEndian(suffix));

    /// <summary>The versions of every user key in a range: each bound is the prefix of its user key, which lies before the key's own versions.</summary>
    public static KeyRange VersionRange(KeyRange userKeys) => Range(KeySpace.Version, userKeys);

    /// <summary>The locks on every user key in a range.</summary>
    public static KeyRange LockRange(KeyRange userKeys) => Range(KeySpace.Lock, userKeys);

    /// <summary>All marks, decisions and results.</summary>
    public static KeyRange OperationRange() => KeyRange.Between(new[] { (byte)KeySpace.Operation }, new[] { (byte)(KeySpace.Operation + 1) });

    /// <summary>Everything in a space under the user keys that start with <paramref name="userPrefix"/> (R24): the escaped prefix without a terminator, up to its byte successor.</summary>
    public static KeyRange PrefixRange(KeySpace space, ReadOnlySpan<byte> userPrefix)
    {
        byte[] start = new byte[SpaceBytes + (2 * userPrefix.Length)];
        start[0] = (byte)space;
        int length = SpaceBytes + WriteEscaped(start.AsSpan(SpaceBytes), userPrefix);
        // The space byte is below FF, so there is always a successor.
        return KeyRange.Prefix(start.AsMemory(0, length));
    }

    /// <summary>Takes a version's engine key apart.</summary>
    /// <param name="key">An engine key of the space of versions.</param>
    /// <param name="userKey">Gets the user key; at least as long as <paramref name="key"/>.</param>
    /// <param name="userKeyBytes">Bytes written.</param>
    /// <param name="timestamp">The version's timestamp.</param>
    /// <returns>False: not the key of a version.</returns>
    public static bool TryReadVersion(ReadOnlySpan<byte> key, Span<byte> userKey, out int userKeyBytes, out Timestamp timestamp)
    {
        timestamp = default;
        if (!TryReadUserKey(key, KeySpace.Version, userKey, out userKeyBytes, out int prefixBytes) || key.Length != prefixBytes + SuffixBytes)
            return false;
        timestamp = ReadSuffix(key[prefixBytes..]);
        return true;
    }

    /// <summary>Reads the user key at the beginning of an engine key.</summary>
    /// <param name="key">The engine key.</param>
    /// <param name="space">The space it must be of.</param>
    /// <param name="userKey">Gets the user key; at least as long as <paramref name="key"/>.</param>
    /// <param name="userKeyBytes">Bytes written.</param>
    /// <param name="prefixBytes">Where the prefix ends: behind the terminator.</param>
    /// <returns>False: another space, or no well-formed key.</returns>
    public static bool TryReadUserKey(ReadOnlySpan<byte> key, KeySpace space, Span<byte> userKey, out int userKeyBytes, out int prefixBytes)
    {
        userKeyBytes = 0;
        prefixBytes = 0;
        if (key.IsEmpty || key[0] != (byte)space)
            return false;
        ReadOnlySpan<byte> rest = key[SpaceBytes..];
        while (true)
        {
            int zero = rest.IndexOf(Escape);
            if (zero < 0 || zero + 1 >= rest.Length)
                return false;
            rest[..zero].CopyTo(userKey[userKeyBytes..]);
            userKeyBytes += zero;
            byte next = rest[zero + 1];
            rest = rest[(zero + 2)..];
            if (next == Terminator)
            {
                prefixBytes = key.Length - rest.Length;
                return true;
            }

            if (next != EscapedZero)
                return false;
            userKey[userKeyBytes++] = 0;
        }
    }

    private static KeyRange Range(KeySpace space, KeyRange userKeys)
    {
        byte[] start = Bound(space, userKeys.Start.Span);
        byte[] end = userKeys.HasEnd ? Bound(space, userKeys.End.Span) : [(byte)(space + 1)];
        return KeyRange.Between(start, end);
    }

    private static byte[] Bound(KeySpace space, ReadOnlySpan<byte> userKey)
    {
        byte[] bound = new byte[BytesMax(userKey.Length)];
        return bound[..WritePrefix(bound, space, userKey)];
    }

    private static int WriteEscaped(Span<byte> target, ReadOnlySpan<byte> userKey)
    {
        int length = 0;
        while (true)
        {
            int zero = userKey.IndexOf(Escape);
            if (zero < 0)
            {
                userKey.CopyTo(target[length..]);
                return length + userKey.Length;
            }

            userKey[..zero].CopyTo(target[length..]);
            length += zero;
            target[length++] = Escape;
            target[length++] = EscapedZero;
            userKey = userKey[(zero + 1)..];
        }
    }
}
