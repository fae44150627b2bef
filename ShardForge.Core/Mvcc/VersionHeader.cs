using System.Buffers.Binary;

namespace ShardForge.Mvcc;

/// <summary>What a version's value starts with in the engine; the user's bytes follow.</summary>
/// <remarks><code>
/// version | flags 1 | expiry 8 if HasExpiry | operation id 16 if HasOperation | value, or a reference to it if IsReference |
///   flags   bit 0 IsDeleted: a delete marker, nothing follows the header
///           bit 1 HasExpiry: from this timestamp on the version reads as deleted (R27)
///           bit 2 HasOperation: the request or transaction that wrote it (R15, R22)
///           bit 3 IsReference: the value lies elsewhere; reserved for large values, this build refuses it
///           bits 4-7 must be 0
/// </code>
/// Little-endian. Versions of the format: 1 (this one); a newer one sets a bit that this one refuses.</remarks>
internal readonly record struct VersionHeader
{
    private const byte DeletedFlag = 1, ExpiryFlag = 2, OperationFlag = 4, ReferenceFlag = 8, KnownFlags = DeletedFlag | ExpiryFlag | OperationFlag;

    /// <summary>Longest header.</summary>
    public const int BytesMax = 1 + sizeof(ulong) + OperationId.Bytes;

    /// <summary>The key is absent as of this version.</summary>
    public bool IsDeleted { get; init; }

    /// <summary>From here on the version reads as deleted; zero: never.</summary>
    public Timestamp Expiry { get; init; }

    /// <summary>Who wrote it; none: not kept.</summary>
    public OperationId Operation { get; init; }

    /// <summary>Whether the key has a value as of a timestamp at or above the version's (R27).</summary>
    public bool IsPresentAt(Timestamp readAt) => !IsDeleted && (Expiry.IsZero || readAt < Expiry);

    public int Bytes => 1 + (Expiry.IsZero ? 0 : sizeof(ulong)) + (Operation.IsNone ? 0 : OperationId.Bytes);

    /// <returns>Bytes written.</returns>
    public int Write(Span<byte> target)
    {
        target[0] = (byte)((IsDeleted ? DeletedFlag : 0) | (Expiry.IsZero ? 0 : ExpiryFlag) | (Operation.IsNone ? 0 : OperationFlag));
        int at = 1;
        if (!Expiry.IsZero)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(target[at..], Expiry.Value);
            at += sizeof(ulong);
        }

        if (!Operation.IsNone)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(target[at..], Operation.High);
            BinaryPrimitives.WriteUInt64LittleEndian(target[(at + 8)..], Operation.Low);
            at += OperationId.Bytes;
        }

        return at;
    }

    /// <summary>Reads a header. The engine's checksums passed before, so what does not fit was written by a newer build or by a bug.</summary>
    /// <exception cref="InvalidDataException">Unknown flags, or the bytes end inside the header.</exception>
    public static VersionHeader Read(ReadOnlySpan<byte> version, out int headerBytes)
    {
        if (version.IsEmpty)
            throw new InvalidDataException("A version without a header.");
        byte flags = version[0];
        if ((flags & ~KnownFlags) != 0)
            throw new InvalidDataException($"A version with flags 0x{flags:X2}; this build knows 0x{KnownFlags:X2}{((flags & ReferenceFlag) != 0 ? " and no values kept apart" : "")}.");
        headerBytes = 1 + ((flags & ExpiryFlag) != 0 ? sizeof(ulong) : 0) + ((flags & OperationFlag) != 0 ? OperationId.Bytes : 0);
        if (version.Length < headerBytes)
            throw new InvalidDataException($"A version of {version.Length} bytes ends inside its header of {headerBytes}.");
        int at = 1;
        Timestamp expiry = default;
        if ((flags & ExpiryFlag) != 0)
        {
            expiry = new(BinaryPrimitives.ReadUInt64LittleEndian(version[at..]));
            at += sizeof(ulong);
        }

        OperationId operation = default;
        if ((flags & OperationFlag) != 0)
            operation = new(BinaryPrimitives.ReadUInt64LittleEndian(version[at..]), BinaryPrimitives.ReadUInt64LittleEndian(version[(at + 8)..]));
        return new VersionHeader { IsDeleted = (flags & DeletedFlag) != 0, Expiry = expiry, Operation = operation };
    }
}
