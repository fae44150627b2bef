using System.Buffers.Binary;
using ShardForge.Mvcc;

namespace ShardForge.Replication;

/// <summary>What the engine's content covers: written in the same batch as the entries that it counts, so the two never differ.</summary>
/// <remarks><code>
/// key    the replica-local key number 1
/// value  | version 1 | applied index 8 | applied term 8 | limit of history 8 | closed timestamp 8 |          little-endian
/// </code>
/// Versions of the format: 1 (this one).</remarks>
internal readonly record struct ReplicaStateRecord(LogIndex AppliedIndex, Term AppliedTerm, Timestamp HistoryLimit, Timestamp Closed)
{
    public const int Bytes = 33;

    private const byte Version = 1, LocalNumber = 1;

    public static byte[] Key { get; } = MvccKey.Local(LocalNumber);

    public void Write(Span<byte> target)
    {
        target[0] = Version;
        BinaryPrimitives.WriteInt64LittleEndian(target[1..], AppliedIndex.Value);
        BinaryPrimitives.WriteInt64LittleEndian(target[9..], AppliedTerm.Value);
        BinaryPrimitives.WriteUInt64LittleEndian(target[17..], HistoryLimit.Value);
        BinaryPrimitives.WriteUInt64LittleEndian(target[25..], Closed.Value);
    }

    /// <exception cref="InvalidDataException">Not what <see cref="Write"/> writes.</exception>
    public static ReplicaStateRecord Read(ReadOnlySpan<byte> value)
    {
        if (value.Length != Bytes || value[0] != Version)
            throw new InvalidDataException($"A replica's state of {value.Length} bytes and version {(value.IsEmpty ? 0 : value[0])}; this build reads {Bytes} bytes of version {Version}.");
        return new(
            new(BinaryPrimitives.ReadInt64LittleEndian(value[1..])),
            new(BinaryPrimitives.ReadInt64LittleEndian(value[9..])),
            new(BinaryPrimitives.ReadUInt64LittleEndian(value[17..])),
            new(BinaryPrimitives.ReadUInt64LittleEndian(value[25..])));
    }
}
