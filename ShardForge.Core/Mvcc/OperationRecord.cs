using System.Buffers.Binary;

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
/// operation | version 1 | flags 1 | timestamp 8 | written 8 |                    little-endian
///   flags      bit 0 IsCommitted; bits 1-7 must be 0
///   timestamp  of the commit; 0: aborted, or a mark
///   written    an oracle timestamp of when it was written: the horizon is counted from it
/// </code>
/// Versions of the format: 1 (this one).</remarks>
internal readonly record struct OperationRecord(bool IsCommitted, Timestamp Timestamp, Timestamp Written)
{
    public const int Bytes = 18;

    private const byte Version = 1, CommittedFlag = 1;

    public void Write(Span<byte> target)
    {
        target[0] = Version;
        target[1] = IsCommitted ? CommittedFlag : (byte)0;
        BinaryPrimitives.WriteUInt64LittleEndian(target[2..], Timestamp.Value);
        BinaryPrimitives.WriteUInt64LittleEndian(target[10..], Written.Value);
    }

    /// <exception cref="InvalidDataException">Not what <see cref="Write"/> writes.</exception>
    public static OperationRecord Read(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != Bytes || bytes[0] != Version || (bytes[1] & ~CommittedFlag) != 0)
            throw new InvalidDataException($"An operation's record of {bytes.Length} bytes and version {(bytes.IsEmpty ? 0 : bytes[0])}; this build reads {Bytes} bytes of version {Version}.");
        return new(bytes[1] == CommittedFlag, new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[2..])), new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[10..])));
    }
}
