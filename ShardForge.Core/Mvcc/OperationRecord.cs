using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Mvcc;

/// <summary>What lies in the space of operations, under a user key and an operation id. Part of the key, so the numbers are for ever.</summary>
internal enum OperationRecordKind : byte
{
    None = 0,

    /// <summary>A prewrite of that transaction at this key may not come any more (R17).</summary>
    Mark = 1,

    /// <summary>The transaction's decision, at its primary key (R15).</summary>
    Decision = 2,

    /// <summary>A request's result, where no version says it (R22).</summary>
    Result = 3,
}

/// <summary>The value of a mark, decision or result. Kept for the horizon (R18).</summary>
/// <remarks><code>
/// operation | version 1 | flags 1 | timestamp 8 | written 8 | others count varint, (length varint, key)... if HasOthers |      little-endian
///   flags      bit 0 IsCommitted, bit 1 HasOthers; bits 2-7 must be 0
///   timestamp  of the commit; 0: aborted, or a mark
///   written    an oracle timestamp of when it was written: the horizon is counted from it
///   others     of a committed decision: the transaction's other keys, whose locks must be gone before the decision may go (R18)
/// </code>
/// Versions of the format: 1 (this one).</remarks>
internal readonly record struct OperationRecord(bool IsCommitted, Timestamp Timestamp, Timestamp Written)
{
    /// <summary>Length without the other keys.</summary>
    public const int Bytes = 18;

    private const byte Version = 1, CommittedFlag = 1, OthersFlag = 2;

    public void Write(Span<byte> target)
    {
        target[0] = Version;
        target[1] = IsCommitted ? CommittedFlag : (byte)0;
        BinaryPrimitives.WriteUInt64LittleEndian(target[2..], Timestamp.Value);
        BinaryPrimitives.WriteUInt64LittleEndian(target[10..], Written.Value);
    }

    /// <summary>As bytes, with the transaction's other keys.</summary>
    public byte[] Encode(IReadOnlyList<byte[]> others)
    {
        int bytes = Bytes;
        if (others.Count > 0)
        {
            bytes += Varint.Length((ulong)others.Count);
            foreach (byte[] other in others)
                bytes += Varint.Length((ulong)other.Length) + other.Length;
        }

        byte[] target = new byte[bytes];
        Write(target);
        if (others.Count == 0)
            return target;
        target[1] |= OthersFlag;
        int at = Bytes + Varint.Write(target.AsSpan(Bytes), (uint)others.Count);
        foreach (byte[] other in others)
        {
            at += Varint.Write(target.AsSpan(at), (uint)other.Length);
            other.CopyTo(target, at);
            at += other.Length;
        }

        Invariant.Check(at == bytes);
        return target;
    }

    /// <exception cref="InvalidDataException">Not what <see cref="Write"/> or <see cref="Encode"/> writes.</exception>
    public static OperationRecord Read(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length < Bytes || bytes[0] != Version || (bytes[1] & ~(CommittedFlag | OthersFlag)) != 0 || (bytes.Length > Bytes) != ((bytes[1] & OthersFlag) != 0))
            throw new InvalidDataException($"An operation's record of {bytes.Length} bytes and version {(bytes.IsEmpty ? 0 : bytes[0])}; this build reads {Bytes} bytes of version {Version}.");
        return new((bytes[1] & CommittedFlag) != 0, new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[2..])), new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[10..])));
    }

    /// <summary>The other keys of a decision's transaction.</summary>
    /// <exception cref="InvalidDataException">Not what <see cref="Encode"/> writes.</exception>
    public static byte[][] ReadOthers(ReadOnlySpan<byte> bytes)
    {
        _ = Read(bytes);
        if (bytes.Length == Bytes)
            return [];
        ReadOnlySpan<byte> rest = bytes[Bytes..];
        if (!Varint.TryRead(rest, out uint count, out int countBytes) || count == 0 || count > rest.Length)
            throw new InvalidDataException("An operation's record ends inside its list of keys.");
        rest = rest[countBytes..];
        byte[][] others = new byte[count][];
        for (int i = 0; i < others.Length; i++)
        {
            if (!Varint.TryRead(rest, out uint length, out int lengthBytes) || length > rest.Length - lengthBytes)
                throw new InvalidDataException("An operation's record ends inside a key.");
            others[i] = rest.Slice(lengthBytes, (int)length).ToArray();
            rest = rest[(lengthBytes + (int)length)..];
        }

        return rest.IsEmpty ? others : throw new InvalidDataException($"{rest.Length} bytes too many in an operation's record.");
    }
}
