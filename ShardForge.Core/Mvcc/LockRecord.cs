using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Mvcc;

/// <summary>A prewritten key of an undecided transaction (R14): what lies in the space of locks.</summary>
/// <remarks><code>
/// lock | version 1 | flags 1 | minimum commit timestamp 8 | transaction id 16 | start 8 | primary length varint | primary |
///      | others count varint | (length varint | key)... | value length varint | value |                          little-endian
///   flags  bit 0 IsExplicit (R16), bit 1 IsDelete: no value; bits 2-7 must be 0
///   minimum commit timestamp  M of R06 for this key; never changes
///   start   the transaction's age: the first oracle timestamp of its call, kept when it is run again (R20)
///   others  the transaction's other keys, in the primary's lock only
/// </code>
/// Versions of the format: 1 (this one).</remarks>
internal sealed record LockRecord
{
    private const byte Version = 1, ExplicitFlag = 1, DeleteFlag = 2;
    private const int FixedBytes = 1 + 1 + 8 + OperationId.Bytes + 8;

    /// <summary>M: the transaction commits at this or above.</summary>
    public required Timestamp MinimumCommit { get; init; }

    public required OperationId Transaction { get; init; }

    /// <summary>The transaction's age (R20): the first oracle timestamp of its call, over all of its runs.</summary>
    public required Timestamp Start { get; init; }

    /// <summary>The key at which the transaction is decided.</summary>
    public required byte[] Primary { get; init; }

    /// <summary>The transaction's other keys; empty in every lock but the primary's.</summary>
    public IReadOnlyList<byte[]> Others { get; init; } = [];

    /// <summary>Never inferred as committed (R16).</summary>
    public bool IsExplicit { get; init; }

    /// <summary>What the key will hold; null: it will be deleted.</summary>
    public byte[]? Value { get; init; }

    /// <summary>What others need to know of it.</summary>
    public LockRecord WithoutValue() => Value is null or { Length: 0 } ? this : this with { Value = [] };

    /// <summary>R20: the older one may wait for the other. No two transactions are the same age.</summary>
    public static bool IsOlder(Timestamp start, OperationId id, LockRecord other) =>
        start != other.Start ? start < other.Start : (id.High, id.Low).CompareTo((other.Transaction.High, other.Transaction.Low)) < 0;

    public byte[] Encode()
    {
        int bytes = FixedBytes + Sized(Primary) + Varint.Length((ulong)Others.Count) + Sized(Value ?? []);
        foreach (byte[] other in Others)
            bytes += Sized(other);
        byte[] target = new byte[bytes];
        target[0] = Version;
        target[1] = (byte)((IsExplicit ? ExplicitFlag : 0) | (Value is null ? DeleteFlag : 0));
        BinaryPrimitives.WriteUInt64LittleEndian(target.AsSpan(2), MinimumCommit.Value);
        BinaryPrimitives.WriteUInt64LittleEndian(target.AsSpan(10), Transaction.High);
        BinaryPrimitives.WriteUInt64LittleEndian(target.AsSpan(18), Transaction.Low);
        BinaryPrimitives.WriteUInt64LittleEndian(target.AsSpan(26), Start.Value);
        Span<byte> rest = target.AsSpan(FixedBytes);
        Write(ref rest, Primary);
        rest = rest[Varint.Write(rest, (uint)Others.Count)..];
        foreach (byte[] other in Others)
            Write(ref rest, other);
        Write(ref rest, Value ?? []);
        Invariant.Check(rest.IsEmpty);
        return target;
    }

    /// <exception cref="InvalidDataException">Not what <see cref="Encode"/> writes.</exception>
    public static LockRecord Decode(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length < FixedBytes)
            throw new InvalidDataException($"A lock of {bytes.Length} bytes; at least {FixedBytes} are needed.");
        if (bytes[0] != Version || (bytes[1] & ~(ExplicitFlag | DeleteFlag)) != 0)
            throw new InvalidDataException($"A lock of version {bytes[0]} with flags 0x{bytes[1]:X2}; this build reads version {Version}.");
        ReadOnlySpan<byte> rest = bytes[FixedBytes..];
        byte[] primary = Read(ref rest);
        if (!Varint.TryRead(rest, out uint count, out int countBytes) || count > rest.Length)
            throw new InvalidDataException("A lock ends inside its list of keys.");
        rest = rest[countBytes..];
        byte[][] others = count == 0 ? [] : new byte[count][];
        for (int i = 0; i < others.Length; i++)
            others[i] = Read(ref rest);
        byte[] value = Read(ref rest);
        bool isDelete = (bytes[1] & DeleteFlag) != 0;
        if (!rest.IsEmpty || (isDelete && value.Length > 0))
            throw new InvalidDataException($"{rest.Length + (isDelete ? value.Length : 0)} bytes too many in a lock.");
        return new LockRecord
        {
            MinimumCommit = new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[2..])),
            Transaction = new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[10..]), BinaryPrimitives.ReadUInt64LittleEndian(bytes[18..])),
            Start = new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[26..])),
            Primary = primary,
            Others = others,
            IsExplicit = (bytes[1] & ExplicitFlag) != 0,
            Value = isDelete ? null : value,
        };
    }

    /// <summary>Reads M alone.</summary>
    public static Timestamp ReadMinimumCommit(ReadOnlySpan<byte> bytes) =>
        bytes.Length >= FixedBytes && bytes[0] == Version
            ? new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[2..]))
            : throw new InvalidDataException($"A lock of {bytes.Length} bytes that is not of version {Version}.");

    private static int Sized(byte[] bytes) => Varint.Length((ulong)bytes.Length) + bytes.Length;

    private static void Write(ref Span<byte> target, byte[] bytes)
    {
        target = target[Varint.Write(target, (uint)bytes.Length)..];
        bytes.CopyTo(target);
        target = target[bytes.Length..];
    }

    private static byte[] Read(ref ReadOnlySpan<byte> source)
    {
        if (!Varint.TryRead(source, out uint length, out int lengthBytes) || length > source.Length - lengthBytes)
            throw new InvalidDataException("A lock ends inside a key or value.");
        byte[] bytes = source.Slice(lengthBytes, (int)length).ToArray();
        source = source[(lengthBytes + (int)length)..];
        return bytes;
    }
}
